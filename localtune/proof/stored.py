"""Every tensor of a file, read back and compared with the values it was made of.

A divergence over some hundred positions may stay under the limit of a coarse type though one tensor of many is wrong.
So the numbers themselves are compared: the relative error |file - weights| / |weights| (Frobenius norms) of each tensor
is a few times below its limit where the type was computed as it should be, and near or above 1 where a tensor is
another one, moved or zero. All values are read of models up to `outlay.SMALL` weights, of larger ones the first block
of each source.
"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt

from localtune.batch import Floats
from localtune.export import Exportable
from localtune.export.placed import Placed
from localtune.export.read import StoredTensor, read_gguf
from localtune.export.values import values_of
from localtune.model.plain import PlainWeights, plain_weights
from localtune.outlay import SMALL
from localtune.proof.checks import Check

LIMITS = {
    **{"F32": 0.0, "F16": 1e-3, "BF16": 5e-3, "Q8_0": 3e-2, "Q6_K": 8e-2},
    **{"Q5_K": 0.15, "Q5_0": 0.15, "Q5_1": 0.15, "Q4_K": 0.3, "Q4_0": 0.3, "Q4_1": 0.3},
}
"""Largest relative error of a tensor, by type; blocks with few large values measure most."""


def stored(path: Path, exportable: Exportable) -> Check:
    """The file at `path` holds what `exportable` places, in the types planned for it."""
    there = {tensor.name: tensor for tensor in read_gguf(path).tensors}
    missing = [placed.name for placed in exportable.conversion.tensors if placed.name not in there]
    more = there.keys() - {placed.name for placed in exportable.conversion.tensors}
    if missing or more:
        text = f"the file lacks {len(missing)} tensors and has {len(more)} more: {', '.join([*missing, *more][:3])}"
        return Check("tensors", False, text, {}, "how the file was written")
    weights = plain_weights(exportable.model)
    errors = {
        placed.name: _error(path, there[placed.name], placed, weights, exportable)
        for placed in exportable.conversion.tensors
        if there[placed.name].kind in LIMITS
    }
    if not errors:
        return Check("tensors", None, "none is of a type that is read here")
    wrong = [name for name, error in errors.items() if not error <= LIMITS[there[name].kind]]
    worst = max(errors, key=lambda name: errors[name])
    figures = {"tensors": len(errors), "worst": errors[worst], "wrong": len(wrong)}
    text = f"{len(errors)} tensors read back as the weights: off by {errors[worst]:.1e} at most ({there[worst].kind})"
    if wrong:
        text = f"{len(wrong)} of {len(errors)} tensors are not the weights: {', '.join(wrong[:3])}"
    return Check("tensors", not wrong, text, figures, "how those tensors were placed and quantised")


def _error(path: Path, tensor: StoredTensor, placed: Placed, weights: PlainWeights, exportable: Exportable) -> float:
    """The relative error of a tensor as far as it is read; infinite for another shape."""
    if tensor.shape != placed.shape:
        return float("inf")
    file, off, size = _rows_of(path, tensor), 0.0, 0.0
    first = 0
    for source in placed.sources or ("",):
        alone = Placed(
            placed.name, placed.shape, (source,) if source else (), placed.heads, placed.added, placed.values
        )
        rows_of_source = len(file) // max(1, len(placed.sources))
        for at, rows in _compared(alone, weights, exportable):
            found = _values(file[first + at : first + at + len(rows)], tensor)
            off += float(np.square(found - rows, dtype=np.float64).sum())
            size += float(np.square(rows, dtype=np.float64).sum())
        first += rows_of_source
    return float(np.sqrt(off / size)) if size else float(np.sqrt(off))


def _compared(placed: Placed, weights: PlainWeights, exportable: Exportable) -> Iterator[tuple[int, Floats]]:
    """First row and rows of the blocks that are compared, two-dimensional."""
    most = None if exportable.model.parameters <= SMALL else 1
    at = 0
    for block in islice(values_of(placed, weights, exportable.model.config.head_dim), most):
        rows = block.reshape(-1, block.shape[-1]) if len(placed.shape) > 1 else block.reshape(1, -1)
        yield at, rows
        at += len(rows)


def _rows_of(path: Path, tensor: StoredTensor) -> npt.NDArray[np.uint8]:
    """The bytes of a tensor as they lie in the file, a row each."""
    rows = int(np.prod(tensor.shape[:-1])) if len(tensor.shape) > 1 else 1
    return np.memmap(path, np.uint8, "r", tensor.offset, (rows, tensor.size // rows))


def _values(rows: npt.NDArray[np.uint8], tensor: StoredTensor) -> Floats:
    values: Floats = gguf.quants.dequantize(rows, gguf.GGMLQuantizationType[tensor.kind])
    return values
