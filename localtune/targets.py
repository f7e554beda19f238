"""Where a batch is learned, and the positions of its tokens; numpy only, exact, the same for every backend."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from localtune.batch import Batch, Ints
from localtune.errors import InputError, Problem

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Targets:
    """The N targets of a batch in row-major order; int64 [N] each."""

    rows: Indices
    columns: Indices
    """Column of the target itself; it is predicted from the column before."""
    segments: Indices
    """Which of the S segments of the batch."""


def positions(segments: Ints) -> Indices:
    """int64 [B, T]: the distance of each token from the start of its segment; padding counts as one segment."""
    column = np.broadcast_to(np.arange(segments.shape[1]), segments.shape)
    starts = np.ones(segments.shape, bool)
    starts[:, 1:] = segments[:, 1:] != segments[:, :-1]
    return (column - np.maximum.accumulate(np.where(starts, column, 0), axis=1)).astype(np.int64)


def targets(batch: Batch) -> Targets:
    """Where `batch` has a weight. Raises `ValueError` for a target with nothing before it in its own segment."""
    rows, columns = np.nonzero(batch.weights)
    if np.any(batch.segments[rows, columns] == 0) or np.any(positions(batch.segments)[rows, columns] == 0):
        raise ValueError("a target has nothing before it in its own segment")
    offsets = np.cumsum([0, *(len(row) for row in batch.sources)])
    return Targets(rows, columns, offsets[rows] + batch.segments[rows, columns].astype(np.int64) - 1)


def check_tokens(tokens: Ints, vocabulary: int) -> None:
    """Raise `InputError` for an id without a row in the embedding; on a GPU it would end the process."""
    highest = int(tokens.max(initial=0))
    if highest >= vocabulary or int(tokens.min(initial=0)) < 0:
        what = f"token id {highest} has no row in the model's embedding of {vocabulary:,}"
        raise InputError(Problem("model.token-range", what, fix="use the tokenizer that belongs to this model"))
