"""A `Batch` as tensors: positions that restart per segment, and where each target is predicted.

With `attention_mask=None` and no cache, transformers reads the restarting positions as borders and builds the mask of
each layer type (full, sliding) itself. Padding is a segment of its own. Everything here is exact.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from localtune.batch import Batch, Ints
from localtune.errors import InputError, Problem
from localtune.objectives import Values

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


def tensor(array: npt.NDArray[np.generic], device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """A copy of `array` on `device`."""
    return torch.from_numpy(np.ascontiguousarray(array)).to(device=device, dtype=dtype)


def values(batch: Batch, where: Targets, logprobs: torch.Tensor) -> Values:
    """What an objective sees: `logprobs` [N] with the constants of `batch`, all on its device, float32."""
    device = logprobs.device

    def floats(arrays: Mapping[str, npt.NDArray[np.float32]]) -> dict[str, torch.Tensor]:
        return {name: tensor(array, device, torch.float32) for name, array in arrays.items()}

    membership = where.segments[None, :] == np.arange(batch.count)[:, None]
    return Values(
        logprobs=logprobs,
        weights=tensor(batch.weights[where.rows, where.columns], device, torch.float32),
        membership=tensor(membership, device, torch.float32),
        per_token=floats({name: array[where.rows, where.columns] for name, array in batch.per_token.items()}),
        per_segment=floats(batch.per_segment),
    )
