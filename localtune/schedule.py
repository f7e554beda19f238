"""The learning rate of each update, as a pure function of the step: nothing to save, nothing to replay."""

import math
from dataclasses import dataclass
from typing import Literal

Shape = Literal["constant", "linear", "cosine"]


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up to `peak`, then `shape` down to `floor * peak`, reached one update after the last."""

    shape: Shape
    peak: float
    """The highest learning rate."""
    steps: int
    """Updates in all."""
    warmup: int
    """Updates of the warm-up; the first of them trains at peak / warmup, never at 0."""
    floor: float = 0.0
    """Share of the peak that remains at the end."""

    def at(self, step: int) -> float:
        """Learning rate of update `step`, counted from 1."""
        if step <= self.warmup:
            return self.peak * step / self.warmup
        if self.shape == "constant":
            return self.peak
        done = (step - self.warmup) / max(1, self.steps - self.warmup + 1)
        share = 1 - done if self.shape == "linear" else (1 + math.cos(math.pi * done)) / 2
        return self.peak * (self.floor + (1 - self.floor) * share)


def warmup_steps(warmup: str | int, steps: int) -> int:
    """Updates of a warm-up given as a count or as a share such as "3%"."""
    if isinstance(warmup, int):
        return min(warmup, steps)
    return min(steps, round(float(warmup.removesuffix("%")) / 100 * steps))
