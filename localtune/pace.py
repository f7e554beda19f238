"""How fast a run is now, from what its last updates took: the time to its end.

Only the updates' own seconds count, measured by a clock that never jumps: a wall clock that is set, or a lid that was
closed, changes nothing. A speed that has changed is followed within `SPAN` seconds of updates, or ten updates.
"""

from collections.abc import Sequence

RECENT = 50
"""Updates that are looked at, at most."""
ENOUGH = 10
"""Updates before a time to the end is said; as many are always looked at."""
SPAN = 30.0
"""Seconds of updates that are looked at."""


def recent(seconds: Sequence[float]) -> int:
    """How many of the last updates, each of so many `seconds`, tell how fast it is now."""
    total = 0.0
    for count, each in enumerate(reversed(seconds)):
        if count == RECENT or (count >= ENOUGH and not total < SPAN):
            return count
        total += each
    return len(seconds)


def remaining(seconds: Sequence[float], left: float) -> float | None:
    """Seconds that `left` more updates take; None for the first ten updates."""
    count = recent(seconds)
    if count < ENOUGH:
        return None
    return sum(seconds[len(seconds) - count :]) / count * left
