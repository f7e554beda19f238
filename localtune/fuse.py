"""An adapter fused into the weights it was trained on: a complete model folder that needs no adapter.

LoRA (Hu et al. 2021): W + scale * B A. DoRA (Liu et al. 2024): m * (W + scale * B A) / |W + scale * B A|, the norm over
each row. A quantised base is dequantised first (`model.plain`): W is exactly what was trained on. Computed in float32
in blocks of rows, on all cores, and rounded once, to the type of the base or one that is asked for; products of
different libraries differ by float32 rounding. Rounding may lose a small change, and how much is measured. Every other
tensor of that type is copied byte for byte, and of the files beside the weights those of `COMPANIONS` and the index;
where the weights get another type, `config.json` and the index are written anew and say so. Anonymous memory is a few
blocks and some ten `AT_ONCE` a thread, or as many rows where these are longer, and one module's A and B, whatever the
model.
"""

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from localtune.adapter import Update
from localtune.batch import Floats
from localtune.change import Change
from localtune.durable import copy, require_room, write_bytes
from localtune.errors import InputError, Problem
from localtune.fitting import read_adapter
from localtune.model import ModelFiles
from localtune.model import weights as stored
from localtune.model.config import CONFIG
from localtune.model.json_object import read_object
from localtune.model.plain import PlainWeights, plain_weights
from localtune.model.tensors import INDEX, INDEX_LIMIT, TensorInfo
from localtune.model.weights import DTYPES, Piece, Weights, decode, encode, write_shard
from localtune.threads import in_order

Dtype = Literal["float32", "float16", "bfloat16"]
T = TypeVar("T")

COMPANIONS = (
    *("config.json", "generation_config.json"),
    *("tokenizer.json", "tokenizer.model", "tokenizer.model.v*", "tokenizer_config.json", "tekken.json"),
    *("special_tokens_map.json", "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt"),
    *("chat_template.*", "additional_chat_templates/*.jinja"),
    *("license*", "licence*", "notice*", "use_policy*"),
)
"""Files of a model beside its weights, as patterns in its folder, whatever the case of a name; its README speaks of the
base and stays there."""


@dataclass(frozen=True)
class Fused:
    """What was done."""

    modules: tuple[str, ...]
    """Names of the modules that had an adapter."""
    largest_change: float
    """|dW| / |W| of the module that changed most, Frobenius norms; modules whose W is 0 do not count."""
    changed_most: str
    """That module."""
    size: int
    """Bytes of all tensors."""
    seconds: float
    kept: float
    """Share of the intended change that survived rounding: sum <delta', delta> / sum <delta, delta> over all adapted
    weights, delta before rounding and delta' after it; 1 where nothing was to change."""
    kept_least: tuple[str, float]
    """The module that kept least of its change, and the share it kept."""


def fuse(model: ModelFiles, adapter: Path, folder: Path, dtype: Dtype | None = None) -> Fused:
    """Write `model` with the PEFT adapter in the folder `adapter` fused into it to the existing folder `folder`.

    Tensors keep the base's type, quantised ones get the type they had before; `dtype` writes all that are F32, F16 or
    BF16 in that one. Raises `InputError` when the two do not belong together (adapter.base), the adapter is damaged
    (adapter.unreadable, .not-finite) or of another kind (adapter.unsupported), a weight does not fit its type
    (weights.overflow), or the base is quantised in a way not known here (fuse.quantized); `NoRoom` for a smaller disk.
    """
    began = time.monotonic()
    base = plain_weights(model)
    lora, updates, weights = read_adapter(model, base.tensors, adapter)
    tensors = [_of_type(tensor, dtype) for tensor in base.tensors]
    fusion = _Fusion(base, weights, lora.scale, updates)
    beside = sum(path.stat().st_size for path in _companions(model.folder))
    require_room(folder, sum(tensor.size for tensor in tensors) + beside)
    for shard, group in groupby(tensors, lambda tensor: tensor.shard):
        write_shard(folder / shard, list(group), fusion.content)
    copy_companions(model.folder, folder)
    describe(model, tensors, folder, dtype)
    size = sum(tensor.size for tensor in tensors)
    return _summary(fusion.changes, size, time.monotonic() - began)


def fused_rows(weight: Floats, a: Floats, b: Floats, scale: float, magnitude: Floats | None = None) -> Floats:
    """Rows [n, in] of the fused weight from the same rows of W [n, in], A [r, in], rows of B [n, r] and of m [n]."""
    with np.errstate(all="ignore"):  # what is not finite is found in the result
        fused = _product(b * np.float32(scale), a)
        fused += weight
        if magnitude is not None:
            fused *= (magnitude / np.linalg.norm(fused, axis=1))[:, None]
    return fused


def _product(b: Floats, a: Floats) -> Floats:
    """B A in tiles so small that BLAS computes each where it is called: its own threads would fight for the cores."""
    (count, rank), width = b.shape, a.shape[1]
    product = np.empty((count, width), np.float32)
    whole, step = count - count % 4, max(1, _BLAS_ALONE // (4 * rank))
    for start in range(0, width, step):
        columns = slice(start, start + step)
        tiles = product[:whole].reshape(-1, 4, width)[:, :, columns]
        np.matmul(b[:whole].reshape(-1, 4, rank), a[:, columns], out=tiles)
        np.matmul(b[whole:], a[:, columns], out=product[whole:, columns])
    return product


_BLAS_ALONE = 1 << 18
"""Multiplications up to which OpenBLAS starts no threads (its `gemm`, 4 times SMP_THRESHOLD_MIN)."""


def copy_companions(source: Path, target: Path) -> None:
    """Copy every file that makes weights a model: configuration, tokenizer, chat template, licence; no index."""
    for path in _companions(source):
        name = path.relative_to(source)
        (target / name).parent.mkdir(exist_ok=True)
        copy(path, target / name)


def _companions(source: Path) -> list[Path]:
    found = sorted((*source.glob("*"), *source.glob("additional_chat_templates/*")))
    names = {path: path.relative_to(source).as_posix().lower() for path in found if path.is_file()}
    return [path for path, name in names.items() if any(fnmatchcase(name, pattern) for pattern in COMPANIONS)]


_STORED: dict[Dtype, str] = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}


def _of_type(tensor: TensorInfo, dtype: Dtype | None) -> TensorInfo:
    if dtype is None or tensor.dtype not in DTYPES:
        return tensor
    stored = _STORED[dtype]
    return replace(tensor, dtype=stored, size=math.prod(tensor.shape) * DTYPES[stored].itemsize)


def describe(model: ModelFiles, tensors: Sequence[TensorInfo], folder: Path, dtype: Dtype | None) -> None:
    """Let the configuration and the index of the model in `folder` say what `tensors` are; `dtype` names a new type."""
    if dtype is not None or model.config.quantized:
        _rewrite(folder / CONFIG, partial(_plain, dtype=dtype))
    if not (model.folder / INDEX).is_file():
        return
    copy(model.folder / INDEX, folder / INDEX)
    if dtype is None and not model.config.quantized:
        return

    def rebuilt(index: dict[str, Any]) -> None:
        metadata = index.get("metadata")
        if isinstance(metadata, dict) and "total_size" in metadata:
            metadata["total_size"] = sum(tensor.size for tensor in tensors)
        if model.config.quantized:
            index["weight_map"] = {tensor.name: tensor.shard for tensor in tensors}

    _rewrite(folder / INDEX, rebuilt)


def _plain(config: dict[str, Any], dtype: Dtype | None) -> None:
    for key in ("quantization", "quantization_config"):
        config.pop(key, None)
    if dtype is not None:
        for key in {"dtype", "torch_dtype"} & config.keys() or {"dtype"}:
            config[key] = dtype


def _rewrite(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = read_object(path, INDEX_LIMIT)
    change(content)
    write_bytes(path, f"{json.dumps(content, indent=2)}\n".encode())


AT_ONCE = 1 << 16
"""Values that are computed together: the arrays this takes fit a core's cache."""


def _summary(changes: Mapping[str, Change], size: int, seconds: float) -> Fused:
    most = max(changes, key=lambda name: changes[name].relative)
    least = min(changes, key=lambda name: changes[name].kept)
    whole = Change(
        intended=math.fsum(change.intended for change in changes.values()),
        survived=math.fsum(change.survived for change in changes.values()),
    )
    modules = tuple(changes)
    return Fused(modules, changes[most].relative, most, size, seconds, whole.kept, (least, changes[least].kept))


class _Fusion:
    """The content of the new shards, and how much each module changed."""

    def __init__(self, base: PlainWeights, adapter: Weights, scale: float, updates: Mapping[str, Update]) -> None:
        self.base, self.adapter, self.scale, self.updates = base, adapter, scale, updates
        self.changes = {module: Change() for module in updates}

    def content(self, tensor: TensorInfo) -> Iterator[Piece]:
        """The pieces of a tensor as it is to be written."""
        module = tensor.name.removesuffix(".weight")
        update = self.updates.get(module) if module != tensor.name else None
        if update is None and not (self.base.is_packed(tensor.name) and len(tensor.shape) == 2):
            yield from self.base.pieces(tensor.name, tensor.dtype)
            return
        weight = AdaptedWeight(self.base, tensor.name, self.adapter, update, self.scale)
        blocks = row_blocks(tensor, stored.BLOCK // 4)
        with closing(in_order(partial(_rounded, weight, tensor), blocks)) as done:
            for encoded, change in done:
                if update is not None:
                    self.changes[module].include(change)
                    refuse_unless_finite(change, tensor.name)
                yield encoded


class AdaptedWeight:
    """A weight matrix of the base with its part of an adapter, if it has one."""

    def __init__(self, base: PlainWeights, name: str, adapter: Weights, update: Update | None, scale: float) -> None:
        self.base, self.name, self.adapter, self.update, self.scale = base, name, adapter, update, scale
        self.a = None if update is None else adapter.rows(update.a, 0, adapter[update.a].shape[0])

    def rows(self, first: int, last: int) -> tuple[Floats, Floats]:
        """Rows of the base's weight and of the fused one, float32 [last - first, in]; one array without an adapter."""
        weight = self.base.rows(self.name, first, last)
        if self.update is None or self.a is None:
            return weight, weight
        magnitude = self.adapter.rows(self.update.magnitude, first, last) if self.update.magnitude else None
        b = self.adapter.rows(self.update.b, first, last)
        return weight, fused_rows(weight, self.a, b, self.scale, magnitude)


def row_blocks(tensor: TensorInfo, values: int, multiple: int = 1) -> Iterator[range]:
    """The rows of a matrix in blocks of at most `values` or a few rows, each but the last a `multiple`."""
    rows, width = tensor.shape
    step = max(1, values // max(1, width) // multiple) * multiple
    for first in range(0, rows, step):
        yield range(first, min(first + step, rows))


def _rounded(weight: AdaptedWeight, tensor: TensorInfo, rows: range) -> tuple[npt.NDArray[Any], Change]:
    """Some rows as they are to be written, and what of their change is left."""
    width, change = tensor.shape[1], Change()
    encoded = np.empty((len(rows), width), DTYPES[tensor.dtype])
    for few in row_blocks(replace(tensor, shape=(len(rows), width)), AT_ONCE):
        part, (before, fused) = (
            encoded[few.start : few.stop],
            weight.rows(rows.start + few.start, rows.start + few.stop),
        )
        part[:] = encode(fused, tensor.dtype, tensor.name)
        if fused is not before:
            with np.errstate(invalid="ignore"):  # what is not finite shows in the sums
                change.add(before, fused - before, decode(part, tensor.dtype) - before)
    return encoded, change


def refuse_unless_finite(change: Change, name: str) -> None:
    """By the sum of squares, which float64 holds for any finite float32 values."""
    if not math.isfinite(change.intended):
        what = "the base's or the fused weight is not a finite number"
        fix = "get a fresh copy of the base; if it is sound, train again with a lower learning rate"
        raise InputError(Problem("weights.overflow", what, name, fix=fix))
