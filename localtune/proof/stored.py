"""Every tensor of a file, read back and compared with the values it was made of.

A divergence over some hundred positions may stay under the limit of a coarse type though one tensor of many is wrong.
So the numbers themselves are compared: the relative error |file - wanted| / |wanted| (Frobenius norms) of each tensor
is a few times below its limit where the type was computed as it should be, and near or above 1 where a tensor is
another one, moved or zero. That a tensor is placed where it belongs is not seen here, but in what the file says. All
values are compared of models up to `WHOLE` weights, of larger ones every `STRIDE`-th block.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt

from localtune.batch import Floats
from localtune.export import Exportable
from localtune.export.read import StoredTensor, read_gguf
from localtune.export.values import values_of
from localtune.model.plain import plain_weights
from localtune.model.weights import BLOCK
from localtune.proof.checks import Check
from localtune.score import nothing_asked

WHOLE, STRIDE = 200_000_000, 16
LIMITS = {
    **{"F32": 0.0, "F16": 1e-3, "BF16": 5e-3, "Q8_0": 3e-2, "Q6_K": 8e-2},
    **{"Q5_K": 0.15, "Q5_0": 0.15, "Q5_1": 0.15, "Q4_K": 0.3, "Q4_0": 0.3, "Q4_1": 0.3},
}
"""Largest relative error of a tensor, by type; blocks with few large values measure most."""
OTHER = 0.6
"""Of any other type, of whatever few bits."""
SMALLEST = 2.0**-25
"""Half of the least F16: a value of that size may be lost, in a quantised block 127 times that."""


@dataclass(frozen=True)
class Wanted:
    """What a file should hold."""

    shapes: Mapping[str, tuple[int, ...]]
    blocks: Callable[[str], Iterator[Floats]]
    """Name of a tensor -> its values in blocks of rows, in order; [rows, width], or [width]."""


def of_weights(ready: Exportable) -> Wanted:
    """What is placed of a model's weights."""
    weights, placed = plain_weights(ready.model), {placed.name: placed for placed in ready.conversion.tensors}
    shapes = {name: one.shape for name, one in placed.items()}
    return Wanted(shapes, lambda name: values_of(placed[name], weights, ready.model.config.head_dim))


def of_file(path: Path) -> Wanted:
    """What another GGUF holds: the exact one that a coarse one was made of."""
    there = {tensor.name: tensor for tensor in read_gguf(path).tensors}

    def blocks(name: str) -> Iterator[Floats]:
        rows = _rows_of(path, there[name])
        step = max(1, BLOCK // (4 * there[name].shape[-1]))
        for start in range(0, len(rows), step):
            yield _values(rows[start : start + step], there[name])

    return Wanted({name: tensor.shape for name, tensor in there.items()}, blocks)


def stored(path: Path, wanted: Wanted, check: Callable[[], None] = nothing_asked) -> Check:
    """The file at `path` holds what is `wanted`, as exactly as its types can; `check` may raise between two tensors."""
    there = {tensor.name: tensor for tensor in read_gguf(path).tensors}
    apart = [*(wanted.shapes.keys() - there.keys()), *(there.keys() - wanted.shapes.keys())]
    apart += [name for name in wanted.shapes.keys() & there.keys() if there[name].shape != wanted.shapes[name]]
    look = "how those tensors were placed and quantised"
    if apart:
        text = f"{len(apart)} tensors are missing, too many, or of another shape: {', '.join(sorted(apart)[:3])}"
        return Check("tensors", False, text, {"wrong": len(apart)}, look)
    stride = 1 if sum(math.prod(shape) for shape in wanted.shapes.values()) <= WHOLE else STRIDE
    errors, wrong = {}, []
    for name, tensor in there.items():
        check()
        if tensor.kind in gguf.GGMLQuantizationType.__members__ and _is_read(tensor):
            errors[name], fits = _error(path, tensor, wanted.blocks(name), stride)
            wrong += [] if fits else [name]
    if not errors:
        return Check("tensors", None, "none is of a type that is read here")
    worst = max(errors, key=lambda name: errors[name])
    figures = {"tensors": len(errors), "worst": errors[worst], "wrong": len(wrong)}
    text = f"{len(errors)} tensors read back as the weights: off by {errors[worst]:.1e} at most ({there[worst].kind})"
    if wrong:
        text = f"{len(wrong)} of {len(errors)} tensors are not the weights: {', '.join(wrong[:3])}"
    return Check("tensors", not wrong, text, figures, look)


def _error(path: Path, tensor: StoredTensor, blocks: Iterator[Floats], stride: int) -> tuple[float, bool]:
    """The relative error of a tensor as far as it is compared, and whether its type explains it."""
    file, at = _rows_of(path, tensor), 0
    off = size = 0.0
    count = 0
    for number, block in enumerate(blocks):
        rows = block.reshape(-1, tensor.shape[-1])
        if number % stride == 0:
            found = _values(file[at : at + len(rows)], tensor)
            off += float(np.square(found - rows, dtype=np.float64).sum())
            size += float(np.square(rows, dtype=np.float64).sum())
            count += rows.size
        at += len(rows)
    kind = tensor.kind
    lost = 0.0 if kind in ("F32", "BF16") else SMALLEST if kind == "F16" else 127 * SMALLEST
    fits = off <= (LIMITS.get(kind, OTHER) ** 2) * size + count * lost**2
    return math.sqrt(off / size) if size else math.sqrt(off), fits


def _is_read(tensor: StoredTensor) -> bool:
    try:
        _values(np.zeros((1, gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[tensor.kind]][1]), np.uint8), tensor)
    except NotImplementedError:
        return False
    return True


def _rows_of(path: Path, tensor: StoredTensor) -> npt.NDArray[np.uint8]:
    """The bytes of a tensor as they lie in the file, a row each."""
    rows = math.prod(tensor.shape[:-1])
    return np.memmap(path, np.uint8, "r", tensor.offset, (rows, tensor.size // rows))


def _values(rows: npt.NDArray[np.uint8], tensor: StoredTensor) -> Floats:
    values: Floats = gguf.quants.dequantize(rows, gguf.GGMLQuantizationType[tensor.kind])
    return values
