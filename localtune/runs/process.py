"""Telling a live process from one whose number was used again, also where the clock was set meanwhile.

A process is its pid, the boot of the machine it belongs to, and when it began: under Linux by the system's own count
since the boot, which no clock moves; elsewhere by the time the system wrote down at its start.
"""

import os
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil

_START = 22
"""Field of /proc/PID/stat: clock ticks from the boot to the start of the process (proc(5))."""


@dataclass(frozen=True)
class ProcessId:
    """A process of this machine."""

    pid: int
    started: float
    """Seconds: since the boot under Linux, since 1970 elsewhere."""
    boot: str = ""
    """What `boot_id` said; "" = not known."""

    @property
    def alive(self) -> bool:
        """Whether this very process still runs."""
        try:
            process = psutil.Process(self.pid)
            same = abs(_started(process) - self.started) < 1.0 and self.boot in ("", boot_id())
            return same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False

    @property
    def began(self) -> float:
        """Seconds since 1970, by today's clock; 0 when it is gone."""
        try:
            return psutil.Process(self.pid).create_time() if self.alive else 0.0
        except psutil.Error:
            return 0.0


def process_id(pid: int | None = None) -> ProcessId:
    """The process `pid`, or this one. Raises `psutil.NoSuchProcess`."""
    process = psutil.Process(pid)
    return ProcessId(process.pid, _started(process), boot_id())


@cache
def boot_id() -> str:
    """Names the time since the machine was switched on; "" where the system has no such name."""
    path = Path("/proc/sys/kernel/random/boot_id")
    try:
        return path.read_text(encoding="ascii").strip() if sys.platform == "linux" else ""
    except OSError:
        return ""


def _started(process: psutil.Process) -> float:
    if sys.platform != "linux":
        return process.create_time()
    try:
        text = Path(f"/proc/{process.pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        raise psutil.NoSuchProcess(process.pid) from None
    behind_name = text.rpartition(")")[2].split()  # the name may hold anything, blanks and brackets too
    return int(behind_name[_START - 3]) / os.sysconf("SC_CLK_TCK")
