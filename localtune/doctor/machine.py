"""Python, the system, its memory, and the NVIDIA cards that the driver shows."""

import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from localtune.doctor.finding import Finding

DRIVER = Path("/proc/driver/nvidia")
"""Where the driver shows itself on Linux, also where nvidia-smi is not installed."""
FIELDS = "name,driver_version,compute_cap,memory.total"
SMI_SECONDS = 4.0


@dataclass(frozen=True)
class Card:
    """One NVIDIA card; what could not be read is "" or 0."""

    name: str
    driver: str = ""
    """Version of the driver: "560.35.03"."""
    capability: float = 0.0
    """Compute capability: 8.9."""
    memory: int = 0
    """Bytes."""


def python_and_system() -> Iterator[Finding]:
    """Versions, and how many processors there are."""
    yield Finding("python", "ok", f"{platform.python_implementation()} {platform.python_version()}")
    system = f"{platform.system()} {platform.release()}, {platform.machine()}, {os.cpu_count()} processors"
    yield Finding("system", "ok", system)


def memory() -> Iterator[Finding]:
    """Of the system; what a run may use of a device is said by its backend."""
    import psutil

    found = psutil.virtual_memory()
    yield Finding("memory", "ok", f"{found.available / 1e9:.1f} of {found.total / 1e9:.1f} GB free")


def nvidia() -> Iterator[Finding]:
    """The cards, or a driver that does not answer."""
    found = cards()
    for card in found:
        size = f", {card.memory / 1e9:.1f} GB" if card.memory else ""
        driver = f", driver {card.driver}" if card.driver else ""
        yield Finding("nvidia card", "ok", f"{card.name}{size}{driver}")
    if not found and shutil.which("nvidia-smi"):
        fix = "restart; if it stays so, install the driver again: https://www.nvidia.com/drivers"
        yield Finding("nvidia card", "warning", "nvidia-smi is here but finds no card or no working driver", fix)
    elif not found:
        yield Finding("nvidia card", "missing", "none seen")


def cards() -> list[Card]:
    """What nvidia-smi lists, else the models that the Linux driver shows. Nothing is loaded."""
    program = shutil.which("nvidia-smi")
    said = _ask(program) if program else ""
    return [_card(line) for line in said.splitlines() if line.count(",") >= 3] or _from_driver()


def _ask(program: str) -> str:
    command = [program, f"--query-gpu={FIELDS}", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=SMI_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout if answer.returncode == 0 else ""


def _card(line: str) -> Card:
    """A line of `FIELDS`; memory is in MiB, and "[N/A]" stands for what the card does not tell."""
    name, driver, capability, size = (part.strip() for part in line.rsplit(",", 3))
    return Card(name, driver, _number(capability), int(_number(size)) << 20)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def _from_driver() -> list[Card]:
    found = []
    for file in sorted(DRIVER.glob("gpus/*/information")):
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
        models = [line.partition(":")[2].strip() for line in lines if line.startswith("Model:")]
        found.append(Card(models[0] if models else "an NVIDIA card"))
    return found
