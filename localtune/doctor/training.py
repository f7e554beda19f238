"""What can train here: each backend in a process of its own, the wheel that fits the card, and QLoRA.

Which PyTorch wheel serves which card is the CUDA support matrix in RELEASE.md of pytorch/pytorch, for 2.12 to 2.14:
CUDA 12.6 has compute capability 5.0 to 9.0; 13.0, and 12.8 while there was one, has 7.5 and up. CUDA 13 asks for
driver 580.
"""

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

from localtune.doctor.finding import Finding
from localtune.doctor.machine import Card, cards
from localtune.doctor.packages import install, optional, pip, this_python

if TYPE_CHECKING:
    from localtune.backend import Device

PROBE_SECONDS = 60.0
"""A first import of torch from a slow disk under a virus scanner takes most of a minute."""
CUDA_13_DRIVER = 580
CUDA_13_CAPABILITY = 7.5
BLACKWELL_CAPABILITY = 10.0


def backends() -> Iterator[Finding]:
    """Each backend with its device and memory limit. Needed is one; the others may be missing."""
    from localtune.backend import BACKENDS
    from localtune.probe import Probe

    with ExitStack() as stack:
        probes = [stack.enter_context(Probe(name, PROBE_SECONDS)) for name in BACKENDS]
        devices = [probe.device for probe in probes]
    none_works = all(device.kind == "none" for device in devices)
    for device in devices:
        yield _unusable(device, needed=none_works) if device.kind == "none" else _usable(device)


def qlora() -> Iterator[Finding]:
    """bitsandbytes, without which PyTorch does not store a base in 4 bit; MLX does so by itself."""
    without = "train.method=qlora is refused with PyTorch; with MLX it is not, nor are lora and full"
    yield optional("qlora", "bitsandbytes", "stores a base in 4 bit for PyTorch", without)


def wheel(card: Card) -> str:
    """The CUDA build of PyTorch for `card` and its driver: "cu126" or "cu130"."""
    if card.capability >= BLACKWELL_CAPABILITY:
        return "cu130"
    old = 0 < card.capability < CUDA_13_CAPABILITY
    return "cu126" if old or _driver(card) < CUDA_13_DRIVER else "cu130"


def _unusable(device: "Device", *, needed: bool) -> Finding:
    """Where another backend works, one that is not installed is no fault: it has no command that mends it."""
    from localtune.backend import in_order, installation

    fix = f"{this_python()} -m localtune.probe {device.backend}   shows where it ends"
    if "not installed" in device.reason:
        asked = installation(device.backend)
        fix = pip(asked.removeprefix("pip ").replace("'", '"')) if asked.startswith("pip ") else asked
        fix = fix if needed or device.backend == in_order()[0] else ""
    return Finding(device.backend, "missing", device.reason, fix, needed=needed)


def _usable(device: "Device") -> Finding:
    version = device.versions.get(device.backend, "")
    text = f"{device.name}, {device.memory_limit / 1e9:.1f} GB for a run, computes in {device.dtypes[0]}"
    text += f", {device.backend} {version}" if version else ""
    card = next(iter(cards()), None) if device.backend == "torch" else None
    if card is not None and device.kind == "cpu":
        reason, _, _ = device.reason.partition(";")
        text += f"; {card.name} is not used: {reason}"
        return _mended_by(_use(card, device), card, text)
    if card is not None and device.kind == "cuda" and _lacks(card, version):
        text += f"; that build has no code for compute capability {card.capability:g} of {card.name}"
        return _mended_by(_install_torch(card), card, text)
    return Finding(device.backend, "ok", text)


def _mended_by(fix: str, card: Card, text: str) -> Finding:
    if "whl/cu13" in fix and 0 < _driver(card) < CUDA_13_DRIVER:
        text += f"; the build for it needs driver {CUDA_13_DRIVER} or newer, this is {card.driver}"
    return Finding("torch", "warning", text, fix)


def _use(card: Card, device: "Device") -> str:
    """What makes torch see a card that the driver shows."""
    if "without CUDA" in device.reason:
        return _install_torch(card)
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return "unset CUDA_VISIBLE_DEVICES"
    if wheel(card) == "cu126":
        return _install_torch(card)
    return "restart; if it stays so, install the driver again: https://www.nvidia.com/drivers"


def _install_torch(card: Card) -> str:
    """`--upgrade`, since without it pip leaves a build of the same version number as it is."""
    return f"{install('torch')} --upgrade --index-url https://download.pytorch.org/whl/{wheel(card)}"


def _lacks(card: Card, version: str) -> bool:
    """Whether that version, "2.13.0+cu126", holds no code for `card`; one without a build is PyPI's, of CUDA 13."""
    if not card.capability or not re.fullmatch(r"[\d.]+(\+cu\d+)?", version):
        return False
    if version.endswith("+cu126"):
        return card.capability >= BLACKWELL_CAPABILITY
    return card.capability < CUDA_13_CAPABILITY


def _driver(card: Card) -> int:
    return int(re.sub(r"\D.*", "", card.driver) or 0)
