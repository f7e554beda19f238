"""How long a run took: what its sessions took, without the time between a stop and the resume after it.

A session is what one process did; it begins with the phase `BEGIN`, or with the note `JUMPED` where the machine slept
or its clock was set: what lies before that note and behind the last event counts for nothing. Seconds, by the clock of
the events.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

BEGIN = "loading"
"""Phase that every session begins with."""
TRAINING = "training"
"""Phase in which updates are made."""
JUMPED = "machine.clock.note"
"""Code of the warning that tells of a clock that jumped."""
_BEGINS = tuple(json.dumps(name).encode() for name in (BEGIN, JUMPED))


@dataclass
class Worked:
    """Sums the spans from each session's first event to its last, as the events come."""

    before: float = 0.0
    """Of the sessions that are over."""
    began: float = 0.0
    """First event of this session, seconds since 1970; 0 = none yet."""
    seen: float = 0.0
    """Its last event."""

    @property
    def seconds(self) -> float:
        """Of all sessions."""
        return self.before + max(0.0, self.seen - self.began)

    def take(self, value: Mapping[str, Any]) -> None:
        """Note an event as it was read from its line; what has no time is let be."""
        try:
            when = float(value["time"])
        except (KeyError, TypeError, ValueError, OverflowError):
            return
        if not math.isfinite(when):
            return
        begins = (value.get("type"), value.get("name", value.get("code"))) in (("phase", BEGIN), ("warning", JUMPED))
        if begins or not self.began:
            self.before, self.began = self.seconds, when
        self.seen = when


def seconds_worked(events: Path | BinaryIO) -> float:
    """What a run's file of events says that it took; 0 where there is none. Only the ends of sessions are read."""
    if isinstance(events, Path):
        if not events.exists():
            return 0.0
        with events.open("rb") as file:
            return seconds_worked(file)
    worked, before = Worked(), b""
    for line in events:
        if not line.endswith(b"}\n"):
            continue
        if not before or any(mark in line for mark in _BEGINS):
            worked.take(value_of(before))
            worked.take(value_of(line))
        before = line
    worked.take(value_of(before))
    return worked.seconds


def value_of(line: bytes) -> dict[str, Any]:
    """The object that a line of JSON is; empty for anything else."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
