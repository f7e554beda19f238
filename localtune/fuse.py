"""An adapter fused into the weights it was trained on: a complete model folder that needs no adapter.

LoRA (Hu et al. 2021): W + scale * B A. DoRA (Liu et al. 2024): m * (W + scale * B A) / |W + scale * B A|, the norm over
each row. Computed in float32 in blocks of rows and rounded once, to the type of the base; products of different
libraries differ by float32 rounding. Every other tensor, and every file beside the weights, is copied byte for byte.
Anonymous memory is a few `weights.BLOCK` and one module's A and B, whatever the model.
"""

import math
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import numpy as np

from localtune.adapter import CONFIG_FILE, WEIGHTS_FILE, Lora, read_peft_config
from localtune.batch import Floats
from localtune.errors import InputError, Problem
from localtune.model import ModelFiles
from localtune.model.json_object import read_object
from localtune.model.tensors import INDEX, TensorInfo
from localtune.model.weights import DTYPES, Piece, Weights, encode, one_file, write_shard

COMPANIONS = (
    *("config.json", "generation_config.json"),
    *("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "vocab.txt", "merges.txt", "chat_template.*", "additional_chat_templates/*.jinja"),
    *("LICENSE*", "LICENCE*", "NOTICE*", "USE_POLICY*"),
)
"""Files of a model beside its weights, as patterns in its folder; its README speaks of the base and stays there."""


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


@dataclass(frozen=True)
class Update:
    """What the adapter holds for one weight: names of its tensors."""

    a: str
    b: str
    magnitude: str | None


def fuse(model: ModelFiles, adapter: Path, folder: Path) -> Fused:
    """Write `model` with the PEFT adapter in the folder `adapter` fused into it to the existing folder `folder`.

    Raises `InputError` when the two do not belong together (adapter.base), the adapter is damaged (adapter.unreadable,
    .not-finite) or of another kind (adapter.unsupported), or a weight does not fit its type (weights.overflow).
    """
    began = time.monotonic()
    lora, updates, weights = _read_adapter(model, adapter)
    fusion = _Fusion(Weights(model), weights, lora.scale, updates)
    for shard, tensors in groupby(model.tensors, lambda tensor: tensor.shard):
        write_shard(folder / shard, list(tensors), fusion.content)
    if (model.folder / INDEX).is_file():
        shutil.copyfile(model.folder / INDEX, folder / INDEX)
    copy_companions(model.folder, folder)
    most = max(fusion.changes, key=lambda name: fusion.changes[name])
    modules = tuple(name.removesuffix(".weight") for name in updates)
    return Fused(modules, fusion.changes[most], most, model.size, time.monotonic() - began)


def fused_rows(weight: Floats, a: Floats, b: Floats, scale: float, magnitude: Floats | None = None) -> Floats:
    """Rows [n, in] of the fused weight from the same rows of W [n, in], A [r, in], rows of B [n, r] and of m [n]."""
    with np.errstate(all="ignore"):  # what is not finite is found in the result
        fused = b @ a
        fused *= np.float32(scale)
        fused += weight
        if magnitude is not None:
            fused *= (magnitude / np.linalg.norm(fused, axis=1))[:, None]
    return fused


def copy_companions(source: Path, target: Path) -> None:
    """Copy every file that makes weights a model: configuration, tokenizer, chat template, licence; no index."""
    for pattern in COMPANIONS:
        for path in sorted(source.glob(pattern)):
            if path.is_file():
                copy = target / path.relative_to(source)
                copy.parent.mkdir(exist_ok=True)
                shutil.copyfile(path, copy)


class _Fusion:
    """The content of the new shards, and how much each module changed."""

    def __init__(self, base: Weights, adapter: Weights, scale: float, updates: Mapping[str, Update]) -> None:
        self.base, self.adapter, self.scale, self.updates = base, adapter, scale, updates
        self.changes: dict[str, float] = {}

    def content(self, tensor: TensorInfo) -> Iterator[Piece]:
        update = self.updates.get(tensor.name)
        return self.base.pieces(tensor.name) if update is None else self._fused(tensor, update)

    def _fused(self, tensor: TensorInfo, update: Update) -> Iterator[Piece]:
        a = self._whole(update.a)
        moved = size = 0.0
        for first, weight in self.base.blocks(tensor.name):
            last = first + len(weight)
            magnitude = self.adapter.rows(update.magnitude, first, last) if update.magnitude else None
            fused = fused_rows(weight, a, self.adapter.rows(update.b, first, last), self.scale, magnitude)
            yield _rounded(fused, tensor)
            size += float(np.vdot(weight, weight))
            weight -= fused
            moved += float(np.vdot(weight, weight))
        relative = math.sqrt(moved / size) if size else 0.0
        self.changes[tensor.name.removesuffix(".weight")] = relative

    def _whole(self, name: str) -> Floats:
        return self.adapter.rows(name, 0, self.adapter[name].shape[0])


def _rounded(fused: Floats, tensor: TensorInfo) -> Piece:
    if not np.isfinite(fused).all():
        what = "the base's or the fused weight is not a finite number"
        fix = "get a fresh copy of the base; if it is sound, train again with a lower learning rate"
        raise InputError(Problem("weights.overflow", what, tensor.name, fix=fix))
    try:
        return encode(fused, tensor.dtype)
    except InputError as error:
        fix = "fuse into a bfloat16 or float32 copy of the base"
        raise InputError(*(replace(each, where=tensor.name, fix=fix) for each in error.problems)) from None


_KEY = re.compile(r"base_model\.model\.(.+)\.(lora_A\.weight|lora_B\.weight|lora_magnitude_vector)", re.DOTALL)
_A, _B, _MAGNITUDE = "lora_A.weight", "lora_B.weight", "lora_magnitude_vector"


def _read_adapter(model: ModelFiles, folder: Path) -> tuple[Lora, dict[str, Update], Weights]:
    """The adapter, once base and adapter are known to belong together and to be sound; updates by weight."""
    if model.config.quantized:
        what = f"the base is already quantised ({model.config.quantized}); fused and quantised again it would lose"
        fix = "fuse into the original 16-bit model"
        raise InputError(Problem("fuse.quantized", f"{what} most of a small change", model.name, fix=fix))
    lora, trained_on = _read_config(folder)
    weights = Weights(one_file(folder / WEIGHTS_FILE))
    modules = _modules(weights, lora, folder)
    faults = [*_faults(model, modules, weights, lora), *_left_out(model, modules, lora)]
    if faults:
        what = f"the adapter does not belong to {model.name}: {len(faults)} of its parts do not fit"
        fix = f"fuse it into the model it was trained on: {trained_on}"
        raise InputError(Problem("adapter.base", what, str(folder), "\n".join(faults[:5]), fix))
    _refuse_not_finite(weights, folder)
    updates = {
        f"{module}.weight": Update(parts[_A], parts[_B], parts.get(_MAGNITUDE)) for module, parts in modules.items()
    }
    return lora, updates, weights


def _read_config(folder: Path) -> tuple[Lora, str]:
    """The `Lora`, and the name of the model it was trained on."""
    try:
        lora = read_peft_config(folder)
        trained_on = read_object(folder / CONFIG_FILE).get("base_model_name_or_path")
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise _unreadable(folder, f"its {CONFIG_FILE} lacks or misstates {error}") from None
    if lora.rank < 1 or not math.isfinite(lora.alpha):
        raise _unreadable(folder, f"its rank {lora.rank} and alpha {lora.alpha} give no scale")
    return lora, str(trained_on or "its configuration does not say which")


def _modules(weights: Weights, lora: Lora, folder: Path) -> dict[str, dict[str, str]]:
    """Module -> part -> tensor. Raises `InputError` unless every module is whole and no tensor is left over."""
    modules: dict[str, dict[str, str]] = {}
    faults = []
    expected = {_A, _B, _MAGNITUDE} if lora.dora else {_A, _B}
    for name in weights:
        match = _KEY.fullmatch(name)
        if match is None or match[2] not in expected or weights[name].dtype not in DTYPES:
            faults.append(f"{name[:200]} ({weights[name].dtype}) is no part of this kind of adapter")
        else:
            modules.setdefault(match[1], {})[match[2]] = name
    for module, parts in modules.items():
        faults += [f"{module[:200]} has no {part}" for part in sorted(expected - parts.keys())]
    if faults or not modules:
        raise _unreadable(folder, "its tensors are not those of one LoRA adapter", faults or ["there are none"])
    return modules


def _faults(model: ModelFiles, modules: Mapping[str, Mapping[str, str]], weights: Weights, lora: Lora) -> Iterator[str]:
    """Modules that the base lacks or has in another shape or type."""
    base = {tensor.name: tensor for tensor in model.tensors}
    for module, parts in modules.items():
        weight = base.get(f"{module}.weight")
        if weight is None or len(weight.shape) != 2:
            yield f"{module[:200]}: the base has no such weight matrix"
            continue
        outputs, inputs = weight.shape
        shapes = {_A: (lora.rank, inputs), _B: (outputs, lora.rank), _MAGNITUDE: (outputs,)}
        for part, name in parts.items():
            if weights[name].shape != shapes[part]:
                yield f"{name[:200]} is {list(weights[name].shape)}, the base needs {list(shapes[part])}"
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


def _unreadable(folder: Path, what: str, faults: Sequence[str] = ()) -> InputError:
    fix = "get a fresh copy of the adapter"
    return InputError(Problem("adapter.unreadable", what, str(folder), "\n".join(faults[:5]), fix))
