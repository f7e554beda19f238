"""Telling a live process from one whose number was used again: a process is its pid and its start time."""

from dataclasses import dataclass

import psutil


@dataclass(frozen=True)
class ProcessId:
    """A process of this machine."""

    pid: int
    started: float
    """Seconds since 1970, as the system reports it."""

    @property
    def alive(self) -> bool:
        """Whether this very process still runs."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < 1.0
            return same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False


def process_id(pid: int | None = None) -> ProcessId:
    """The process `pid`, or this one. Raises `psutil.NoSuchProcess`."""
    process = psutil.Process(pid)
    return ProcessId(process.pid, process.create_time())
