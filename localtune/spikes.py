"""Losses and gradients far from what they were: said, not acted on; clipping bounds what a gradient can do.

An update is unusual when its loss, or the norm of its gradient before clipping, lies more than `SIGMAS` standard
deviations above the mean of the last `WINDOW` updates, and there have been `FEWEST`.
"""

import math
from collections import deque
from dataclasses import dataclass, field

from localtune.events import Step

SIGMAS = 6.0
WINDOW = 100
FEWEST = 20
"""Updates before which nothing is usual yet."""
_LEAST = 0.02
"""Deviation, as a share of the mean, that is assumed at least: nearly constant figures would all be unusual."""


def _recent() -> deque[float]:
    return deque(maxlen=WINDOW)


@dataclass
class Spikes:
    """The last updates, as they come."""

    losses: deque[float] = field(default_factory=_recent)
    norms: deque[float] = field(default_factory=_recent)

    def look(self, step: Step) -> str:
        """What is unusual about `step`, in words; "" for nothing. An update that was not applied is passed over."""
        if not step.applied:
            return ""
        said = [_far(self.losses, step.loss, "loss"), _far(self.norms, step.gradient_norm, "gradient norm")]
        self.losses.append(step.loss)
        self.norms.append(step.gradient_norm)
        found = [text for text in said if text]
        return f"update {step.step}: {' and '.join(found)}" if found else ""


def _far(before: deque[float], value: float, name: str) -> str:
    if len(before) < FEWEST:
        return ""
    mean = math.fsum(before) / len(before)
    deviation = math.sqrt(math.fsum((each - mean) ** 2 for each in before) / len(before))
    deviation = max(deviation, _LEAST * abs(mean))
    if deviation == 0 or value <= mean + SIGMAS * deviation:
        return ""
    return f"{name} {value:.3g}, where the last {len(before)} had {mean:.3g} ± {deviation:.2g}"
