"""A `Batch` as tensors.

With `attention_mask=None` and no cache, transformers reads restarting positions as borders and builds the mask of each
layer type (full, sliding) itself. Padding is a segment of its own. Everything here is exact.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch

from localtune.batch import Batch
from localtune.objectives import Values
from localtune.targets import Targets


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
