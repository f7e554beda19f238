"""A model's weights as they are once dequantised, whatever layout they are stored in.

Where nothing is quantised they are the model's own. Exact: values are computed in float32 as the library that wrote
the layout computes them there (`mlx_layout`, `bitsandbytes_layout`). `plain_tensors` states the type they had before:
that of MLX's affine scales, the one in bitsandbytes' 4-bit state, else that of the configuration; `pieces` rounds to it
once. Memory is that of a block, as for `Weights`; nothing of a model is held.
"""

import math
from collections.abc import Iterator

import numpy as np

from localtune.batch import Floats
from localtune.errors import InputError, Problem
from localtune.model import ModelFiles, bitsandbytes_layout, mlx_layout
from localtune.model import weights as stored
from localtune.model.packed import Packed
from localtune.model.tensors import TensorInfo
from localtune.model.weights import ByName, Piece, Weights, decode, encode

DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
"""The header's name of a type, by the configuration's."""


def plain_tensors(model: ModelFiles) -> tuple[TensorInfo, ...]:
    """Every weight of `model` as it is once dequantised: dtype F32, F16 or BF16, its full shape, its size so.

    In the order of `model.tensors`, which they are where nothing is quantised. Raises `InputError` (fuse.quantized) for
    a layout that is not known here, (model.quantized) for one whose tensors contradict each other.
    """
    return plain_weights(model).tensors


def plain_weights(model: ModelFiles) -> "PlainWeights":
    """The values of `plain_tensors(model)`. Raises what that raises."""
    refuse_quantized(model)
    weights = Weights(model)
    kind, dtype = model.config.quantized, DTYPES[model.config.dtype]
    if kind == "mlx" and model.config.quantization is not None:
        found = mlx_layout.packed_weights(weights, model.config.quantization, dtype)
    elif kind == "bitsandbytes":
        found = bitsandbytes_layout.packed_weights(weights, dtype)
    else:
        found = iter(())
    return PlainWeights(weights, {packed.plain.name: packed for packed in found})


KNOWN = (None, "mlx", "bitsandbytes")


def refuse_quantized(model: ModelFiles, fix: str = "take the original 16-bit model") -> None:
    """Raise `InputError` (code fuse.quantized) for a base whose quantised weights cannot be read here."""
    if model.config.quantized not in KNOWN:
        what = f"the weights are quantised by {model.config.quantized}, which cannot be undone here"
        raise InputError(Problem("fuse.quantized", what, model.name, fix=fix))


class PlainWeights(ByName):
    """Reads dequantised tensors by name, as `Weights` reads stored ones."""

    def __init__(self, weights: Weights, packed: dict[str, Packed]) -> None:
        beside = {name for one in packed.values() for name in one.beside}
        self._weights, self._packed = weights, packed
        names = (name for name in weights if name not in beside)
        self._tensors = {name: packed[name].plain if name in packed else weights[name] for name in names}

    @property
    def tensors(self) -> tuple[TensorInfo, ...]:
        """Every tensor, in the order of the files."""
        return tuple(self._tensors.values())

    def rows(self, name: str, start: int, stop: int) -> Floats:
        """Rows `start` to `stop`, float32 [stop - start, ...], an array of its own. Raises as `Weights.rows` does."""
        if name not in self._packed:
            return self._weights.rows(name, start, stop)
        shape = self[name].shape
        if not 0 <= start <= stop <= shape[0]:
            raise IndexError(f"rows {start} to {stop} of {name}, which has {shape[0]}")
        inner = math.prod(shape[1:-1])
        return self._packed[name].rows(start * inner, stop * inner).reshape(stop - start, *shape[1:])

    def blocks(self, name: str) -> Iterator[tuple[int, Floats]]:
        """First row and float32 rows of every block of a tensor, in order: at most `BLOCK` bytes, or one row."""
        if name not in self._packed:
            yield from self._weights.blocks(name)
            return
        shape = self[name].shape
        step = max(1, stored.BLOCK // max(1, 4 * math.prod(shape[1:])))
        for start in range(0, shape[0], step):
            yield start, self.rows(name, start, min(start + step, shape[0]))

    def is_packed(self, name: str) -> bool:
        """Whether a tensor is stored in few bits."""
        return name in self._packed

    def stored_as(self, name: str) -> tuple[str, ...]:
        """Names of the stored tensors that a packed one is read from, its codes first."""
        return name, *self._packed[name].beside

    def pieces(self, name: str, dtype: str | None = None) -> Iterator[Piece]:
        """The bytes of a tensor in its plain type, or in `dtype` (F32, F16 or BF16), in order.

        At most `BLOCK` of float32 or a row at a time. Raises `InputError` (weights.overflow) for a value too large.
        """
        kind = dtype or self[name].dtype
        if name in self._packed:
            *rows, width = self[name].shape  # not of the first dimension: an expert of a stack may be a gigabyte
            count, step = math.prod(rows), max(1, stored.BLOCK // (4 * width))
            for start in range(0, count, step):
                yield encode(self._packed[name].rows(start, min(start + step, count)), kind, name)
        elif kind == self[name].dtype:
            yield from self._weights.pieces(name)
        else:
            own = self[name].dtype
            for piece in self._weights.pieces(name):
                yield encode(decode(np.frombuffer(piece, stored.DTYPES[own]), own), kind, name)
