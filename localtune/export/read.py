"""What a GGUF holds, from its header alone: keys, and tensors with their types and shapes. No weights are read.

The format (GGUF specification, version 3; version 2 is laid out alike): magic, version, two counts, keys with typed
values, tensor infos, aligned data. The file is mapped and every length is checked against the file's own size before it
is used. A header is at most `HEADER` bytes with at most `ITEMS` values in it, whatever the file's size, so that a
hostile file costs a few seconds and less memory than a header has. Long lists, such as the vocabulary, are counted and
not kept; lists hold no lists.
"""

import math
import mmap
import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from localtune.errors import InputError, Problem

KEPT = 256
"""Longest list that is kept."""
HEADER = 128 << 20
"""Bytes; a vocabulary of 260 thousand tokens with its merges takes about 20 MB."""
ITEMS = 5 << 20
"""Keys, tensors and elements of lists together."""
LIST = 1 << 22
"""Elements of a list."""
STRING = 16 << 20
"""Bytes of a string."""
_KEPT_TEXT = 32 << 20
"""Bytes of all strings that are kept."""
_COUNT_LIMIT = 1 << 16
"""Keys or tensors."""
_NAME_LIMIT = 1 << 16
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _LIST = 8, 9
Bytes = bytes | mmap.mmap
_FRESH = "get the file again, or export it again"


@dataclass(frozen=True)
class Listed:
    """A list too long to keep."""

    length: int


@dataclass(frozen=True)
class StoredTensor:
    """One tensor as the header states it."""

    name: str
    shape: tuple[int, ...]
    """Rows first, as numpy has it."""
    kind: str
    """Such as "F16" or "Q8_0"."""
    size: int
    """Bytes."""
    offset: int
    """Where its data begins, in bytes from the beginning of the file."""


@dataclass(frozen=True)
class Summary:
    """A GGUF's header."""

    version: int
    architecture: str
    metadata: Mapping[str, Any]
    """Key -> str, bool, int, float, a tuple of them, or `Listed`."""
    tensors: tuple[StoredTensor, ...]


def read_gguf(path: Path) -> Summary:
    """The header of the file `path`, and that all of its data is there.

    Raises `InputError`: gguf.foreign, .version, .truncated, .damaged, .newer, .no-tensors, .unreadable.
    """
    with _mapped(path) as data:
        return parse_gguf(data, path.name)


def parse_gguf(data: Bytes, name: str) -> Summary:
    """As `read_gguf`, of the bytes of a file called `name`."""
    header = _Header(data, name)
    metadata = {key: value for key, value, _ in header.entries()}
    tensors = tuple(header.tensors(metadata.get("general.alignment", 32)))
    if not tensors:
        what = "holds no tensors: it is a vocabulary or metadata, not a model to chat with"
        raise InputError(Problem("gguf.no-tensors", what, name, fix="pass a GGUF that holds a model"))
    return Summary(header.version, str(metadata.get("general.architecture", "")), metadata, tensors)


def place_of_string(path: Path, key: str) -> tuple[int, int]:
    """Where the string under `key` begins in the file, and its length, in bytes.

    Raises `KeyError` where there is none, and `InputError` as `read_gguf` does.
    """
    with _mapped(path) as data:
        header = _Header(data, path.name)
        for name, value, start in header.entries():
            if name == key and isinstance(value, str):
                return start, header.position - start
    raise KeyError(key)


@contextmanager
def _mapped(path: Path) -> Iterator[Bytes]:
    """The bytes of a regular file: a pipe would never end."""
    try:
        if path.exists() and not path.is_file():
            raise OSError(0, "is not a regular file")
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
    except OSError as error:
        what = f"cannot be read: {error.strerror or error}"
        raise InputError(Problem("gguf.unreadable", what, path.name, fix="check the path")) from None
    try:
        yield data
    finally:
        if isinstance(data, mmap.mmap):
            data.close()


class _Header:
    """A position that walks over the bytes of a file."""

    def __init__(self, data: Bytes, name: str) -> None:
        self._name, self._data, self._size = name, data, len(data)
        self.position = 0
        self.version = 0
        self._counts = (0, 0)
        self._items = 0
        self._text = 0
        self._open()

    def entries(self) -> Iterator[tuple[str, Any, int]]:
        """Key, value, and where the value's data begins. To be walked to its end before `tensors`."""
        seen = set()
        for _ in range(self._counts[1]):
            key = self._string(_NAME_LIMIT)
            if key in seen:
                self._damaged(f"has the key {key[:80]!r} twice")
            seen.add(key)
            kind = self._number("I")
            start = self.position + (8 if kind == _STRING else 0)
            yield key, self._value(kind), start

    def tensors(self, alignment: Any) -> Iterator[StoredTensor]:
        """Every tensor; that its data lies inside the file is checked."""
        if type(alignment) is not int or not 8 <= alignment <= 1 << 20 or alignment & (alignment - 1):
            self._damaged("states no usable general.alignment")
        infos = [self._tensor() for _ in range(self._counts[0])]
        if len({info.name for info in infos}) != len(infos):
            self._damaged("has two tensors of one name")
        start = self.position + -self.position % alignment
        for info in infos:
            if info.offset % alignment:
                self._damaged(f"{info.name[:80]!r} does not begin at a multiple of {alignment}")
            if start + info.offset + info.size > self._size:
                self._truncated(start + info.offset + info.size)
            yield StoredTensor(info.name, info.shape, info.kind, info.size, start + info.offset)

    def _open(self) -> None:
        if self._data[:4] != b"GGUF":
            what = f"is no GGUF: it is {self._size:,} bytes long and begins with {bytes(self._data[:4])!r}"
            raise InputError(Problem("gguf.foreign", what, self._name, fix="pass a .gguf file, or a model's folder"))
        self.position = 4
        self.version = self._number("I")
        if self.version not in (2, 3):
            big = self.version in (2 << 24, 3 << 24)
            what = "is big-endian" if big else f"is GGUF version {self.version}"
            fix = "convert the model again with a present llama.cpp"
            raise InputError(Problem("gguf.version", f"{what}; versions 2 and 3 can be read", self._name, fix=fix))
        self._counts = (self._number("Q"), self._number("Q"))
        if max(self._counts) > _COUNT_LIMIT:
            self._damaged(f"states {self._counts[0]:,} tensors and {self._counts[1]:,} keys")
        self._count(sum(self._counts))

    def _tensor(self) -> StoredTensor:
        import gguf

        name = self._string(_NAME_LIMIT)
        dimensions = self._number("I")
        if not 1 <= dimensions <= 4:
            self._damaged(f"{name[:80]!r} has {dimensions} dimensions")
        shape = tuple(self._number("Q") for _ in range(dimensions))[::-1]
        number, offset = self._number("I"), self._number("Q")
        try:
            kind = gguf.GGMLQuantizationType(number)
            block, size = gguf.GGML_QUANT_SIZES[kind]
        except (ValueError, KeyError):
            what = f"holds {name[:80]!r} in the number format {number}: the file is newer than this program, or damaged"
            fix = "update localtune, or get the model in another format, such as Q8_0"
            raise InputError(Problem("gguf.newer", what, self._name, fix=fix)) from None
        if shape[-1] % block or math.prod(shape) > 1 << 48:
            self._damaged(f"{name[:80]!r} of type {kind.name} has the shape {list(shape)}")
        return StoredTensor(name, shape, kind.name, math.prod(shape) // block * size, offset)

    def _value(self, kind: int) -> Any:
        if kind == _LIST:
            return self._list(self._number("I"), self._number("Q"))
        return self._single(kind)

    def _single(self, kind: int) -> Any:
        if kind == _STRING:
            return self._string(STRING)
        if kind not in _SCALARS:
            self._damaged(f"has a value of the unknown type {kind}")
        return self._number(_SCALARS[kind])

    def _list(self, kind: int, length: int) -> Any:
        if kind == _LIST:
            self._damaged("has a list of lists")
        if length > LIST:
            self._damaged(f"has a list of {length:,} elements")
        self._count(length)
        if length <= KEPT:
            return tuple(self._single(kind) for _ in range(length))
        if kind in _SCALARS:
            self._take(length * struct.calcsize("<" + _SCALARS[kind]))
        elif kind == _STRING:
            for _ in range(length):
                self._take(self._bounded(STRING))
        else:
            self._damaged(f"has a list of the unknown type {kind}")
        return Listed(length)

    def _count(self, items: int) -> None:
        self._items += items
        if self._items > ITEMS:
            self._damaged(f"states more than {ITEMS:,} values in its header")

    def _string(self, limit: int) -> str:
        length = self._bounded(limit)
        self._text += length
        if self._text > _KEPT_TEXT:
            self._damaged(f"has more than {_KEPT_TEXT >> 20} MiB of text in its header")
        start = self._take(length)
        return self._data[start : self.position].decode("utf-8", "replace")

    def _bounded(self, limit: int) -> int:
        """The length of a string."""
        length = int(self._number("Q"))
        if length > limit:
            self._damaged(f"has a string of {length:,} bytes where {limit:,} are the most")
        return length

    def _number(self, form: str) -> Any:
        start = self._take(struct.calcsize("<" + form))
        return struct.unpack_from("<" + form, self._data, start)[0]

    def _take(self, length: int) -> int:
        """Step over `length` bytes; where they began."""
        start = self.position
        if length > self._size - start:
            self._truncated(start + length)
        if start + length > HEADER:
            self._damaged(f"has a header of more than {HEADER >> 20} MiB")
        self.position += length
        return start

    def _truncated(self, needed: int) -> NoReturn:
        what = f"is cut short: it is {self._size:,} bytes long and its header needs {needed:,}"
        raise InputError(Problem("gguf.truncated", what, self._name, fix=_FRESH))

    def _damaged(self, what: str) -> NoReturn:
        raise InputError(Problem("gguf.damaged", what, self._name, fix=_FRESH))
