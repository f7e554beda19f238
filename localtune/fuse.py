"""An adapter fused into the weights it was trained on: a complete model folder that needs no adapter.

LoRA (Hu et al. 2021): W + scale * B A. DoRA (Liu et al. 2024): m * (W + scale * B A) / |W + scale * B A|, the norm over
each row. Computed in float32 in blocks of rows and rounded once, to the type of the base or one that is asked for;
products of different libraries differ by float32 rounding. Rounding may lose a small change, and how much is measured.
Every other tensor of that type, and every file beside the weights, is copied byte for byte. Anonymous memory is some
ten `weights.BLOCK` or rows, whichever is more, and one module's A and B, whatever the model.
"""

import json
import math
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import numpy as np

from localtune.adapter import CONFIG_FILE, Lora, Update, base_of, read_peft_config, read_updates
from localtune.batch import Floats
from localtune.errors import InputError, Problem
from localtune.model import ModelFiles
from localtune.model.json_object import read_object
from localtune.model.tensors import INDEX, INDEX_LIMIT, TensorInfo
from localtune.model.weights import DTYPES, Piece, Weights, decode, encode, write_shard

Dtype = Literal["float32", "float16", "bfloat16"]

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

    Tensors keep the base's type; `dtype` writes all that are F32, F16 or BF16 in that one. Raises `InputError` when the
    two do not belong together (adapter.base), the adapter is damaged (adapter.unreadable, .not-finite) or of another
    kind (adapter.unsupported), or a weight does not fit its type (weights.overflow).
    """
    began = time.monotonic()
    lora, updates, weights = _read_adapter(model, adapter)
    tensors = [_of_type(tensor, dtype) for tensor in model.tensors]
    fusion = _Fusion(Weights(model), weights, lora.scale, updates)
    for shard, group in groupby(tensors, lambda tensor: tensor.shard):
        write_shard(folder / shard, list(group), fusion.content)
    size = sum(tensor.size for tensor in tensors)
    if (model.folder / INDEX).is_file():
        shutil.copyfile(model.folder / INDEX, folder / INDEX)
    copy_companions(model.folder, folder)
    if dtype is not None:
        _state(folder, dtype, size)
    return _summary(fusion.changes, size, time.monotonic() - began)


def fused_rows(weight: Floats, a: Floats, b: Floats, scale: float, magnitude: Floats | None = None) -> Floats:
    """Rows [n, in] of the fused weight from the same rows of W [n, in], A [r, in], rows of B [n, r] and of m [n]."""
    with np.errstate(all="ignore"):  # what is not finite is found in the result
        fused = b @ a
        fused *= np.float32(scale)
        fused += weight
        if magnitude is not None:
            fused *= (magnitude / np.linalg.norm(fused, axis=1))[:, None]
    return fused


def refuse_quantized(model: ModelFiles, fix: str = "fuse into the original 16-bit model") -> None:
    """Raise `InputError` (code fuse.quantized) for a base whose files are quantised already."""
    if model.config.quantized:
        what = f"the base is already quantised ({model.config.quantized}); fused and quantised again it would lose"
        raise InputError(Problem("fuse.quantized", f"{what} most of a small change", model.name, fix=fix))


def copy_companions(source: Path, target: Path) -> None:
    """Copy every file that makes weights a model: configuration, tokenizer, chat template, licence; no index."""
    for path in sorted((*source.glob("*"), *source.glob("additional_chat_templates/*"))):
        name = path.relative_to(source)
        if any(fnmatchcase(name.as_posix().lower(), pattern) for pattern in COMPANIONS) and path.is_file():
            (target / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(path, target / name)


_STORED: dict[Dtype, str] = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}


def _of_type(tensor: TensorInfo, dtype: Dtype | None) -> TensorInfo:
    if dtype is None or tensor.dtype not in DTYPES:
        return tensor
    stored = _STORED[dtype]
    return replace(tensor, dtype=stored, size=math.prod(tensor.shape) * DTYPES[stored].itemsize)


def _state(folder: Path, dtype: Dtype, size: int) -> None:
    """Let the configuration and the index of the model in `folder` say its new type and size."""

    def typed(config: dict[str, Any]) -> None:
        for key in {"dtype", "torch_dtype"} & config.keys() or {"dtype"}:
            config[key] = dtype

    def sized(index: dict[str, Any]) -> None:
        metadata = index.get("metadata")
        if isinstance(metadata, dict) and "total_size" in metadata:
            metadata["total_size"] = size

    _rewrite(folder / "config.json", typed)
    if (folder / INDEX).is_file():
        _rewrite(folder / INDEX, sized)


def _rewrite(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = read_object(path, INDEX_LIMIT)
    change(content)
    path.write_bytes(f"{json.dumps(content, indent=2)}\n".encode())


_AT_ONCE = 1 << 15
"""Values that are turned into float64 together: several such arrays fit a processor's cache."""


@dataclass
class _Change:
    """Sums over one weight W, in float64."""

    size: float = 0.0
    """<W, W>"""
    intended: float = 0.0
    """<delta, delta>"""
    survived: float = 0.0
    """<delta', delta>"""

    @property
    def relative(self) -> float:
        return math.sqrt(self.intended / self.size) if self.size else 0.0

    @property
    def kept(self) -> float:
        return self.survived / self.intended if self.intended else 1.0

    def add(self, weight: Floats, fused: Floats, rounded: Floats) -> None:
        """Rows of W, of what it is to be and of what it will be."""
        for start in range(0, weight.size, _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            before, delta = weight.reshape(-1)[part].astype(np.float64), fused.reshape(-1)[part].astype(np.float64)
            with np.errstate(invalid="ignore"):  # what is not finite shows in the sums
                delta -= before
            self.size += float(np.vdot(before, before))
            self.intended += float(np.vdot(delta, delta))
            with np.errstate(invalid="ignore"):
                np.subtract(rounded.reshape(-1)[part], before, out=before)
            self.survived += float(np.vdot(before, delta))


def _summary(changes: Mapping[str, _Change], size: int, seconds: float) -> Fused:
    most = max(changes, key=lambda name: changes[name].relative)
    least = min(changes, key=lambda name: changes[name].kept)
    whole = _Change(
        intended=math.fsum(change.intended for change in changes.values()),
        survived=math.fsum(change.survived for change in changes.values()),
    )
    modules = tuple(changes)
    return Fused(modules, changes[most].relative, most, size, seconds, whole.kept, (least, changes[least].kept))


class _Fusion:
    """The content of the new shards, and how much each module changed."""

    def __init__(self, base: Weights, adapter: Weights, scale: float, updates: Mapping[str, Update]) -> None:
        self.base, self.adapter, self.scale, self.updates = base, adapter, scale, updates
        self.changes = {module: _Change() for module in updates}

    def content(self, tensor: TensorInfo) -> Iterator[Piece]:
        """The pieces of a tensor as it is to be written."""
        module = tensor.name.removesuffix(".weight")
        if module in self.updates and module != tensor.name:
            return self._fused(tensor, self.updates[module], self.changes[module])
        same = self.base[tensor.name].dtype == tensor.dtype
        return self.base.pieces(tensor.name) if same else self._converted(tensor)

    def _converted(self, tensor: TensorInfo) -> Iterator[Piece]:
        stored = self.base[tensor.name].dtype
        for piece in self.base.pieces(tensor.name):  # not rows: one of a stack of experts may be a gigabyte
            yield encode(decode(np.frombuffer(piece, DTYPES[stored]), stored), tensor.dtype, tensor.name)

    def _fused(self, tensor: TensorInfo, update: Update, change: _Change) -> Iterator[Piece]:
        a = self.adapter.rows(update.a, 0, self.adapter[update.a].shape[0])
        for first, weight in self.base.blocks(tensor.name):
            last = first + len(weight)
            magnitude = self.adapter.rows(update.magnitude, first, last) if update.magnitude else None
            fused = fused_rows(weight, a, self.adapter.rows(update.b, first, last), self.scale, magnitude)
            encoded = encode(fused, tensor.dtype, tensor.name)
            change.add(weight, fused, decode(encoded, tensor.dtype))
            _refuse_unless_finite(change, tensor.name)
            yield encoded


def _refuse_unless_finite(change: _Change, name: str) -> None:
    """By the sum of squares, which float64 holds for any finite float32 values."""
    if not math.isfinite(change.intended):
        what = "the base's or the fused weight is not a finite number"
        fix = "get a fresh copy of the base; if it is sound, train again with a lower learning rate"
        raise InputError(Problem("weights.overflow", what, name, fix=fix))


def _read_adapter(model: ModelFiles, folder: Path) -> tuple[Lora, dict[str, Update], Weights]:
    """The adapter, once base and adapter are known to belong together and to be sound; updates by module."""
    refuse_quantized(model)
    lora = read_peft_config(folder)
    updates, weights = read_updates(folder, lora)
    faults = [*_faults(model, updates, weights, lora), *_left_out(model, updates, lora)]
    if faults:
        what = f"the adapter does not belong to {model.name}: {len(faults)} of its parts do not fit"
        fix = f"fuse it into the model it was trained on: {base_of(folder) or 'its configuration does not say which'}"
        raise InputError(Problem("adapter.base", what, str(folder), "\n".join(faults[:5]), fix))
    _refuse_not_finite(weights, folder)
    return lora, updates, weights


def _faults(model: ModelFiles, updates: Mapping[str, Update], weights: Weights, lora: Lora) -> Iterator[str]:
    """Modules that the base lacks or has in another shape or type."""
    base = {tensor.name: tensor for tensor in model.tensors}
    for module, update in updates.items():
        weight = base.get(f"{module}.weight")
        if weight is None or len(weight.shape) != 2:
            yield f"{module[:200]}: the base has no such weight matrix"
            continue
        outputs, inputs = weight.shape
        needed = {update.a: [lora.rank, inputs], update.b: [outputs, lora.rank], update.magnitude: [outputs]}
        for name, shape in needed.items():
            if name is not None and list(weights[name].shape) != shape:
                yield f"{name[:200]} is {list(weights[name].shape)}, the base needs {shape}"
        if weight.dtype not in DTYPES:
            yield f"{weight.name} of the base is {weight.dtype}, not F32, F16 or BF16"
        if not _targeted(module, lora):
            yield f"{module[:200]} is none of the target_modules in its {CONFIG_FILE}"
        if module.endswith("lm_head") and model.config.tied:
            yield f"{module}: the base's head is its embedding, so it has no weight of its own"


def _targeted(module: str, lora: Lora) -> bool:
    """By peft's rule: the whole name, or its last parts."""
    return any(module == target or module.endswith(f".{target}") for target in lora.targets)


_NUMBER = re.compile(r"\.\d+(?=\.)")


def _left_out(model: ModelFiles, modules: Mapping[str, object], lora: Lora) -> Iterator[str]:
    """Modules that the adapter leaves out, though it targets their name and adapts them in other layers."""
    adapted = {_NUMBER.sub(".#", module) for module in modules}
    for tensor in model.tensors:
        module = tensor.name.removesuffix(".weight")
        absent = module != tensor.name and module not in modules and _targeted(module, lora)
        if absent and _NUMBER.sub(".#", module) in adapted:
            yield f"{module} of the base has no adapter, though {module.rsplit('.', 1)[-1]} is a target"


def _refuse_not_finite(weights: Weights, folder: Path) -> None:
    bad = [name for name in weights if not all(np.isfinite(rows).all() for _, rows in weights.blocks(name))]
    if bad:
        what = f"{len(bad)} of its tensors hold values that are not finite numbers"
        fix = "train again with a lower learning rate, or fuse an earlier checkpoint"
        raise InputError(Problem("adapter.not-finite", what, str(folder), "\n".join(bad[:5]), fix))
