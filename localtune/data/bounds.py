"""Bounds for a chat template while it renders: it is a program of a stranger's, may never end, and may want all memory.

`Limits` is for a process that may die of them. A rendering that takes longer than `SECONDS` ends the process,
whatever the template is doing and whether or not it lets other threads run; the place of the row that is being
rendered stands in a file that outlives it. Where the system can (Linux), memory beyond `MEMORY` more than what was
held when the row began is refused as `MemoryError`; elsewhere another process has to watch. Time is exact to `SLACK`,
which is added.
"""

import faulthandler
import os
import sys
import time
from io import BufferedWriter
from typing import Protocol

from localtune.data.rows import Place

SECONDS = 2.0
MEMORY = 256 * 1024**2
SLACK = 0.25
"""Arming the timer is costly, so it is done anew only after this many seconds."""
NOWHERE = -1
"""What stands for a row without a file."""
ENFORCED = sys.platform == "linux"
"""This system refuses memory by itself."""


class Bounds(Protocol):
    """What rendering may take."""

    def __enter__(self) -> object:
        """Rows are rendered from here on."""

    def __exit__(self, *_: object) -> None:
        """Rendering is over."""

    def row(self, place: Place) -> None:
        """The row at `place` comes next."""

    def again(self) -> None:
        """The same row is rendered once more."""


class Unbounded:
    """Rendering may take what it takes."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None

    def row(self, place: Place) -> None:
        """Nothing happens."""

    def again(self) -> None:
        """Nothing happens."""


class Limits:
    """A row may take `MEMORY`, or gets a `MemoryError`; a rendering `SECONDS`, or this process ends with code 1."""

    def __init__(self, progress: int) -> None:
        """`progress`: a descriptor of a file whose first eight bytes say which row is being rendered; 0 = none."""
        self._progress = progress
        self._nowhere: BufferedWriter = open(os.devnull, "wb")  # noqa: SIM115
        self._armed = 0.0
        self._memory = _Memory() if ENFORCED else None

    def __enter__(self) -> None:
        self._say(NOWHERE)
        self._arm()
        if self._memory:
            self._memory.limit()

    def __exit__(self, *_: object) -> None:
        if self._memory:
            self._memory.restore()
        faulthandler.cancel_dump_traceback_later()
        self._say(0)

    def row(self, place: Place) -> None:
        """Time and memory are counted anew for the row at `place`."""
        self._say(place.id or NOWHERE)
        if self._memory:
            self._memory.limit()
        self.again()

    def again(self) -> None:
        """Time is counted anew for one more rendering: a conversation of many answers is rendered for each."""
        if time.monotonic() - self._armed > SLACK:
            self._arm()

    def _arm(self) -> None:
        try:
            faulthandler.dump_traceback_later(SECONDS + SLACK, exit=True, file=self._nowhere)
        except RuntimeError:  # no thread could be started
            raise MemoryError from None
        self._armed = time.monotonic()

    def _say(self, number: int) -> None:
        said = number.to_bytes(8, "little", signed=True)
        if sys.platform == "win32":
            os.lseek(self._progress, 0, os.SEEK_SET)
            os.write(self._progress, said)
        else:
            os.pwrite(self._progress, said, 0)


class _Memory:
    """The limit of the address space, where the system keeps one."""

    def __init__(self) -> None:
        import resource

        self._resource = resource
        self._size = os.open("/proc/self/statm", os.O_RDONLY)
        self._page = resource.getpagesize()
        self._before = resource.getrlimit(resource.RLIMIT_AS)

    def limit(self) -> None:
        """Refuse memory beyond `MEMORY` more than what is held."""
        held = int(os.pread(self._size, 64, 0).split()[0]) * self._page
        finite = [limit for limit in self._before if limit != self._resource.RLIM_INFINITY]
        self._resource.setrlimit(self._resource.RLIMIT_AS, (min([held + MEMORY, *finite]), self._before[1]))

    def restore(self) -> None:
        """The limit that was."""
        self._resource.setrlimit(self._resource.RLIMIT_AS, self._before)
