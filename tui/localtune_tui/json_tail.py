"""The end of a growing file of JSON lines: what was written since the last look, whatever else was done to the file."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from localtune.runs.folder import Status

CHUNK = 1 << 20
"""Bytes that are read and parsed at once; a line longer than that is foreign."""
_REMEMBERED = 1024
"""Bytes before the offset that tell whether the file is still the one that was read: enough for an event with its time,
which no event of a later worker has again."""


@dataclass
class Tail:
    """The values of a growing file of JSON lines, from where the last read ended."""

    path: Path
    offset: int = 0
    before: bytes = b""
    foreign: int = 0
    """Lines that hold no JSON."""
    waiting: int = 0
    """Bytes of a last line that is not whole."""

    def was_replaced(self) -> bool:
        """Whether what lies before the offset is no longer what was read."""
        if not self.offset:
            return False
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset - len(self.before))
                return file.read(len(self.before)) != self.before
        except FileNotFoundError:
            return True

    def read(self) -> Iterator[list[Any]]:
        """The values of the whole lines that are new, some thousand at a time."""
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            return
        with file:
            file.seek(self.offset)
            while block := self._whole_lines(file):
                yield _values(block, self._count)

    def trouble(self, status: Status | None) -> str:
        """What of the file was not understood."""
        if self.foreign:
            return f"{self.foreign:,} lines of events.jsonl are not events; they are left out"
        if self.waiting and (status is None or status.state not in ("starting", "running")):
            return f"the last line of events.jsonl is not whole ({self.waiting:,} bytes); it is left out"
        return ""

    def _whole_lines(self, file: BinaryIO) -> bytes:
        block = file.read(CHUNK)
        end = block.rfind(b"\n") + 1
        if not end and len(block) == CHUNK:
            block = self._skip_line(file)
            end = len(block)
        self.waiting = len(block) - end
        file.seek(-self.waiting, 1)
        block = block[:end]
        self.offset += len(block)
        self.before = (self.before + block)[-_REMEMBERED:]
        return block

    def _skip_line(self, file: BinaryIO) -> bytes:
        """Pass over a line that is too long to be ours; returns its end, or b"" where it has none yet."""
        start = self.offset
        while block := file.read(CHUNK):
            if (at := block.find(b"\n")) >= 0:
                self.foreign += 1
                self.offset = file.tell() - len(block) + at
                file.seek(self.offset + 1)
                self.before = b""
                return b"\n"
        file.seek(start)
        return b""

    def _count(self) -> None:
        self.foreign += 1


def _values(block: bytes, foreign: Callable[[], None]) -> list[Any]:
    """The values of whole lines; parsed as one list, which takes a third less time than line by line."""
    try:
        values: list[Any] = json.loads(b"[" + block.rstrip(b"\n").replace(b"\n", b",") + b"]")
        return values
    except (ValueError, RecursionError):
        pass
    found = []
    for line in block.splitlines():
        try:
            found.append(json.loads(line))
        except (ValueError, RecursionError):
            foreign()
    return found
