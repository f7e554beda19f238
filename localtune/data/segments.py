"""Segments in one safetensors file, mapped into memory: data larger than memory is trained on as any other.

The arrays lie end to end: tokens int32 [N], weights float32 [N], offsets int64 [S + 1] (segment s is
offsets[s]:offsets[s + 1]), sources int64 [S]. Opening reads offsets and checks types, sizes and order; tokens and
weights are read when a segment is asked for. `SegmentWriter` appends segments without keeping any, and the file has
its name only once it is whole. Little-endian, as safetensors is.
"""

import contextlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import IO, Any, overload

import numpy as np
import numpy.typing as npt

from localtune.batch import Segment
from localtune.durable import new_file, temporary_of

Longs = npt.NDArray[np.int64]

FORMAT = 1
_KINDS = {"offsets": ("I64", "<i8"), "sources": ("I64", "<i8"), "tokens": ("I32", "<i4"), "weights": ("F32", "<f4")}
"""Arrays in the order of the file, wide ones first so that all are aligned; type there and in numpy."""
_LONGEST_HEADER = 1 << 20
_BLOCK = 1 << 20
"""Weights looked at together, and bytes written together."""


class Segments(Sequence[Segment]):
    """The segments of one file, read when asked for. A segment's arrays are views of the file and read-only."""

    def __init__(self, path: Path) -> None:
        """Raises `OSError`, `ValueError` or `LookupError` for a file that is missing, torn or foreign."""
        arrays = _mapped(path)
        self._tokens, self._weights = arrays["tokens"], arrays["weights"]
        self._offsets: Longs = arrays["offsets"]
        self.sources: Longs = arrays["sources"]
        """int64 [S]: the row each segment comes from."""
        self._check()

    def __len__(self) -> int:
        return len(self.sources)

    @overload
    def __getitem__(self, index: int) -> Segment: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Segment, ...]: ...
    def __getitem__(self, index: int | slice) -> Segment | tuple[Segment, ...]:
        if isinstance(index, slice):
            return tuple(self._segment(i) for i in range(len(self))[index])
        return self._segment(range(len(self))[index])

    def __iter__(self) -> Iterator[Segment]:
        return map(self._segment, range(len(self)))

    @property
    def tokens_total(self) -> int:
        """N: tokens of all segments together."""
        return int(self._offsets[-1])

    @cached_property
    def lengths(self) -> Longs:
        """int64 [S]: tokens of each segment."""
        return np.diff(self._offsets)

    @cached_property
    def targets(self) -> Longs:
        """int64 [S]: how many tokens of each segment are learned. Reads all weights once, in blocks."""
        before, seen = np.zeros(len(self._offsets), np.int64), 0
        for start in range(0, len(self._weights), _BLOCK):
            counts = np.cumsum(self._weights[start : start + _BLOCK] != 0, dtype=np.int32)
            first, last = np.searchsorted(self._offsets, [start, start + len(counts)], "right")
            before[first:last] = counts[self._offsets[first:last] - start - 1] + seen
            seen += int(counts[-1])
        return np.diff(before)

    def _segment(self, i: int) -> Segment:
        start, stop = self._offsets[i], self._offsets[i + 1]
        return Segment(self._tokens[start:stop], self._weights[start:stop], int(self.sources[i]))

    def _check(self) -> None:
        offsets, count = self._offsets, len(self._tokens)
        if len(offsets) != len(self.sources) + 1 or len(self._weights) != count:
            raise ValueError("its offsets do not fit its arrays, which differ in length")
        if offsets[0] != 0 or offsets[-1] != count or (self.lengths < 0).any():
            raise ValueError("its offsets do not fit its tokens")


def lengths(segments: Sequence[Segment]) -> Longs:
    """int64 [S]: tokens of each segment."""
    if isinstance(segments, Segments):
        return segments.lengths
    return np.fromiter((len(segment.tokens) for segment in segments), np.int64, len(segments))


def targets(segments: Sequence[Segment]) -> Longs:
    """int64 [S]: how many tokens of each segment are learned."""
    if isinstance(segments, Segments):
        return segments.targets
    return np.fromiter((segment.targets for segment in segments), np.int64, len(segments))


class SegmentWriter:
    """Writes a file of segments one by one; memory does not grow with their number.

    A context manager. The file appears at the end of the block, and not at all when the block ends with an error;
    parts lie beside it until then, and take up to half of the room once more while they are put together.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._parts: dict[str, IO[bytes]] = {}
        self._count, self._total = 0, 0

    def __enter__(self) -> "SegmentWriter":
        try:
            for name in _KINDS:
                self._parts[name] = self._part(name).open("w+b", buffering=1 << 20)
        except BaseException:
            self._drop()
            raise
        self._put("offsets", [0])
        return self

    def append(self, segment: Segment) -> None:
        """One more segment. Raises `OSError` when the disk is full."""
        self._count, self._total = self._count + 1, self._total + len(segment.tokens)
        self._put("tokens", segment.tokens)
        self._put("weights", segment.weights)
        self._put("offsets", [self._total])
        self._put("sources", [segment.source])

    def extend(self, segments: Iterable[Segment]) -> None:
        """Several more."""
        for segment in segments:
            self.append(segment)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._assemble()
        finally:
            self._drop()

    def _part(self, name: str) -> Path:
        return temporary_of(self._path.with_name(f"{self._path.name}.{name}"))

    def _put(self, name: str, values: Any) -> None:
        self._parts[name].write(np.ascontiguousarray(values, _KINDS[name][1]).data)

    def _assemble(self) -> None:
        counts = {"offsets": self._count + 1, "sources": self._count, "tokens": self._total, "weights": self._total}
        header, sizes = _header(counts), [np.dtype(code).itemsize * counts[name] for name, (_, code) in _KINDS.items()]
        with new_file(self._path, len(header) + sum(sizes)) as whole:
            whole.write(header)
            for name, part in self._parts.items():
                part.seek(0)
                shutil.copyfileobj(part, whole, _BLOCK)
                part.close()
                self._part(name).unlink()

    def _drop(self) -> None:
        for name, part in self._parts.items():
            with contextlib.suppress(OSError):  # the disk is full: what could not be flushed is not wanted
                part.close()
            self._part(name).unlink(missing_ok=True)


def write(segments: Iterable[Segment], path: Path) -> None:
    """`segments` as the file `path`."""
    with SegmentWriter(path) as writer:
        writer.extend(segments)


def _header(counts: Mapping[str, int]) -> bytes:
    entries: dict[str, Any] = {"__metadata__": {"format": str(FORMAT)}}
    start = 0
    for name, (kind, code) in _KINDS.items():
        stop = start + counts[name] * np.dtype(code).itemsize
        entries[name] = {"dtype": kind, "shape": [counts[name]], "data_offsets": [start, stop]}
        start = stop
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _mapped(path: Path) -> dict[str, npt.NDArray[Any]]:
    """The four arrays of the safetensors file `path`, as views of it."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if not 2 <= size <= min(_LONGEST_HEADER, path.stat().st_size - 8):
            raise ValueError("it is torn or not a safetensors file")
        header = json.loads(file.read(size).decode("utf-8"))
    content = np.asarray(np.memmap(path, np.uint8, "r"))[8 + size :]
    arrays = {name: _array(content, header[name], *kinds) for name, kinds in _KINDS.items()}
    if sum(array.nbytes for array in arrays.values()) != len(content):
        raise ValueError("it is torn: its size is not what its header says")
    return arrays


def _array(content: npt.NDArray[np.uint8], entry: Mapping[str, Any], kind: str, code: str) -> npt.NDArray[Any]:
    (start, stop), shape = entry["data_offsets"], entry["shape"]
    if entry["dtype"] != kind or len(shape) != 1:
        raise ValueError("its arrays are of other types or shapes")
    if not 0 <= start <= stop <= len(content) or stop - start != shape[0] * np.dtype(code).itemsize:
        raise ValueError("it is torn: an array lies beyond its end")
    return content[start:stop].view(code)
