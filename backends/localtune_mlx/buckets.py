"""A micro-batch as arrays, filled up to one of a bounded number of shapes where every new shape is compiled anew.

Rows get a length of 8 to 15 times a power of two (at most 1/8 longer), targets one of eight parts of all positions,
segments a power of two. What is filled in is padding, weighs nothing and belongs to no segment.
"""

from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from localtune.batch import Batch
from localtune.objectives import Values
from localtune.targets import positions, targets

TARGET_PARTS = 8
"""Numbers of targets that a shape of rows can have."""


def inputs(batch: Batch, *, fill: bool, segments_exact: bool) -> dict[str, Any]:
    """Arrays of `batch`: tokens, segments and places int32 [B, T] (the last two only where rows are packed), before and
    ids int32 [N] (where a target is predicted, and the target), and the constants of an objective.

    Without `fill` nothing is filled up; with `segments_exact` the number of segments is not.
    """
    where = targets(batch)
    tokens, segments = _wider(batch.tokens, fill), _wider(batch.segments, fill)
    count = part_of(len(where.rows), tokens.size) if fill else max(1, len(where.rows))
    parts = batch.count if segments_exact or not fill else 1 << max(3, (batch.count - 1).bit_length())
    flat = where.rows * tokens.shape[1] + where.columns

    def of_targets(array: npt.NDArray[np.float32]) -> mx.array:
        return mx.array(filled(array[where.rows, where.columns], count))

    membership = (where.segments[None, :] == np.arange(parts)[:, None]).astype(np.float32)
    found: dict[str, Any] = {
        "tokens": mx.array(tokens),
        "before": mx.array(filled((flat - 1).astype(np.int32), count)),
        "ids": mx.array(filled(tokens.reshape(-1)[flat], count)),
        "weights": of_targets(batch.weights),
        "membership": mx.array(np.pad(membership, ((0, 0), (0, count - len(flat))))),
        "per_token": {name: of_targets(array) for name, array in batch.per_token.items()},
        "per_segment": {name: mx.array(filled(array, parts)) for name, array in batch.per_segment.items()},
    }
    if any(len(row) > 1 for row in batch.sources):
        found |= {"segments": mx.array(segments), "places": mx.array(positions(segments).astype(np.int32))}
    return found


def values(inputs: dict[str, Any], logprobs: mx.array) -> Values:
    """What an objective sees of them."""
    kept = ("weights", "membership", "per_token", "per_segment")
    return Values(logprobs=logprobs, **{name: inputs[name] for name in kept})


def signature(inputs: dict[str, Any]) -> tuple[int, ...]:
    """What decides whether a compiled function is compiled anew."""
    return (*inputs["tokens"].shape, inputs["before"].shape[0], inputs["membership"].shape[0], int("places" in inputs))


def length_of(length: int) -> int:
    """The next bucket of a row's length: 8 to 15 times a power of two, at least 64."""
    step = max(8, 1 << max(0, (length - 1).bit_length() - 4))
    return max(64, -(-length // step) * step)


def part_of(count: int, positions: int) -> int:
    """The next of `TARGET_PARTS` equal parts of `positions`."""
    part = -(-positions // TARGET_PARTS)
    return max(1, -(-count // part)) * part


def filled(array: npt.NDArray[Any], count: int) -> npt.NDArray[Any]:
    """`array` [n] with zeros behind it, [count]."""
    return np.pad(array, (0, count - len(array)))


def _wider(array: npt.NDArray[np.int32], fill: bool) -> npt.NDArray[np.int32]:
    more = length_of(array.shape[1]) - array.shape[1] if fill else 0
    return np.pad(array, ((0, 0), (0, more)))
