"""Weights read from and written to safetensors in blocks of rows, as float32; a whole model is never held.

Reading maps the files, so that their pages belong to the system's cache and anonymous memory stays at a few `BLOCK`.
Exact: every F32, F16 and BF16 value is a float32. Encoding rounds once, to nearest and ties to even (IEEE 754; BF16 is
the upper half of a float32): NaN stays NaN, infinities stay, and a finite value too large for the type is an error. A
row is all values of one index of the first dimension; a tensor without dimensions is one row.
"""

import json
import math
import mmap
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import numpy.typing as npt

from localtune.batch import Floats
from localtune.durable import new_file
from localtune.errors import InputError, Problem
from localtune.model.tensors import BITS, TensorInfo, read_header

BLOCK = 2 << 20
"""Bytes of float32 in a block, and of a piece that is copied as it lies: what a processor's cache holds is quickest."""

DTYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2")}
"""How numpy reads the types that hold weights; BF16 as its 16 bits."""

_EXPONENT = {"F16": 0x7C00, "BF16": 0x7F80}
"""Bits of infinity without its sign."""

Piece = bytes | memoryview | npt.NDArray[Any]


class Stored(Protocol):
    """Tensors in the safetensors files of a folder: `ModelFiles`, or one file by `one_file`."""

    @property
    def folder(self) -> Path:
        """Where the files lie."""

    @property
    def tensors(self) -> tuple[TensorInfo, ...]:
        """Every tensor, those of a file in the order of their data."""


@dataclass(frozen=True)
class OneFile:
    """A safetensors file on its own."""

    folder: Path
    tensors: tuple[TensorInfo, ...]


def one_file(path: Path) -> OneFile:
    """The file `path`, by its header. Raises `InputError` for one that is damaged."""
    return OneFile(path.parent, read_header(path))


class ByName:
    """Tensors found by their names, in the order of the files."""

    _tensors: dict[str, TensorInfo]

    def __getitem__(self, name: str) -> TensorInfo:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __contains__(self, name: object) -> bool:
        return name in self._tensors

    def __len__(self) -> int:
        return len(self._tensors)


class Weights(ByName):
    """Reads tensors by name. Files are mapped when first needed."""

    def __init__(self, stored: Stored) -> None:
        self._folder = stored.folder
        self._tensors = {tensor.name: tensor for tensor in stored.tensors}
        self._sizes: dict[str, int] = {}
        self._offsets: dict[str, int] = {}
        for tensor in stored.tensors:
            self._offsets[tensor.name] = self._sizes.get(tensor.shard, 0)
            self._sizes[tensor.shard] = self._offsets[tensor.name] + tensor.size
        self._maps: dict[str, memoryview] = {}

    def raw(self, name: str) -> memoryview:
        """The bytes of a tensor as they lie in its file, read when looked at."""
        tensor, offset = self[name], self._offsets[name]
        return self._data(tensor.shard)[offset : offset + tensor.size]

    def rows(self, name: str, start: int, stop: int) -> Floats:
        """Rows `start` to `stop`, float32 [stop - start, ...], an array of its own.

        Raises `InputError` for a type that is not F32, F16 or BF16, `IndexError` for rows that are not there.
        """
        tensor = self[name]
        if tensor.dtype not in DTYPES:
            what = f"is stored as {tensor.dtype}; F32, F16 and BF16 can be read"
            raise InputError(Problem("model.dtype", what, name, fix="use the model's original 16-bit weights"))
        shape = tensor.shape or (1,)
        if not 0 <= start <= stop <= shape[0]:
            raise IndexError(f"rows {start} to {stop} of {name}, which has {shape[0]}")
        row = tensor.size // shape[0] if shape[0] else 0
        stored = np.ndarray((stop - start, *shape[1:]), DTYPES[tensor.dtype], self.raw(name)[start * row : stop * row])
        return decode(stored, tensor.dtype)

    def matrix(self, name: str, kind: np.dtype[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
        """A tensor's bytes as they lie in its file, read as an array of `kind` and `shape`, which fill them."""
        return np.ndarray(shape, kind, self.raw(name))

    def floats(self, name: str, shape: tuple[int, ...], start: int, stop: int) -> Floats:
        """Rows `start` to `stop`, float32, of a tensor of F32, F16 or BF16 seen as one of `shape`."""
        kind = self[name].dtype
        return decode(self.matrix(name, DTYPES[kind], shape)[start:stop], kind)

    def blocks(self, name: str) -> Iterator[tuple[int, Floats]]:
        """First row and float32 rows of every block of a tensor, in order: at most `BLOCK` bytes, or one row."""
        shape = self[name].shape or (1,)
        step = max(1, BLOCK // max(1, 4 * math.prod(shape[1:])))
        for start in range(0, shape[0], step):
            yield start, self.rows(name, start, min(start + step, shape[0]))

    def pieces(self, name: str) -> Iterator[memoryview]:
        """The bytes of a tensor as they lie in its file, at most `BLOCK` at a time."""
        data = self.raw(name)
        for start in range(0, len(data), BLOCK):
            yield data[start : start + BLOCK]

    def _data(self, shard: str) -> memoryview:
        """What follows the header of a file; its size must still be what the header said."""
        if shard not in self._maps:
            with (self._folder / shard).open("rb") as file:
                size, start = os.fstat(file.fileno()).st_size, 8 + int.from_bytes(file.read(8), "little")
                if size != start + self._sizes[shard]:
                    what = "is no longer the file that was looked at first"
                    fix = "start again, and leave the file alone while it is read"
                    raise InputError(Problem("model.changed", what, shard, fix=fix))
                self._maps[shard] = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))[start:]
        return self._maps[shard]


def decode(stored: npt.NDArray[Any], dtype: str) -> Floats:
    """The float32 values of an array of `DTYPES[dtype]`, as an array of its own; exact."""
    if dtype != "BF16":
        return stored.astype(np.float32)
    bits = stored.astype(np.uint32)
    bits <<= 16
    return bits.view(np.float32)


def encode(values: Floats, dtype: str, name: str = "") -> npt.NDArray[Any]:
    """`values` rounded to F32, F16 or BF16, as an array whose bytes are the file's.

    Raises `InputError` (code weights.overflow, `name` as its place) when a finite value is too large for the type.
    """
    values = np.ascontiguousarray(values, DTYPES["F32"])
    if dtype == "F32":
        return values
    with np.errstate(over="ignore"):
        encoded = _upper_half(values) if dtype == "BF16" else values.astype(DTYPES[dtype])
    infinite: npt.NDArray[np.bool_] = (encoded.view(np.uint16) & 0x7FFF) == _EXPONENT[dtype]
    if infinite.any() and np.isfinite(values[infinite]).any():
        largest = np.max(np.abs(values[infinite & np.isfinite(values)]))
        what = f"the weight {largest:g} is too large for {dtype}"
        fix = f"use a {'bfloat16 or ' if dtype == 'F16' else ''}float32 copy of the base"
        raise InputError(Problem("weights.overflow", what, name, fix=fix))
    return encoded


def _upper_half(values: Floats) -> npt.NDArray[np.uint16]:
    """BF16 bits of float32 values: half of the last place is added, less one where that place is even."""
    bits = values.view(np.uint32)
    rounded = bits >> 16
    rounded &= 1
    rounded += bits
    rounded += 0x7FFF
    rounded >>= 16
    halves = rounded.astype(DTYPES["BF16"])
    nan = np.isnan(values)
    if nan.any():
        halves[nan] = (bits[nan] >> 16) | 0x40
    return halves


def write_shard(path: Path, tensors: Sequence[TensorInfo], content: Callable[[TensorInfo], Iterator[Piece]]) -> None:
    """Write a safetensors file of `tensors` in their order, each from the pieces that `content` yields for it.

    What is at `path` already is replaced when the new file is whole. Raises `NoRoom` for a smaller disk, `ValueError`
    when shape, type, size and pieces of a tensor contradict each other, and what `content` raises.
    """
    header = _header(tensors)
    with new_file(path, len(header) + sum(tensor.size for tensor in tensors)) as file:
        file.write(header)
        for tensor in tensors:
            written = sum(_write(file, piece) for piece in content(tensor))
            if written != tensor.size:
                raise ValueError(f"{tensor.name} got {written} bytes, its header says {tensor.size}")


def _header(tensors: Sequence[TensorInfo]) -> bytes:
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    position = 0
    for tensor in tensors:
        if 8 * tensor.size != math.prod(tensor.shape) * BITS[tensor.dtype] or tensor.name in entries:
            raise ValueError(f"{tensor.name} is there twice, or {tensor.size} bytes are not {tensor.shape}")
        offsets = [position, position + tensor.size]
        entries[tensor.name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": offsets}
        position += tensor.size
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _write(file: BinaryIO, piece: Piece) -> int:
    data = piece.data if isinstance(piece, np.ndarray) else memoryview(piece)
    file.write(data)
    return data.nbytes
