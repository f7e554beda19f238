"""Writing GGUF files: header, keys and tensor infos by gguf's writer, then the weights in blocks of rows.

Several files of one model are written together: each block is read once, turned into the bytes of every file on the
processor's cores, and written in its order. Held in memory are the vocabulary and the blocks under way, whatever the
model. A file has room under the key `localtune.proof` for what is only known once it has been checked: `set_string`
writes there in place.
"""

import errno
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import gguf
import numpy as np
from gguf import GGMLQuantizationType

from localtune.batch import Floats
from localtune.durable import FULL, NoRoom, require_room, reserve
from localtune.errors import LocaltuneError, MachineError, Problem, ResourceError
from localtune.export import Exportable, encodings
from localtune.export.fingerprint import base_key
from localtune.export.identity import Identity
from localtune.export.kernel import kernel
from localtune.export.keys import add_key
from localtune.export.placed import Conversion, Placed
from localtune.export.read import place_of_string
from localtune.export.values import values_of
from localtune.model.plain import plain_weights
from localtune.score import nothing_asked
from localtune.threads import in_order, threads

PROOF = "localtune.proof"
PROOF_ROOM = 1024
"""Bytes."""
_ALIGNMENT = 32
_EACH, _MOST = 8 << 20, 256 << 20
"""Bytes of float32 that are read and not written yet, for each thread and together; a larger block is alone."""

Encoded = Mapping[GGMLQuantizationType, bytes]


def write_gguf(exportable: Exportable, path: Path, encoding: str, identity: Identity) -> None:
    """Write a model as one GGUF; as `write_ggufs`."""
    write_ggufs(exportable, {encoding: path}, identity)


def write_ggufs(
    exportable: Exportable, files: Mapping[str, Path], identity: Identity, heed: Callable[[], None] = nothing_asked
) -> None:
    """Write a model once per encoding of `files` under their temporary names, all gone again when this fails.

    The room for all of them is asked for, and where the system can is taken, before the first weight is written.
    `heed` is called between blocks and may raise to end the work. Raises `InputError` for weights that cannot be read
    or written in an encoding, `ResourceError` where the files do not fit the disk, and `MachineError` for another
    refusal of the system.
    """
    try:
        with _open(exportable, files, identity) as targets:
            _write_tensors(exportable, targets, heed)
            for target in targets:
                target.finish()
    except BaseException:
        for path in files.values():
            with suppress(OSError):
                path.unlink(missing_ok=True)
        raise


def set_string(path: Path, key: str, value: str) -> None:
    """Replace the string under `key` in place, padded with blanks to the length it had.

    Raises `KeyError` where the file has no such string, `ValueError` when `value` is longer, and `InputError` for a
    file that is no whole GGUF.
    """
    start, room = place_of_string(path, key)
    content = value.encode("utf-8")
    if len(content) > room:
        raise ValueError(f"{key} has room for {room} bytes, not for {len(content)}")
    with path.open("r+b") as file:
        file.seek(start)
        file.write(content.ljust(room, b" "))
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _open(exportable: Exportable, files: Mapping[str, Path], identity: Identity) -> Iterator[list["_Target"]]:
    """The files with everything before their weights."""
    keys = {
        "general.type": "model",
        **exportable.conversion.metadata,
        **exportable.vocabulary.metadata(),
        **base_key(exportable.model, exportable.conversion),
        "general.quantization_version": gguf.GGML_QUANT_VERSION,
        PROOF: " " * PROOF_ROOM,
    }
    targets: list[_Target] = []
    try:
        for name, path in files.items():
            rounded = name not in ("F32", "F16", "BF16")
            file_type = {"general.file_type": int(encodings.known(name).file_type)}
            own = keys | identity.metadata(quantized=rounded) | file_type | _named(exportable, identity)
            target = _Target(path, exportable.conversion.architecture, exportable.types[name].kinds)
            targets.append(target)
            target.begin(exportable.conversion, own)
        for folder in {target.path.parent for target in targets}:
            beside = [target for target in targets if target.path.parent == folder]
            with _told(beside[0].path):
                require_room(folder, sum(target.size for target in beside))
        for target in targets:
            target.reserve()
        yield targets
    finally:
        for target in targets:
            target.close()


def _named(exportable: Exportable, identity: Identity) -> dict[str, str]:
    """The name, where llama.cpp reads texts right only by what it contains."""
    needed = exportable.vocabulary.named
    return {"general.name": f"{identity.name} ({needed})"} if needed else {}


class _Target:
    """One file while it is written; whatever the system refuses is told with its folder."""

    def __init__(self, path: Path, architecture: str, kinds: Mapping[str, GGMLQuantizationType]) -> None:
        self.kinds, self.path = kinds, path
        self.size = 0
        """Bytes of the whole file, once it has begun."""
        self._writer = gguf.GGUFWriter(path, architecture)
        self._current = ""

    def begin(self, conversion: Conversion, keys: Mapping[str, Any]) -> None:
        """Write everything before the weights."""
        for key, value in keys.items():
            add_key(self._writer, key, value)
        for placed in conversion.tensors:
            kind = self.kinds[placed.name]
            size = encodings.size_of(placed.shape, kind)
            self._writer.add_tensor_info(placed.name, placed.shape, np.dtype(np.float32), size, raw_dtype=kind)
        with _told(self.path, self.size):
            self._writer.write_header_to_file()
            self._writer.write_kv_data_to_file()
            self._writer.write_ti_data_to_file()
        weights = (encodings.size_of(placed.shape, self.kinds[placed.name]) for placed in conversion.tensors)
        self.size = sum(map(_aligned, (self._file.tell(), *weights)))

    def reserve(self) -> None:
        """Take the room on the disk."""
        with _told(self.path, self.size):
            self._writer.flush()
            reserve(self._file, self.size)

    def write(self, placed: Placed, encoded: Encoded) -> None:
        """Write the next block."""
        with _told(self.path, self.size):
            if placed.name != self._current:
                self._pad()
                self._current = placed.name
            self._file.write(encoded[self.kinds[placed.name]])

    def finish(self) -> None:
        """Bring the whole file onto the disk."""
        with _told(self.path, self.size):
            self._pad()
            self._writer.flush()
            os.fsync(self._file.fileno())
        assert self._file.tell() == self.size, self.path.name

    def close(self) -> None:
        """Let go of the file; what is still to be written then is of no use any more."""
        with suppress(OSError):
            self._writer.close()

    @property
    def _file(self) -> BinaryIO:
        assert self._writer.fout is not None
        return self._writer.fout[0]

    def _pad(self) -> None:
        self._file.write(bytes(_aligned(self._file.tell()) - self._file.tell()))


def _aligned(size: int) -> int:
    return size + -size % _ALIGNMENT


def _write_tensors(exportable: Exportable, targets: list[_Target], heed: Callable[[], None]) -> None:
    weights, head_dim = plain_weights(exportable.model), exportable.model.config.head_dim

    def blocks() -> Iterator[tuple[Placed, Floats]]:
        for placed in exportable.conversion.tensors:
            for rows in values_of(placed, weights, head_dim):
                yield placed, rows

    def encoded(block: tuple[Placed, Floats]) -> tuple[Placed, Encoded]:
        placed, rows = block
        kinds = {target.kinds[placed.name] for target in targets}
        return placed, {kind: encodings.encode(rows, kind, (*placed.sources, placed.name)[0]) for kind in kinds}

    kernel()  # tried once, before several threads would
    under_way = min(_EACH * threads(), _MOST)
    with closing(in_order(encoded, blocks(), lambda block: block[1].nbytes, under_way)) as done:
        for placed, bytes_of in done:
            heed()
            for target in targets:
                target.write(placed, bytes_of)


@contextmanager
def _told(path: Path, size: int = 0) -> Iterator[None]:
    """What the system refuses inside, as an error that says where and what helps; `size` bytes were to be written."""
    try:
        yield
    except OSError as error:
        full = error.errno in FULL and size and not isinstance(error, NoRoom)
        raise _refused(path, NoRoom(path.parent, size) if full else error) from None


def _refused(path: Path, error: OSError) -> LocaltuneError:
    """What the system says of the target, with what helps."""
    if error.errno in FULL:
        needed = f": {error.strerror}" if isinstance(error, NoRoom) else ""
        what = f"the disk is full, or your share of it is{needed}"
        return ResourceError(Problem("gguf.disk-full", what, str(path.parent), fix="free some space and export again"))
    if error.errno == errno.EFBIG:
        what = "the file system of this folder, or a limit of this session, does not allow files this large"
        fix = "export to another disk: -o FOLDER; FAT32 ends at 4 GB"
        return ResourceError(Problem("gguf.file-size", what, str(path.parent), fix=fix))
    what = f"cannot be written: {error.strerror or error}"
    fix = "check that the folder exists and that you may write into it"
    return MachineError(Problem("gguf.unwritable", what, str(path.parent), fix=fix))
