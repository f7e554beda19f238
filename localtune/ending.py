"""How a worker ended, understood: from its exit code, from what it recorded last, and from what the system says."""

import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Literal

from localtune.errors import MachineError, ResourceError
from localtune.events import Failed

Kind = Literal["done", "stopped", "memory", "disk", "device", "crash", "failed"]
DARK = "turn the display off while it trains (pmset displaysleepnow), or use none"
"""With a dark display macOS has no reason to end long work on the GPU (mlx#3267)."""
STOPPED = {130: 130, 143: 143, -signal.SIGINT: 130, -signal.SIGTERM: 143}
"""Exit codes of a worker that was asked to end -> that of the run; negative: before it could heed a signal."""


@dataclass(frozen=True)
class Ending:
    """Why a worker ended."""

    kind: Kind
    code: int
    """Exit code of the run, should it stay at that."""
    said: str = ""
    """In words, behind "the training process "."""
    mend: str = ""
    """What avoids it: "" or words that lead over to a command."""
    recorded: bool = False
    """The worker recorded it itself."""


def understand(
    code: int, failed: Failed | None, device: str, *, memory_ran_out: bool | None, disk_full: bool
) -> Ending:
    """The ending with exit code `code` (negative: the number of a signal).

    `failed` is what the worker recorded last; `device` the kind of the device, "" for unknown; `memory_ran_out` what
    the system says of the time the worker ran, None where it says nothing.
    """
    said, mend = explain(code, device)
    ending = Ending("failed", code, said, mend, recorded=failed is not None)
    name = failed.code if failed else ""
    if code == 0:
        return Ending("done", 0)
    if code in STOPPED:
        return Ending("stopped", STOPPED[code])
    if code == ResourceError.exit_code and name.startswith("memory."):
        return replace(ending, kind="memory")
    if code == ResourceError.exit_code and ("disk" in name or (not failed and disk_full)):
        return replace(ending, kind="disk")
    if code == MachineError.exit_code and name == "device.lost":
        return replace(ending, kind="device")
    if code == -getattr(signal, "SIGKILL", 9) and memory_ran_out is not False:
        return replace(ending, kind="memory")
    return ending if failed else replace(ending, kind="crash")  # a worker records whatever it ends with by itself


def heed(receive: Callable[[int, FrameType | None], None]) -> None:
    """From now on every signal that asks this process to end calls `receive`; a closed terminal asks for nothing."""
    for name in ("SIGTERM", "SIGINT", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), receive)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


def stop_code(number: int | None) -> int:
    """Exit code of what was asked to stop, by the signal `number` or otherwise: 143 for SIGTERM, else 130."""
    return 143 if number == signal.SIGTERM else 130


def explain(code: int, device: str = "") -> tuple[str, str]:
    """How a process ended, in words, from its exit code (negative: the number of the signal), and what avoids it."""
    if code >= 0:
        return f"ended with code {code}", ""
    name = signal.Signals(-code).name if -code in signal.valid_signals() else f"signal {-code}"
    if name == "SIGABRT" and device == "metal":
        what = "macOS most likely ended its work on the GPU, which held up the display for too long"
        return f"ended with SIGABRT: {what}", f"{DARK}, then go on from the last checkpoint:  "
    likely = {"SIGKILL": ": killed, most often because memory ran out", "SIGABRT": ": aborted by a library or driver"}
    return f"ended with {name}{likely.get(name, '')}", ""


def memory_kills(vmstat: Path = Path("/proc/vmstat"), system: str = sys.platform) -> int | None:
    """How many processes Linux has ended so far because memory ran out; None where that is not to be read."""
    if system != "linux":
        return None
    try:
        lines = vmstat.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    counts = [line.split()[1] for line in lines if line.startswith("oom_kill ")]
    return int(counts[0]) if counts else None
