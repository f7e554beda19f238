"""Lines of a file of any size: an index of places is kept, never the text.

`look` reads what was written since and `find` searches; both are for threads. `line` reads one block of some lines and
is quick enough for painting.
"""

import threading
from array import array
from pathlib import Path

STRIDE = 32
"""Lines between two remembered places."""
CHUNK = 1 << 20
LONGEST = 4096
"""Bytes of a line that are shown."""


class FileLines:
    """The lines of a file that may grow, shrink or vanish."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        """Lines known so far; a last one without its end counts."""
        self.trouble = ""
        """Why it cannot be read."""
        self._lock = threading.Lock()
        self._forget()

    def look(self) -> bool:
        """Take in what was written since; returns whether there was anything."""
        before = self.count, self._size
        try:
            size = self.path.stat().st_size
            if size < self._size:
                self._forget()
            with self.path.open("rb") as file:
                file.seek(self._size)
                while block := file.read(CHUNK):
                    self._take(block)
            self.trouble = ""
        except FileNotFoundError:
            self._forget()
        except OSError as error:
            self.trouble = f"{self.path.name} cannot be read: {error.strerror or error}"
        return (self.count, self._size) != before

    def line(self, number: int) -> str:
        """Line `number`, from 0; "" where there is none."""
        if not 0 <= number < self.count:
            return ""
        lines = self._block(number // STRIDE)
        place = number % STRIDE
        return lines[place].decode("utf-8", "replace") if place < len(lines) else ""

    def find(self, text: str, start: int) -> int | None:
        """The first line from `start` on that holds `text`, in capitals or not; None when none does."""
        wanted = text.casefold()
        block_number = -1
        lines: list[str] = []
        for number in range(max(0, start), self.count):
            if number // STRIDE != block_number:
                block_number = number // STRIDE
                lines = [line.decode("utf-8", "replace").casefold() for line in self._block(block_number, keep=False)]
            if number % STRIDE < len(lines) and wanted in lines[number % STRIDE]:
                return number
        return None

    def _forget(self) -> None:
        with self._lock:
            self._places = array("Q", [0])
            self._size = 0
            self._ended = 0
            self._open = False
            self._cached: tuple[int, int, list[bytes]] = (-1, -1, [])
            self.count = 0

    def _take(self, block: bytes) -> None:
        with self._lock:
            at = -1
            while (at := block.find(b"\n", at + 1)) >= 0:
                self._ended += 1
                if self._ended % STRIDE == 0:
                    self._places.append(self._size + at + 1)
            self._size += len(block)
            self._open = not block.endswith(b"\n")
            self.count = self._ended + self._open

    def _block(self, number: int, *, keep: bool = True) -> list[bytes]:
        with self._lock:
            if number >= len(self._places):
                return []
            start = self._places[number]
            end = self._places[number + 1] if number + 1 < len(self._places) else self._size
            if self._cached[:2] == (number, end):
                return self._cached[2]
        lines = self._read(start, min(end, start + CHUNK))
        if keep:
            with self._lock:
                self._cached = (number, end, lines)
        return lines

    def _read(self, start: int, end: int) -> list[bytes]:
        try:
            with self.path.open("rb") as file:
                file.seek(start)
                return [line[:LONGEST] for line in file.read(end - start).split(b"\n")]
        except OSError:
            return []
