"""The values of a GGUF's tensors, read from the model in blocks of rows: regrouped, stacked, shifted as placed.

llama.cpp rotates neighbouring pairs of a head where transformers rotates its two halves, so in some architectures the
rows of q and k (and their biases) are regrouped: row (head, i, half) of the file is row (head, half, i) of the model.
"""

import math
from collections.abc import Iterator
from typing import Protocol

import numpy as np

from localtune.batch import Floats
from localtune.errors import InputError, Problem
from localtune.export.placed import Placed
from localtune.model.tensors import TensorInfo
from localtune.model.weights import BLOCK


class Source(Protocol):
    """Weights by name: `Weights`, or `plain_weights` of a model that is quantised."""

    def __getitem__(self, name: str) -> TensorInfo:
        """Type, shape and file of a tensor."""

    def rows(self, name: str, start: int, stop: int) -> Floats:
        """Rows `start` to `stop`, float32 [stop - start, ...], an array of its own."""

    def blocks(self, name: str) -> Iterator[tuple[int, Floats]]:
        """First row and float32 rows of every block."""


def values_of(placed: Placed, weights: Source, head_dim: int) -> Iterator[Floats]:
    """The values of a tensor in blocks of whole rows, float32 [rows, width] or [width], in the order of the file.

    Blocks have at most `BLOCK` bytes, or one row; where rows are regrouped, one head; where experts lie stacked in the
    model, the matrix of one. Raises `InputError` for a file of the model that cannot be read.
    """
    if placed.values is not None:
        yield placed.values
    for source in placed.sources:
        try:  # an error while the block is written is raised where it is written, not here
            for rows in _rows(placed, source, weights, head_dim):
                yield rows + np.float32(placed.added) if placed.added else rows
        except OSError as error:
            raise unreadable(error, weights[source].shard) from None


def unreadable(error: OSError, shard: str) -> InputError:
    """What is said of a file of the model that can no longer be read."""
    what = f"cannot be read any more: {error.strerror or error}"
    fix = "check that the model's files are all there, then export again"
    return InputError(Problem("gguf.source", what, str(error.filename or shard), fix=fix))


def regrouped(rows: Floats, head_dim: int) -> Floats:
    """Rows of whole heads, [heads * head_dim, …], in llama.cpp's rotary order."""
    halves = rows.reshape(-1, 2, head_dim // 2, *rows.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(rows.shape)


def _rows(placed: Placed, source: str, weights: Source, head_dim: int) -> Iterator[Floats]:
    if not placed.heads:
        for _, rows in weights.blocks(source):
            yield rows.reshape(-1, rows.shape[-1]) if rows.ndim > 2 else rows
        return
    total, *rest = weights[source].shape
    step = head_dim * max(1, BLOCK // (4 * head_dim * math.prod(rest)))
    for start in range(0, total, step):
        yield regrouped(weights.rows(source, start, min(start + step, total)), head_dim)
