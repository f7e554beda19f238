"""Which examples an update sees: pure functions of the seed and one integer, so a resume replays nothing.

`train.batch_size` counts examples; update k of an epoch takes the examples order[k * B : (k + 1) * B], and the tail of
an epoch is a smaller update of its own. Every example is seen exactly once per whole epoch, however rows are packed.
The permutation uses the raw 64-bit words of Philox 4x64-10 (Salmon et al. 2011) keyed by (seed, stream), a stream that
numpy keeps stable, unlike `Generator.permutation`.
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class UpdateExamples:
    """The examples of one update."""

    epoch: int
    """Counted from 0."""
    indices: Indices
    """int64 [n], 1 <= n <= batch size."""


def order(seed: int, epoch: int, count: int) -> Indices:
    """A permutation of 0 … count - 1, int64 [count]; the same everywhere for the same three numbers."""
    words = np.random.Philox(key=np.array([seed, epoch], dtype=np.uint64)).random_raw(count)
    return np.argsort(words, kind="stable").astype(np.int64, copy=False)


def updates_per_epoch(count: int, batch_size: int) -> int:
    """Updates in which `count` examples are seen once."""
    return -(-count // batch_size)


def total_updates(count: int, batch_size: int, *, epochs: float, steps: int | None = None) -> int:
    """Updates of a run: `steps` if given, else `epochs` of them rounded up (2.5 epochs of 3 updates are 8)."""
    if steps is not None:
        return steps
    return math.ceil(Fraction(repr(epochs)) * updates_per_epoch(count, batch_size))


def update_examples(update: int, *, count: int, batch_size: int, seed: int) -> UpdateExamples:
    """Epoch and example indices of `update`, counted from 1 over the whole run."""
    epoch, position = divmod(update - 1, updates_per_epoch(count, batch_size))
    start = position * batch_size
    return UpdateExamples(epoch, _epoch_order(seed, epoch, count)[start : start + batch_size].copy())


_epoch_order = lru_cache(maxsize=1)(order)
