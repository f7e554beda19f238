"""What is minimised: pure functions of per-token log-probabilities, written once over the array namespace.

`xp` is `torch` or `mlx.core`; only what both have is used (`where`, `exp`, `log`, `logaddexp`, `sigmoid`, `stack`,
`matmul`, and `axis=` for reductions). An objective returns a sum; the core divides by the denominator it declares.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from localtune.batch import Batch

Array = Any
"""An array of the backend at hand."""


@dataclass(frozen=True)
class Values:
    """What an objective sees of one micro-batch: N targets, S segments.

    A backend may fill up N and S: such a target weighs 0 and belongs to no segment, such a segment is all zeros. Where
    the denominator is "segments", S is exact.
    """

    logprobs: Array
    """float32 [N]: log-probability of each target."""
    weights: Array
    """float32 [N]."""
    membership: Array
    """float32 [S, N]: 1 where the target belongs to the segment; `matmul(membership, x)` sums x per segment."""
    per_token: Mapping[str, Array]
    """float32 [N] each."""
    per_segment: Mapping[str, Array]
    """float32 [S] each."""


@dataclass(frozen=True)
class Objective:
    """A loss as a sum, and what the sum is divided by."""

    name: str
    denominator: Literal["weights", "segments"]
    total: Callable[[Any, Values], Array]
    """`total(xp, values)`: the sum over the micro-batch, a scalar array."""


def denominator_of(objective: Objective, batches: Sequence[Batch]) -> float:
    """What the sum over the micro-batches of one update is divided by. Raises `ValueError` without a target."""
    counts = [batch.weight if objective.denominator == "weights" else float(batch.count) for batch in batches]
    total = sum(counts)
    if not total > 0:
        raise ValueError("an update needs at least one target")
    return total


def _negative_log_likelihood(xp: Any, values: Values) -> Array:
    return -xp.sum(values.logprobs * values.weights)


SFT = Objective("sft", "weights", _negative_log_likelihood)
"""Supervised fine-tuning: weighted negative log-likelihood of the targets."""

OBJECTIVES = {SFT.name: SFT}
