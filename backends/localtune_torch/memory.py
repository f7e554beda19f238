"""Memory as the machine counts it, and running out of it, or losing the device, as errors that say what to do. Bytes.

CUDA: the most that PyTorch's allocator held of the card since the session was opened (`max_memory_reserved`). That is
what a limit is enforced on and what no other program could use: live tensors, the gaps between them, and blocks kept
for reuse, so a run that fits with this figure fits again; under pressure it may get by with less. The CUDA context,
loaded kernels and other programs are not in it (some hundred MB). `max_memory_allocated` would count live tensors
alone and leave the gaps out.
CPU: the peak resident size of the process over its lifetime (ru_maxrss), libraries included. It never falls, so it also
holds whatever came before the session; a run has a process of its own.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import torch

from localtune.backend import device_lost
from localtune.errors import Problem, ResourceError
from localtune.resident import resident_peak

SMALLER = "--set train.rows=1, then --set train.checkpointing=blocks, then a smaller data.max_tokens"

OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "CUBLAS_STATUS_ALLOC_FAILED")
LOST = ("CUDA error", "CUBLAS_STATUS_EXECUTION_FAILED", "CUDNN_STATUS_EXECUTION_FAILED")
"""In errors after which the process can compute nothing more on its card."""


def reset_peak(device: torch.device) -> None:
    """Start counting, without what earlier sessions left for reuse; the CPU's peak cannot be reset."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def peak_bytes(device: torch.device) -> int:
    """The peak so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    return resident_peak()


@contextmanager
def within(device: torch.device, limit: int) -> Iterator[None]:
    """Hold the allocator of a card to `limit` bytes, 0 = all of it; a CPU has no such bound."""
    if device.type != "cuda" or limit <= 0:
        yield
        return
    total = torch.cuda.mem_get_info(device)[1]
    torch.cuda.set_per_process_memory_fraction(min(1.0, limit / total), device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)


@contextmanager
def memory_or_error(device: torch.device, doing: str) -> Iterator[None]:
    """Turn running out of memory while `doing` into a `ResourceError` with the numbers, and a lost card into
    a `MachineError` (code device.lost)."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise _out_of_memory(device, doing, error) from None
    except RuntimeError as error:
        said = str(error)
        if any(words in said for words in OUT_OF_MEMORY):
            raise _out_of_memory(device, doing, error) from None
        if isinstance(error, torch.AcceleratorError) or any(words in said for words in LOST):
            raise device_lost(str(device), doing, said) from None
        raise


def _out_of_memory(device: torch.device, doing: str, error: BaseException) -> ResourceError:
    share = 1.0
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        share = torch.cuda.get_per_process_memory_fraction(device)
        torch.cuda.empty_cache()
    else:
        free, total = psutil.virtual_memory().available, psutil.virtual_memory().total
    what = f"out of memory while {doing}: {free / 1e9:.1f} of {total / 1e9:.1f} GB free on {device}"
    fix = SMALLER
    if share < 1:
        what += f", and this run may use {share * total / 1e9:.1f} GB in all"
        fix += ", or a larger train.memory_limit"
    evidence = f"peak so far {peak_bytes(device) / 1e9:.1f} GB; {str(error).splitlines()[0] if str(error) else ''}"
    return ResourceError(Problem("memory.exhausted", what, evidence=evidence.rstrip("; "), fix=fix))
