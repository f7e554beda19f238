"""Loss and accuracy of a session on rows it does not learn from.

Sums in nats over all targets, divided once, so they do not depend on how rows are batched.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from localtune.backend import Session
from localtune.batch import Batch


@dataclass(frozen=True)
class Score:
    """Sums over all targets of some rows."""

    nll: float
    """Weighted negative log-likelihood, nats."""
    weight: float
    targets: int
    hits: int
    """Targets that were the most likely token."""

    @property
    def loss(self) -> float:
        """Mean per target."""
        return self.nll / self.weight if self.weight else math.nan

    @property
    def accuracy(self) -> float:
        """Share of the targets that were the most likely token."""
        return self.hits / self.targets if self.targets else math.nan


class StopRequested(BaseException):
    """Asked to stop in the middle of a measurement, which is then worth nothing. No library's to catch."""


def nothing_asked() -> None:
    """The check of a measurement that nobody interrupts."""


def score(
    session: Session, batches: Sequence[Batch], *, adapter: bool = True, check: Callable[[], None] = nothing_asked
) -> Score:
    """The score of every segment of `batches`; `check` may raise between two of them."""
    nll = weight = targets = hits = 0.0
    for batch in batches:
        check()
        scores = session.score(batch, adapter=adapter)
        nll += float(scores.nll.sum(dtype="float64"))
        weight += float(scores.weight.sum(dtype="float64"))
        targets += float(scores.targets.sum(dtype="float64"))
        hits += float(scores.hits.sum(dtype="float64"))
    return Score(nll, weight, int(targets), int(hits))
