"""One writer per run folder, by locks of the operating system: free again the moment their holder is gone.

No clock is asked. The file says who holds it, for a person: process, boot and machine.
"""

import json
import os
import platform
import sys
from pathlib import Path
from types import TracebackType

from localtune.errors import InputError, Problem
from localtune.runs.process import boot_id

SUPERVISOR = "lock"
"""Held by who owns the run."""
WORKER = "worker.lock"
"""Held by who trains it: an orphan keeps others out until it has ended."""

PRODUCTS = "products.lock"
"""Held by who makes something of its product."""


class RunLock:
    """Held while a process owns the run folder; a context manager. Entering raises `InputError` naming the owner."""

    def __init__(self, folder: Path, name: str = SUPERVISOR) -> None:
        self.path = folder / name

    def __enter__(self) -> "RunLock":
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _lock(self._descriptor)
        except OSError:
            os.close(self._descriptor)
            raise InputError(_owned(self.path)) from None
        os.ftruncate(self._descriptor, 0)
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        owner = {"format": 1, "pid": os.getpid(), "boot": boot_id(), "host": platform.node()}
        os.write(self._descriptor, json.dumps(owner).encode())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)


def _owned(path: Path) -> Problem:
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        elsewhere = f" on {said['host']}" if said["host"] != platform.node() else ""
        return owned(path.parent, f"process {said['pid']}{elsewhere}")
    except (OSError, ValueError, KeyError, TypeError):
        return owned(path.parent, "another process")


def owned(folder: Path, owner: str) -> Problem:
    """Why a run cannot be touched now."""
    what = f"this run is owned by {owner}, which is still running"
    fix = f"localtune tail {folder.name}    or   localtune stop {folder.name}"
    return Problem("run.owned", what, where=str(folder), fix=fix)


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        os.lseek(descriptor, 1 << 20, os.SEEK_SET)  # beyond the content, which others read
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
