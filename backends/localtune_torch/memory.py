"""Memory as the machine counts it, and running out of it as an error that says what to change. Bytes.

CUDA: the allocator's peak since the session was opened, exact for tensors; the context and the kernels are not in it.
CPU: the peak resident size of the whole process since it started, libraries included.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import torch

from localtune.errors import Problem, ResourceError

SMALLER = "--set train.rows=1, then --set train.checkpointing=blocks, then a smaller data.max_tokens"


def reset_peak(device: torch.device) -> None:
    """Start counting; the CPU's peak cannot be reset."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_bytes(device: torch.device) -> int:
    """The peak so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


@contextmanager
def memory_or_error(device: torch.device, doing: str) -> Iterator[None]:
    """Turn running out of memory while `doing` into a `ResourceError` with the numbers."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise _out_of_memory(device, doing, error) from None
    except RuntimeError as error:
        if "can't allocate memory" not in str(error) and "not enough memory" not in str(error):
            raise
        raise _out_of_memory(device, doing, error) from None


def _out_of_memory(device: torch.device, doing: str, error: BaseException) -> ResourceError:
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        torch.cuda.empty_cache()
    else:
        free, total = psutil.virtual_memory().available, psutil.virtual_memory().total
    what = f"out of memory while {doing}: {free / 1e9:.1f} of {total / 1e9:.1f} GB free on {device}"
    evidence = f"peak so far {peak_bytes(device) / 1e9:.1f} GB; {str(error).splitlines()[0] if str(error) else ''}"
    return ResourceError(Problem("memory.exhausted", what, evidence=evidence.rstrip("; "), fix=SMALLER))
