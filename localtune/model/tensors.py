"""Which tensors a model's weights hold, read from safetensors headers alone.

The format (safetensors, "Format"): 8 bytes little-endian header length, a JSON object of name -> dtype, shape and
data_offsets, then the data. Held exactly: the header is inside the file, every dtype is known,
shape times item size is the length of the data, the data lies gapless without overlap and ends with the file, no name
is there twice in one file or in two. At most the header is read. A header is at most 16 MB here, where the format would
allow 100, and holds at most the values that `json_object` allows, some 80,000 matrices in one file, for reading it
takes memory. Sizes are bytes.
"""

import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from localtune.errors import InputError, Problem
from localtune.model.json_object import parse_object, read_object

HEADER_LIMIT = 16_000_000
INDEX_LIMIT = 16_000_000
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"

BITS = {
    **{"BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8},
    **{"F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32},
    **{"F32": 32, "C64": 64, "F64": 64, "I64": 64, "U64": 64},
}
"""Bits of an element, by the header's name of its type."""

_SHARD = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,200}\.safetensors")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_FRESH = "download the file again"


@dataclass(frozen=True)
class TensorInfo:
    """One tensor as the safetensors header states it."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    """As in the header: F32, BF16, F16, I8, …"""
    size: int
    """Bytes."""
    shard: str
    """File name."""


def read_tensors(folder: Path) -> tuple[TensorInfo, ...]:
    """Every tensor of the model in `folder`: those of model.safetensors, or of the shards its index names.

    Raises `InputError`: model.no-weights, .pickle, .index, .shard, .truncated, .safetensors.
    """
    found: dict[str, TensorInfo] = {}
    index = _index(folder)
    for shard in sorted(set(index.values())) if index else [WEIGHTS]:
        for tensor in read_header(folder / shard):
            if tensor.name in found:
                what = f"{tensor.name[:200]!r} is in {found[tensor.name].shard} too"
                raise InputError(Problem("model.shard", what, shard, fix="get a fresh copy of the weights"))
            found[tensor.name] = tensor
    for name, shard in index.items():
        if name not in found or found[name].shard != shard:
            raise InputError(Problem("model.shard", f"{shard} does not hold {name[:200]!r}", INDEX, fix=_FRESH))
    return tuple(found.values())


def read_header(path: Path) -> tuple[TensorInfo, ...]:
    """The tensors of one safetensors file, in the order of their data. Raises `InputError`."""
    try:
        if path.exists() and not path.is_file():  # a pipe would never end
            raise _refusal(path.name, "is not a regular file")
        with path.open("rb") as file:
            return parse_header(file, os.fstat(file.fileno()).st_size, path.name)
    except OSError as error:
        raise _refusal(path.name, f"cannot be read: {error.strerror}") from None


def parse_header(file: BinaryIO, size: int, name: str) -> tuple[TensorInfo, ...]:
    """As `read_header`, of the `size` bytes of `file`, which is called `name`."""
    length = int.from_bytes(file.read(8), "little")
    _check_length(name, size, length)
    content = file.read(length)
    if content[:1] != b"{":
        raise _refusal(name, "is not a safetensors file: its header is not a JSON object")
    header = parse_object(content, name)
    header.pop("__metadata__", None)
    entries = sorted((_entry(name, key, value) for key, value in header.items()), key=lambda entry: entry[0])
    return tuple(_gapless(name, entries, 8 + length, size))


def _check_length(name: str, size: int, length: int) -> None:
    if size < 8:
        raise _truncated(name, f"is {size} bytes long; a safetensors file has at least 8")
    if length > HEADER_LIMIT:
        what = f"claims a header of {length:,} bytes; {HEADER_LIMIT:,} is the most there may be"
        fix = "check that it is a safetensors file; weights in more files have shorter headers"
        raise InputError(Problem("model.safetensors", what, name, fix=fix))
    if 8 + length > size:
        raise _truncated(name, f"is {size:,} bytes long, its header alone needs {8 + length:,}")


def _entry(file: str, name: str, value: Any) -> tuple[tuple[int, int], TensorInfo]:
    """Offsets in the data, and the tensor they hold."""
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise _refusal(file, f"{name[:200]!r} has no dtype, shape and data_offsets")
    if any("\ud800" <= letter <= "\udfff" for letter in name):
        raise _refusal(file, f"{name[:200]!r} holds half a character, which is no text")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BITS:
        raise _refusal(file, f"{name[:200]!r} has the unknown type {str(dtype)[:40]}")
    if not _naturals(shape) or len(shape) > 16:
        raise _refusal(file, f"{name[:200]!r} has no valid shape")
    if not _naturals(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise _refusal(file, f"{name[:200]!r} has no valid data_offsets")
    length, bits = offsets[1] - offsets[0], math.prod(shape) * BITS[dtype]
    if bits != 8 * length:
        what = f"{name[:200]!r} is {' x '.join(map(str, shape)) or 'one'} of {dtype}, but has {length:,} bytes of data"
        raise _refusal(file, what)
    return (offsets[0], offsets[1]), TensorInfo(name, tuple(shape), dtype, length, file)


def _naturals(value: Any) -> bool:
    return isinstance(value, list) and all(type(number) is int and 0 <= number < 2**63 for number in value)


def _gapless(
    file: str, entries: list[tuple[tuple[int, int], TensorInfo]], start: int, size: int
) -> Iterator[TensorInfo]:
    position = 0
    for (begin, end), tensor in entries:
        if begin != position:
            fault = "overlaps the data before it" if begin < position else "leaves a gap before it"
            raise _refusal(file, f"{tensor.name[:200]!r} starts at {begin:,} and {fault}, which ends at {position:,}")
        position = end
        yield tensor
    if start + position > size:
        raise _truncated(file, f"is {size:,} bytes long, its tensors need {start + position:,}")
    if start + position < size:
        raise _refusal(file, f"has {size - start - position:,} bytes after its last tensor")


def _index(folder: Path) -> dict[str, str]:
    """Tensor -> shard, empty for a single file."""
    single, index = (folder / WEIGHTS).is_file(), folder / INDEX
    if not index.is_file():
        if single:
            return {}
        raise InputError(_no_weights(folder))
    weight_map = shards_of(read_object(index, INDEX_LIMIT))
    for shard in sorted(set(weight_map.values())):
        if not (folder / shard).is_file():
            raise InputError(Problem("model.shard", "is missing; the index names it", shard, fix=_FRESH))
    if single and set(weight_map.values()) != {WEIGHTS}:
        what = f"holds both {WEIGHTS} and the shards of {INDEX}; programs differ in which they load"
        raise InputError(Problem("model.two-sets", what, folder.name, fix="make a copy with only one of them"))
    return weight_map


def shards_of(index: Mapping[str, Any]) -> dict[str, str]:
    """Tensor -> shard by the content of an index: plain names of files beside it. Raises `InputError`."""
    weight_map = index.get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise InputError(Problem("model.index", "has no weight_map", INDEX, fix=_FRESH))
    for shard in weight_map.values():
        if not isinstance(shard, str) or not _SHARD.fullmatch(shard):
            what = f"names the shard {str(shard)[:200]!r}; a file beside it ending in .safetensors is allowed"
            raise InputError(Problem("model.index", what, INDEX, fix="do not use this model: its files are not honest"))
    return dict(weight_map)


def _no_weights(folder: Path) -> Problem:
    names = sorted(path.name for path in folder.iterdir())
    pickled = [name for name in names if name.endswith(_PICKLES)]
    if pickled:
        what = f"holds only pickled weights ({', '.join(pickled[:3])}), which can run code when they are opened"
        fix = "use a copy of the model with model.safetensors, or convert it once: https://hf.co/spaces/safetensors/convert"
        return Problem("model.pickle", what, folder.name, fix=fix)
    if "adapter_model.safetensors" in names:
        what = "is an adapter, not a model"
        return Problem("model.adapter", what, folder.name, fix="pass the model named in its adapter_config.json")
    gguf = next((name for name in names if name.endswith(".gguf")), None)
    what = f"holds no {WEIGHTS}" + (f"; {gguf} is for answering, not for training" if gguf else "")
    return Problem("model.no-weights", what, folder.name, fix="pass the model's original folder or hub id")


def _truncated(name: str, what: str) -> InputError:
    return InputError(Problem("model.truncated", what, name, fix=f"{_FRESH}: it was cut short"))


def _refusal(name: str, what: str) -> InputError:
    return InputError(Problem("model.safetensors", what, name, fix=_FRESH))
