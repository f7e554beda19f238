"""What this machine offers to PyTorch: an NVIDIA card if torch sees one, else the processor. Loads no model.

Nothing is measured: the order of the compute types is what the hardware has instructions for. Sizes are bytes.
"""

import os
import platform
import sys
from importlib import metadata

import psutil
import torch

from localtune.backend import Device

LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes")


def probe() -> Device:
    """The device a session would use, with the reason."""
    return _cuda() if torch.cuda.is_available() else _cpu()


def compute_device() -> torch.device:
    """The device of `probe` for tensors."""
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


def versions() -> dict[str, str]:
    """Installed versions by library; a missing one is absent."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _cuda() -> Device:
    free, total = torch.cuda.mem_get_info()
    major, minor = torch.cuda.get_device_capability()
    name = torch.cuda.get_device_name()
    reason = f"{name}, compute capability {major}.{minor}, {free / 1e9:.1f} of {total / 1e9:.1f} GB free"
    if major < 8:
        reason += "; it has no bfloat16, so it computes in float32"
    return Device(
        backend="torch",
        kind="cuda",
        name=name,
        memory_limit=free,
        dtypes=("bfloat16", "float32") if major >= 8 else ("float32",),
        versions=versions(),
        reason=reason,
    )


def _cpu() -> Device:
    fast = _cpu_has_bfloat16()
    return Device(
        backend="torch",
        kind="cpu",
        name=f"CPU ({os.cpu_count()} threads)",
        memory_limit=psutil.virtual_memory().available,
        dtypes=("bfloat16", "float32") if fast else ("float32", "bfloat16"),
        versions=versions(),
        reason=_why_not_cuda() + ("; the CPU has bfloat16 instructions" if fast else ""),
    )


def _cpu_has_bfloat16() -> bool:
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    tests = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(bool(getattr(torch.cpu, name, lambda: False)()) for name in tests)


def _why_not_cuda() -> str:
    if sys.platform == "darwin":
        return f"torch {torch.__version__} on a Mac computes on the CPU here: Metal through torch (MPS) is not used"
    if torch.version.cuda is None:
        reason = f"torch {torch.__version__} is built without CUDA"
        build = "; localtune doctor  says which build suits an NVIDIA card"
        return reason + build if sys.platform == "win32" else reason
    return f"no CUDA device is visible to torch {torch.__version__}"
