"""Memory as the machine counts it, and running out of it, or losing the device, as errors that say what to do. Bytes.

GPU: the most that MLX's arrays held since the session was opened (`mx.get_peak_memory`); buffers kept for reuse are
bounded beside it and not in it. CPU: the peak resident size of the process over its lifetime, libraries included. It
never falls; a run has a process of its own.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import mlx.core as mx
import psutil

from localtune.backend import device_lost
from localtune.errors import Problem, ResourceError
from localtune.resident import resident_peak
from localtune_mlx.device import on_gpu

SMALLER = "--set train.rows=1, then --set train.checkpointing=blocks, then a smaller data.max_tokens"
CACHE_PART = 8
"""On a GPU, buffers kept for reuse may take one part in so many of the limit: batches of many lengths would keep them
all. On a processor none are kept: there they would be part of the peak, and getting memory is cheap."""

LOST = ("Command buffer execution failed", "CUDA error", "cudaError")
"""In errors of MLX after which the process should compute nothing more."""


def reset_peak() -> None:
    """Start counting; the CPU's peak cannot be reset."""
    mx.clear_cache()
    mx.reset_peak_memory()


def peak_bytes() -> int:
    """The peak so far."""
    if on_gpu():
        return int(mx.get_peak_memory())
    return resident_peak()


@contextmanager
def within(limit: int) -> Iterator[None]:
    """Hold MLX to `limit` bytes, 0 = its own defaults; on Apple's GPU that much stays wired while the session lives."""
    if limit <= 0:
        yield
        return
    memory, cache = mx.set_memory_limit(limit), mx.set_cache_limit(limit // CACHE_PART if on_gpu() else 0)
    wired = mx.set_wired_limit(min(limit, _working_set())) if mx.metal.is_available() else None
    try:
        yield
    finally:
        mx.set_memory_limit(memory)
        mx.set_cache_limit(cache)
        if wired is not None:
            mx.set_wired_limit(wired)


@contextmanager
def memory_or_error(doing: str) -> Iterator[None]:
    """Turn running out of memory while `doing` into a `ResourceError` with the numbers, and a GPU that ended our work
    into a `MachineError` (code device.lost)."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        said = str(error)
        if isinstance(error, MemoryError) or tells_of_memory(said):
            raise _out_of_memory(doing, said) from None
        if any(words in said for words in LOST):
            raise device_lost("the GPU", doing, said) from None
        raise


def tells_of_memory(said: str) -> bool:
    """Whether an error of MLX that `said` this is one of memory."""
    return any(words in said for words in ("malloc", "Unable to allocate", "Insufficient Memory", "out of memory"))


def _working_set() -> int:
    return int(mx.device_info()["max_recommended_working_set_size"])


def _out_of_memory(doing: str, said: str) -> ResourceError:
    mx.clear_cache()
    memory = psutil.virtual_memory()
    what = f"out of memory while {doing}: {memory.available / 1e9:.1f} of {memory.total / 1e9:.1f} GB free"
    evidence = f"peak so far {peak_bytes() / 1e9:.1f} GB; {said.splitlines()[0] if said else ''}"
    return ResourceError(Problem("memory.exhausted", what, evidence=evidence.rstrip("; "), fix=SMALLER))
