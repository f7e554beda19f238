"""What is minimised: pure functions of per-token log-probabilities, written once over the array namespace.

`xp` is `torch` or `mlx.core`; only what both have is used (`where`, `exp`, `log`, `logaddexp`, `sigmoid`, `stack`,
`matmul`, and `axis=` for reductions). An objective returns a sum; the core divides by the denominator it declares.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Array = Any
"""An array of the backend at hand."""


@dataclass(frozen=True)
class Values:
    """What an objective sees of one micro-batch: N targets, S segments."""

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


def _negative_log_likelihood(xp: Any, values: Values) -> Array:
    return -xp.sum(values.logprobs * values.weights)


SFT = Objective("sft", "weights", _negative_log_likelihood)
"""Supervised fine-tuning: weighted negative log-likelihood of the targets."""

OBJECTIVES = {SFT.name: SFT}
