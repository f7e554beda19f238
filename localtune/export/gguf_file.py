"""Writing a GGUF: header, keys and tensor infos by gguf's writer, then the weights in blocks of rows.

Held in memory are the vocabulary and a few blocks, whatever the model. The file has room under the key
`localtune.proof` for what is only known once the file has been checked: `set_string` writes there in place.
"""

import errno
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import gguf
import numpy as np

from localtune.errors import LocaltuneError, MachineError, Problem, ResourceError
from localtune.export import Exportable, encodings
from localtune.export.encodings import ENCODINGS as ENCODINGS
from localtune.export.identity import Identity
from localtune.export.placed import Conversion, Placed
from localtune.export.read import place_of_string
from localtune.export.values import values_of
from localtune.model.weights import Weights

PROOF = "localtune.proof"
PROOF_ROOM = 1024
"""Bytes."""
_ALIGNMENT = 32


def write_gguf(exportable: Exportable, path: Path, encoding: str, identity: Identity) -> None:
    """Write a model as one GGUF under the temporary name `path`, which is gone again when this fails.

    Raises `InputError` for weights that cannot be read or written in `encoding`, `ResourceError` where the file does
    not fit the disk, and `MachineError` for another refusal of the system.
    """
    chosen, model = encodings.known(encoding), exportable.model
    keys = {
        "general.type": "model",
        **identity.metadata(),
        **exportable.conversion.metadata,
        **exportable.vocabulary.metadata(),
        "general.file_type": int(chosen.file_type),
        "general.quantization_version": gguf.GGML_QUANT_VERSION,
        PROOF: " " * PROOF_ROOM,
    }
    try:
        _write(path, exportable.conversion, keys, chosen, Weights(model), model.config.head_dim)
    except BaseException as error:
        with suppress(OSError):
            path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise _refused(path, error) from None
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


def _write(
    path: Path,
    conversion: Conversion,
    keys: Mapping[str, Any],
    encoding: encodings.Encoding,
    weights: Weights,
    head_dim: int,
) -> None:
    writer = gguf.GGUFWriter(path, conversion.architecture)
    try:
        for key, value in keys.items():
            _add(writer, key, value)
        for placed in conversion.tensors:
            kind, size = encodings.type_of(placed.shape, encoding), _size(placed, encoding)
            writer.add_tensor_info(placed.name, placed.shape, np.dtype(np.float32), size, raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        assert writer.fout is not None
        for placed in conversion.tensors:
            _write_tensor(writer.fout[0], placed, encoding, weights, head_dim)
        writer.flush()
        os.fsync(writer.fout[0].fileno())
    finally:
        writer.close()


def _write_tensor(
    file: BinaryIO, placed: Placed, encoding: encodings.Encoding, weights: Weights, head_dim: int
) -> None:
    file.write(bytes(-file.tell() % _ALIGNMENT))
    kind = encodings.type_of(placed.shape, encoding)
    for rows in values_of(placed, weights, head_dim):
        file.write(encodings.encode(rows, kind, (*placed.sources, placed.name)[0]))
    file.write(bytes(-file.tell() % _ALIGNMENT))


def _size(placed: Placed, encoding: encodings.Encoding) -> int:
    return encodings.size_of(placed.shape, encodings.type_of(placed.shape, encoding))


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    """By the value's type: ids and counts are uint32, fractions float32."""
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)


def _refused(path: Path, error: OSError) -> LocaltuneError:
    """What the system says of the target, with what helps."""
    if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
        what = "the disk is full, or your share of it is"
        return ResourceError(Problem("gguf.disk-full", what, str(path.parent), fix="free some space and export again"))
    if error.errno == errno.EFBIG:
        what = "the file system of this folder, or a limit of this session, does not allow files this large"
        fix = "export to another disk: -o FOLDER; FAT32 ends at 4 GB"
        return ResourceError(Problem("gguf.file-size", what, str(path.parent), fix=fix))
    what = f"cannot be written: {error.strerror or error}"
    fix = "check that the folder exists and that you may write into it"
    return MachineError(Problem("gguf.unwritable", what, str(path.parent), fix=fix))
