"""The events of a run that is watched: each is handed out once, also where the file is cut back under its reader.

A new worker begins behind the last checkpoint: what was recorded after it is cut off, and those updates happen again.
The reader then goes back to the last line that is still there, so that nothing is shown twice and nothing is missed.
"""

import zlib
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from localtune.events import Event, from_json


class Growing:
    """A file of events from byte `offset` on; for each look it is opened anew."""

    def __init__(self, path: Path, offset: int = 0) -> None:
        self._path = path
        self._ends = array("Q", [0])
        """Where each line ends that was read."""
        self._sums = array("L", [0])
        """CRC-32 of each of them: that tells whether it is still the same, since a line holds the time of its event."""
        for _ in self._lines(offset):
            pass

    @property
    def offset(self) -> int:
        """Behind the last line that was read."""
        return self._ends[-1]

    def fresh(self) -> Iterator[Event]:
        """What was written since the last look; a torn last line waits until it is whole."""
        for line in self._lines():
            try:
                yield from_json(line.decode("utf-8"))
            except ValueError:
                continue

    def _lines(self, end: int | None = None) -> Iterator[bytes]:
        try:
            file = self._path.open("rb")
        except FileNotFoundError:
            return
        with file:
            if not self._holds(file, len(self._ends) - 1):
                self._go_back(file)
            file.seek(self.offset)
            for line in file:
                if not line.endswith(b"\n") or (end is not None and self.offset + len(line) > end):
                    return
                self._sums.append(zlib.crc32(line))
                self._ends.append(self.offset + len(line))
                yield line

    def _holds(self, file: BinaryIO, place: int) -> bool:
        """Whether line number `place`, from 1, is still where it was; 0 is the beginning."""
        if place == 0:
            return True
        start = self._ends[place - 1]
        file.seek(start)
        return zlib.crc32(file.read(self._ends[place] - start)) == self._sums[place]

    def _go_back(self, file: BinaryIO) -> None:
        """Forget every line from the first that is another now."""
        kept = next((place for place in range(1, len(self._ends)) if not self._holds(file, place)), len(self._ends))
        del self._ends[kept:], self._sums[kept:]
