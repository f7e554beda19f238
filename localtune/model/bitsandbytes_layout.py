"""Values of weights as transformers saves them from bitsandbytes: NF4 and FP4 in 4 bits, LLM.int8 in 8.

4 bits (Dettmers et al. 2023): `X.weight`, U8 as a rule, holds two codes a byte, the first in the upper half, over all
values of the matrix in order; value = `X.weight.quant_map`[code] * absmax of its block. The JSON object
`X.weight.quant_state.bitsandbytes__nf4` (or `__fp4`) states shape, type and block sizes. Quantised twice,
`X.weight.absmax` is U8: absmax = nested_quant_map[byte] * nested_absmax of its block + nested_offset. 8 bits (Dettmers
et al. 2022): `X.weight` I8, value = code * `X.SCB` of its row / 127.

Exact: in float32, every product and sum rounded as bitsandbytes rounds it, so equal to its own `dequantize_4bit`,
`dequantize_blockwise` and `int8_vectorwise_dequant` bit for bit.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn, TypeGuard

import numpy as np

from localtune.batch import Floats
from localtune.errors import InputError, Problem
from localtune.model.json_object import parse_object
from localtune.model.packed import Packed
from localtune.model.tensors import TensorInfo
from localtune.model.weights import DTYPES, Weights

TO_UNIT = np.float32(7.874015718698502e-3)
"""bitsandbytes' 1 / 127."""
_STATE = "quant_state.bitsandbytes__"
_STORED = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}


@dataclass(frozen=True)
class _State:
    """What the JSON object beside 4-bit codes says."""

    shape: tuple[int, int]
    """Of the matrix."""
    kind: str
    """Type of the values before quantising: F32, F16 or BF16."""
    block: int
    """Values that share an absmax."""
    nested_block: int
    """Absmax that share one of theirs; 0: they are stored as they are."""
    nested_offset: float
    """Added to each absmax."""


def packed_weights(weights: Weights, dtype: str) -> Iterator[Packed]:
    """Every quantised weight of `weights`; `dtype` (F32, F16 or BF16) is that of the values of 8-bit ones.

    Raises `InputError` (code model.quantized) for tensors that contradict each other.
    """
    for name in weights:
        tensor, module = weights[name], name.removesuffix(".weight")
        states = [f"{name}.{_STATE}{kind}" for kind in ("nf4", "fp4") if f"{name}.{_STATE}{kind}" in weights]
        if states:
            yield _four_bits(weights, tensor, states[0])
        elif f"{module}.SCB" in weights and tensor.dtype == "I8" and module != name:
            yield _eight_bits(weights, tensor, f"{module}.SCB", dtype)


def shapes(tensors: Sequence[TensorInfo], packed: Mapping[str, Packed]) -> tuple[TensorInfo, ...]:
    """`tensors` with the shapes that packed ones stand for, type and size as in the file, and none that lies beside."""
    beside = {name for one in packed.values() for name in one.beside}
    shaped = (replace(t, shape=packed[t.name].plain.shape) if t.name in packed else t for t in tensors)
    return tuple(tensor for tensor in shaped if tensor.name not in beside)


def _four_bits(weights: Weights, tensor: TensorInfo, stated: str) -> Packed:
    state = _state(weights, stated)
    rows, width = state.shape
    parts = [f"{tensor.name}.{part}" for part in ("absmax", "quant_map", "nested_absmax", "nested_quant_map")]
    beside = (stated, *(part for part in parts if part in weights))
    _check_four_bits(weights, tensor, state, parts)
    absmax = _Absmax(weights, state, parts)

    def read(start: int, stop: int) -> Floats:
        first, last = start * width, stop * width
        codes = weights.matrix(tensor.name, np.dtype(np.uint8), (tensor.size,))[first // 2 : -(-last // 2)]
        table = weights.floats(parts[1], (16,), 0, 16)
        pairs = np.stack([table[codes >> 4], table[codes & 15]], axis=-1).reshape(-1)
        values: Floats = pairs[first % 2 :][: last - first].reshape(stop - start, width)
        values *= absmax.of(first, last).reshape(values.shape)
        return values

    size = rows * width * DTYPES[state.kind].itemsize
    return Packed(replace(tensor, shape=state.shape, dtype=state.kind, size=size), read, beside)


@dataclass(frozen=True)
class _Absmax:
    """Largest magnitudes of the blocks of one weight."""

    weights: Weights
    state: _State
    parts: Sequence[str]

    def of(self, first: int, last: int) -> Floats:
        """Those of the values from `first` to before `last`, one a value."""
        block = self.state.block
        start, stop = first // block, -(-last // block)
        each: Floats = np.repeat(self._blocks(start, stop), block)[first - start * block :][: last - first]
        return each

    def _blocks(self, start: int, stop: int) -> Floats:
        name, _, nested, table = self.parts
        count = (self.weights[name].shape[0],)
        if not self.state.nested_block:
            return self.weights.floats(name, count, start, stop)
        size = self.state.nested_block
        table_values: Floats = self.weights.floats(table, (256,), 0, 256)
        codes = self.weights.matrix(name, np.dtype(np.uint8), count)[start:stop]
        scales = self.weights.floats(nested, self.weights[nested].shape, start // size, -(-stop // size))
        found: Floats = table_values[codes]
        found *= np.repeat(scales, size)[start % size :][: stop - start]
        found += np.float32(self.state.nested_offset)
        return found


def _eight_bits(weights: Weights, tensor: TensorInfo, scales: str, dtype: str) -> Packed:
    if len(tensor.shape) != 2 or weights[scales].dtype not in DTYPES or weights[scales].shape != tensor.shape[:1]:
        _refuse(tensor.name, f"does not fit {scales}, which must hold one number for each of its rows")
    form = f"{tensor.name}_format"
    if form in weights and any(bytes(weights.raw(form))):
        _refuse(form, "asks for another order than row by row, which current bitsandbytes does not write")

    def read(start: int, stop: int) -> Floats:
        codes = weights.matrix(tensor.name, np.dtype(np.int8), tensor.shape)[start:stop]
        values = codes.astype(np.float32)
        values *= weights.floats(scales, tensor.shape[:1], start, stop)[:, None]
        values *= TO_UNIT
        return values

    plain = replace(tensor, dtype=dtype, size=tensor.size * DTYPES[dtype].itemsize)
    return Packed(plain, read, tuple(name for name in (scales, form) if name in weights))


def _state(weights: Weights, name: str) -> _State:
    if weights[name].size > 10_000:
        _refuse(name, "is no description of quantised values")
    found = parse_object(bytes(weights.raw(name)), name)
    shape, kind = found.get("shape"), _STORED.get(str(found.get("dtype")))
    block, nested, offset = found.get("blocksize"), found.get("nested_blocksize", 0), found.get("nested_offset", 0.0)
    if not isinstance(shape, list) or len(shape) != 2 or not all(map(_size, shape)) or kind is None:
        _refuse(name, f"has shape {str(shape)[:40]} and dtype {str(found.get('dtype'))[:40]}")
    if not _size(block) or not (nested == 0 or _size(nested)) or type(offset) is not float or not math.isfinite(offset):
        _refuse(name, "has no usable blocksize, nested_blocksize or nested_offset")
    return _State((shape[0], shape[1]), kind, block, nested, offset)


def _size(value: Any) -> TypeGuard[int]:
    return type(value) is int and 0 < value < 2**31


def _check_four_bits(weights: Weights, tensor: TensorInfo, state: _State, parts: Sequence[str]) -> None:
    """Every part is there, of its type and length."""
    values = math.prod(state.shape)
    blocks = -(-values // state.block)
    needed = {parts[0]: ("U8" if state.nested_block else "F32", blocks), parts[1]: ("F32", 16)}
    if state.nested_block:
        needed |= {parts[2]: ("F32", -(-blocks // state.nested_block)), parts[3]: ("F32", 256)}
    for name, (kind, count) in needed.items():
        if name not in weights or weights[name].dtype != kind or weights[name].shape != (count,):
            _refuse(name, f"is not {count} of {kind}, which {tensor.name} needs")
    if tensor.size != -(-values // 2):  # of any type: sharded training keeps the codes as numbers of 16 bits
        _refuse(tensor.name, f"is {tensor.size} bytes; {values} values of 4 bits are {-(-values // 2)}")


def _refuse(name: str, what: str) -> NoReturn:
    fix = "get a fresh copy of the model's files, or quantise the original model again"
    raise InputError(Problem("model.quantized", f"{name[:200]} {what}", fix=fix))
