"""The grids that a frozen base is stored on to train: which of its weights, as which tensors, in which layout.

MLX's are written as mlx-lm reads them (`X.weight` of words, `X.scales`, in the affine mode `X.biases`, `quantization`
in config.json), NF4 as transformers reads bitsandbytes' (`X.weight` of bytes, its absmax, table and state). On a base
of 16 bits they hold every linear layer inside the blocks, which is what the backends store so.
"""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn, Protocol

import numpy as np
import numpy.typing as npt

from localtune.batch import Floats
from localtune.errors import InputError, Problem
from localtune.model import ModelFiles
from localtune.model.mlx_layout import dequantized, scales_of
from localtune.model.quantisers import NF4, NF4_BLOCK, nf4, nf4_values, packed_codes, quantized
from localtune.model.quantized import BITS, GROUPS, Packing
from localtune.model.tensors import TensorInfo
from localtune.model.weights import DTYPES, decode, encode

Arrays = list[npt.NDArray[Any]]
"""The content of some rows of a weight's tensors, in their order."""


class Grid(Protocol):
    """How weights are stored in few bits."""

    def has(self, tensor: TensorInfo) -> bool:
        """Whether the weight `tensor` is stored on the grid."""

    def multiple(self, tensor: TensorInfo) -> int:
        """Rows that must be quantised together."""

    def parts(self, tensor: TensorInfo) -> tuple[TensorInfo, ...]:
        """The tensors that stand for `tensor`, the codes first."""

    def fixed(self, tensor: TensorInfo) -> Arrays:
        """The content of the last parts, which no value decides."""

    def quantised(self, tensor: TensorInfo, values: Floats) -> tuple[Arrays, Floats]:
        """The content of the other parts for rows of values, and the values that it stands for."""

    def state(self, config: dict[str, Any]) -> None:
        """Say in a configuration how the weights are stored."""


@dataclass(frozen=True)
class MlxGrid:
    """A mode of MLX."""

    packings: Mapping[str, Packing]
    """By the name of a weight."""
    dtypes: Mapping[str, str]
    """Type of scales and biases of the affine mode, by the name of a weight."""
    stated: bool
    """The configuration says it already."""

    def has(self, tensor: TensorInfo) -> bool:
        """Whether the weight `tensor` is stored on the grid."""
        return tensor.name in self.packings

    def multiple(self, tensor: TensorInfo) -> int:
        """Groups lie within rows."""
        return 1

    def parts(self, tensor: TensorInfo) -> tuple[TensorInfo, ...]:
        """Words, scales and biases."""
        how, (rows, width) = self.packings[tensor.name], tensor.shape
        module, groups = tensor.name.removesuffix(".weight"), width // how.group_size
        words = _tensor(tensor, tensor.name, (rows, width * how.bits // 32), "U32", 4)
        if how.mode != "affine":
            return words, _tensor(tensor, f"{module}.scales", (rows, groups), "U8", 1)
        kind = self.dtypes[tensor.name]
        names = (f"{module}.scales", f"{module}.biases")
        return words, *(_tensor(tensor, name, (rows, groups), kind, DTYPES[kind].itemsize) for name in names)

    def fixed(self, tensor: TensorInfo) -> Arrays:
        """There is none."""
        return []

    def quantised(self, tensor: TensorInfo, values: Floats) -> tuple[Arrays, Floats]:
        """By `mx.quantize`; scales and biases are rounded to their type."""
        how = self.packings[tensor.name]
        codes, scales, biases = quantized(values, how)
        words = packed_codes(codes, how.bits)
        if biases is None:
            return [words, scales], dequantized(codes, scales_of(scales.astype(np.uint8), how.mode), None, how.mode)
        kind = self.dtypes[tensor.name]
        stored = [encode(part.astype(np.float32), kind, tensor.name) for part in (scales, biases)]
        rounded = [decode(part, kind) for part in stored]
        return [words, *stored], dequantized(codes, rounded[0], rounded[1], how.mode)

    def state(self, config: dict[str, Any]) -> None:
        """Under `quantization`, and under the name that newer readers look for."""
        if self.stated:
            return
        common = Counter(self.packings.values()).most_common(1)[0][0]
        group: dict[str, Any] = _shown(common)
        group |= {name.removesuffix(".weight"): _shown(how) for name, how in self.packings.items() if how != common}
        config["quantization"] = config["quantization_config"] = group


@dataclass(frozen=True)
class Nf4Grid:
    """bitsandbytes' NF4 with an absmax in float32 for every 64 values."""

    names: frozenset[str]
    """Of the weights that are stored so."""
    compute: str
    """Type that they compute in: float32, bfloat16 or float16."""

    def has(self, tensor: TensorInfo) -> bool:
        """Whether the weight `tensor` is stored on the grid."""
        return tensor.name in self.names

    def multiple(self, tensor: TensorInfo) -> int:
        """Rows that whole blocks of 64 values fill."""
        return NF4_BLOCK // math.gcd(NF4_BLOCK, tensor.shape[1])

    def parts(self, tensor: TensorInfo) -> tuple[TensorInfo, ...]:
        """Codes, absmax, table and state."""
        count = math.prod(tensor.shape)
        return (
            _tensor(tensor, tensor.name, (-(-count // 2), 1), "U8", 1),
            _tensor(tensor, f"{tensor.name}.absmax", (-(-count // NF4_BLOCK),), "F32", 4),
            _tensor(tensor, f"{tensor.name}.quant_map", (16,), "F32", 4),
            _tensor(tensor, f"{tensor.name}.quant_state.bitsandbytes__nf4", (len(self._state(tensor)),), "U8", 1),
        )

    def fixed(self, tensor: TensorInfo) -> Arrays:
        """Table and state."""
        return [NF4, np.frombuffer(self._state(tensor), np.uint8)]

    def quantised(self, tensor: TensorInfo, values: Floats) -> tuple[Arrays, Floats]:
        """By bitsandbytes' `quantize_4bit`."""
        codes, absmax = nf4(values)
        return [codes, absmax], nf4_values(codes, absmax, values.shape)

    def state(self, config: dict[str, Any]) -> None:
        """As transformers writes it."""
        config["quantization_config"] = {
            "quant_method": "bitsandbytes",
            "load_in_4bit": True,
            "load_in_8bit": False,
            "bnb_4bit_quant_type": "nf4",
            "bnb_4bit_use_double_quant": False,
            "bnb_4bit_quant_storage": "uint8",
            "bnb_4bit_compute_dtype": self.compute,
        }

    def _state(self, tensor: TensorInfo) -> bytes:
        stated = {
            "quant_type": "nf4",
            "blocksize": NF4_BLOCK,
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
        }
        return json.dumps(stated).encode()


def grid_of(model: ModelFiles, tensors: Sequence[TensorInfo], storage: str, compute: str) -> Grid:
    """The grid that `model`, whose weights are `tensors` once dequantised, was stored on to train.

    `storage` and `compute` are those of a `Precision`. Raises `InputError` (code requantise.grid) where it was stored
    in 16 or 32 bits, or in a way that is not written here.
    """
    if storage == "checkpoint" and model.config.quantization is not None:
        how = model.config.quantization
        packed = {t.name for t in model.tensors if t.dtype == "U32"}
        chosen = [t for t in tensors if t.name in packed and len(t.shape) == 2]
        packings = {t.name: how.of(t.name.removesuffix(".weight")) for t in chosen}
        return MlxGrid(packings, {t.name: t.dtype for t in chosen}, stated=True)
    linear = [t for t in tensors if _is_linear(t)]
    if any(".experts." in t.name or len(t.shape) > 2 for t in tensors if ".layers." in t.name):
        _refuse(model, "a mixture of experts is not quantised again here")
    if storage == "nf4":
        return Nf4Grid(frozenset(t.name for t in linear), compute)
    if (mode := storage.rstrip("0123456789") if storage.startswith("affine") else storage) in BITS:
        bits = int(storage.removeprefix("affine")) if mode == "affine" else BITS[mode][0]
        packings = {t.name: Packing(mode, bits, _group(model, mode, t)) for t in linear}
        return MlxGrid(packings, dict.fromkeys(packings, _STORED[compute]), stated=False)
    _refuse(model, f"the base was stored as {storage} to train, which is no grid of few bits")


_STORED = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
_NAMES = {stored: name for name, stored in _STORED.items()}


def _is_linear(tensor: TensorInfo) -> bool:
    return ".layers." in tensor.name and tensor.name.endswith(".weight") and len(tensor.shape) == 2


def _group(model: ModelFiles, mode: str, tensor: TensorInfo) -> int:
    """MLX's backend takes 64, else 32, for affine; the others have one size."""
    for size in (64, 32) if mode == "affine" else GROUPS[mode]:
        if tensor.shape[1] % size == 0:
            return size
    _refuse(model, f"no group of {mode} divides the width {tensor.shape[1]} of {tensor.name}")


def _tensor(tensor: TensorInfo, name: str, shape: tuple[int, ...], dtype: str, item: int) -> TensorInfo:
    return replace(tensor, name=name, shape=shape, dtype=dtype, size=item * math.prod(shape))


def _shown(how: Packing) -> dict[str, Any]:
    return {"group_size": how.group_size, "bits": how.bits, "mode": how.mode}


def _refuse(model: ModelFiles, what: str) -> NoReturn:
    fix = "localtune fuse without --requantize"
    raise InputError(Problem("requantise.grid", what, model.name, fix=fix))
