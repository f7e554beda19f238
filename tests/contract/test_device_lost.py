"""A device that ended our work is told from a fault of ours, and from memory that ran out."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from localtune.errors import MachineError, ResourceError

Guard = Callable[[str], AbstractContextManager[None]]


def _torch() -> Guard:
    import torch
    from localtune_torch.memory import memory_or_error

    return lambda doing: memory_or_error(torch.device("cpu"), doing)


def _mlx() -> Guard:
    pytest.importorskip("mlx.core")
    from localtune_mlx.memory import memory_or_error

    return memory_or_error


CASES = [
    (_torch, "CUDA error: unspecified launch failure", MachineError),
    (_torch, "CUDA error: an illegal memory access was encountered", MachineError),
    (_torch, "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`", MachineError),
    (_torch, "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", ResourceError),
    (_torch, "CUDA error: out of memory", ResourceError),
    (_torch, "mat1 and mat2 shapes cannot be multiplied", RuntimeError),
    (_mlx, "[METAL] Command buffer execution failed: Caused GPU Timeout Error (00000002)", MachineError),
    (_mlx, "[METAL] Command buffer execution failed: Insufficient Memory (00000008)", ResourceError),
    (_mlx, "cudaError: device lost", MachineError),
    (_mlx, "[matmul] Last dimension of first input", RuntimeError),
]


@pytest.mark.parametrize(("guard", "said", "raised"), CASES)
def test_an_error_is_a_lost_device_memory_or_a_fault(
    guard: Callable[[], Guard], said: str, raised: type[Exception]
) -> None:
    with pytest.raises(raised) as caught, guard()("training"):
        raise RuntimeError(said)
    assert type(caught.value) is raised
    if raised is MachineError:
        assert "device.lost" in str(caught.value)
        assert "was lost while training" in str(caught.value)


def test_an_error_of_the_accelerator_is_a_lost_device_whatever_it_says() -> None:
    import torch

    with pytest.raises(MachineError, match=r"device\.lost"), _torch()("scoring"):
        raise torch.AcceleratorError("unknown error")
