"""Sleep and set clocks, noticed: the wall clock moved on by more, or less, than the machine worked. Seconds."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

NOTICED = 60.0
"""A difference between two looks that is worth a word."""


@dataclass
class Clock:
    """Compares the wall clock with the monotonic one, which stands still while Linux and macOS sleep."""

    wall: Callable[[], float] = time.time
    steady: Callable[[], float] = time.monotonic
    _before: tuple[float, float] | None = field(default=None, init=False)

    def jump(self) -> float:
        """How far the wall clock has jumped since the last look; 0 for less than `NOTICED`."""
        now = self.wall(), self.steady()
        before, self._before = self._before or now, now
        jumped = (now[0] - before[0]) - (now[1] - before[1])
        return jumped if abs(jumped) >= NOTICED else 0.0
