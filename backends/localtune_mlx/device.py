"""What this machine offers to MLX: Apple's GPU through Metal, an NVIDIA card where MLX is built for CUDA, else the
processor. Loads no model. Sizes are bytes.

Apple's GPU shares the machine's memory. What it may use without pushing others out is what Metal recommends as its
working set.
"""

import os
import platform
from importlib import metadata
from typing import Any

import mlx.core as mx
import psutil

from localtune.backend import Device

LIBRARIES = ("mlx", "mlx-lm")


def probe() -> Device:
    """The device a session would use, with the reason."""
    if mx.metal.is_available():
        return _metal(mx.device_info())
    return _cuda() if on_gpu() else _cpu()


def on_gpu() -> bool:
    """Whether arrays are computed on a GPU."""
    return bool(mx.default_device().type == mx.DeviceType.gpu)


def versions() -> dict[str, str]:
    """Installed versions by library."""
    return {name: metadata.version(name) for name in LIBRARIES if _installed(name)}


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _metal(info: dict[str, Any]) -> Device:
    chip, total = str(info.get("device_name", "Apple GPU")), int(info["memory_size"])
    working = int(info["max_recommended_working_set_size"])
    free = psutil.virtual_memory().available
    limit = min(working, free)
    reason = (
        f"{chip}, {total / 1e9:.0f} GB shared memory, recommended working set {working / 1e9:.1f} GB, "
        f"{free / 1e9:.1f} GB free"
    )
    return Device("mlx", "metal", chip, limit, ("bfloat16", "float32"), versions(), reason)


def _cuda() -> Device:
    info = mx.device_info()
    name = str(info.get("device_name", "NVIDIA GPU"))
    limit = int(info.get("free_memory", info.get("total_memory", info.get("memory_size", 0))))
    reason = f"{name} through MLX's CUDA build, {limit / 1e9:.1f} GB free"
    return Device("mlx", "cuda", name, limit, ("bfloat16", "float32"), versions(), reason)


def _cpu() -> Device:
    reason = "MLX is built without Metal here and computes on the processor, slowly"
    if platform.system() == "Darwin":
        reason = "no Metal device is visible to MLX, so it computes on the processor, slowly"
    return Device(
        backend="mlx",
        kind="cpu",
        name=f"CPU ({os.cpu_count()} threads)",
        memory_limit=psutil.virtual_memory().available,
        dtypes=("float32", "bfloat16"),
        versions=versions(),
        reason=reason,
    )
