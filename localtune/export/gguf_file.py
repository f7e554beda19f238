"""Writing a GGUF: header, keys and tensor infos by gguf's writer, then the weights in blocks of rows.

Held in memory are the vocabulary and a few blocks, whatever the model. The file has room under the key
`localtune.proof` for what is only known once the file has been checked: `set_string` writes there in place.
"""

import errno
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import gguf
import numpy as np

from localtune.batch import Floats
from localtune.data.tokenizer import Tokenizer
from localtune.errors import InputError, LocaltuneError, MachineError, Problem, ResourceError
from localtune.export import encodings
from localtune.export.encodings import ENCODINGS as ENCODINGS
from localtune.export.families import Conversion, Placed, convert, regrouped
from localtune.export.identity import Identity
from localtune.export.read import place_of_string
from localtune.export.vocabulary import read_vocabulary
from localtune.model import ModelFiles
from localtune.model.weights import BLOCK, Weights

PROOF = "localtune.proof"
PROOF_ROOM = 1024
"""Bytes."""
_ALIGNMENT = 32


def write_gguf(model: ModelFiles, tokenizer: Tokenizer, path: Path, encoding: str, identity: Identity) -> None:
    """Write `model` as one GGUF under the temporary name `path`, which is gone again when this fails.

    Raises `InputError` for a model that cannot be written, `ResourceError` for a full disk and `MachineError` for
    another refusal of the system.
    """
    chosen = encodings.known(encoding)
    conversion, vocabulary = convert(model), read_vocabulary(model, tokenizer)
    keys = {
        "general.type": "model",
        **identity.metadata(),
        **conversion.metadata,
        **vocabulary.metadata(),
        "general.file_type": int(chosen.file_type),
        "general.quantization_version": gguf.GGML_QUANT_VERSION,
        PROOF: " " * PROOF_ROOM,
    }
    try:
        _write(path, conversion, keys, chosen, Weights(model), model.config.head_dim)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise _refused(path, error) from None
    except BaseException:
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


def size_estimate(model: ModelFiles, encoding: str) -> int:
    """Bytes of the file: the tensors exactly, the vocabulary as large as `tokenizer.json`."""
    chosen = encodings.known(encoding)
    tensors = sum(_padded(_size(placed, chosen)) for placed in convert(model).tensors)
    listed = model.folder / "tokenizer.json"
    return tensors + PROOF_ROOM + (listed.stat().st_size if listed.is_file() else 0)


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
    try:
        for rows in _rows(placed, weights, head_dim):
            file.write(encodings.encode(rows, kind))
    except InputError as error:
        first = error.problems[0]
        raise InputError(Problem(first.code, first.what, first.where or placed.source, fix=first.fix)) from None
    file.write(bytes(-file.tell() % _ALIGNMENT))


def _rows(placed: Placed, weights: Weights, head_dim: int) -> Iterator[Floats]:
    """The values of a tensor in blocks of rows; where rows are regrouped, in blocks of whole heads."""
    if placed.values is not None:
        yield placed.values
    elif not placed.heads:
        yield from (rows for _, rows in weights.blocks(placed.source))
    else:
        total = placed.shape[0]
        head = 4 * head_dim * (placed.shape[1] if len(placed.shape) > 1 else 1)
        step = head_dim * max(1, BLOCK // head)
        for start in range(0, total, step):
            yield regrouped(weights.rows(placed.source, start, min(start + step, total)), head_dim)


def _size(placed: Placed, encoding: encodings.Encoding) -> int:
    return encodings.size_of(placed.shape, encodings.type_of(placed.shape, encoding))


def _padded(size: int) -> int:
    return size + -size % _ALIGNMENT


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
    if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
        what = "the disk is full, or your share of it is"
        return ResourceError(Problem("gguf.disk-full", what, str(path.parent), fix="free some space and export again"))
    what = f"cannot be written: {error.strerror or error}"
    fix = "check that the folder exists and that you may write into it"
    return MachineError(Problem("gguf.unwritable", what, str(path.parent), fix=fix))
