"""Whether an adapter belongs to a base: its name, its modules, their shapes, and that every value is a finite number.

Shapes alone do not tell a base from another model of its family; names do as far as they go (see `titles`).
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from localtune.adapter import CONFIG_FILE, Lora, Update, base_of, read_peft_config, read_updates
from localtune.errors import InputError, Problem
from localtune.model import ModelFiles
from localtune.model.json_object import read_object
from localtune.model.tensors import TensorInfo
from localtune.model.weights import DTYPES, Weights
from localtune.titles import may_be_one
from localtune.typed import typed


def read_adapter(
    model: ModelFiles, tensors: Sequence[TensorInfo], folder: Path
) -> tuple[Lora, dict[str, Update], Weights]:
    """The PEFT adapter in `folder` for `model`, whose weights are `tensors` once dequantised; updates by module.

    Raises `InputError` when the two do not belong together (adapter.base), the adapter is damaged (adapter.unreadable,
    .not-finite) or of another kind (adapter.unsupported).
    """
    lora = read_peft_config(folder)
    updates, weights = read_updates(folder, lora)
    faults = [*_faults(model, tensors, updates, weights, lora), *_left_out(tensors, updates, lora)]
    if faults:
        what = f"the adapter does not belong to {model.name}: {len(faults)} of its parts do not fit"
        fix = f"fuse it into the model it was trained on: {base_of(folder) or 'its configuration does not say which'}"
        raise InputError(Problem("adapter.base", what, str(folder), "\n".join(faults[:5]), fix))
    _refuse_not_finite(weights, folder)
    return lora, updates, weights


def refuse_other_base(adapter: Path, model: ModelFiles, *command: str | Path) -> None:
    """Raise `InputError` (adapter.base) where the adapter's configuration names another base than `model`.

    `command` is what was asked for, by default to fuse, but for the base: with the right one it is what mends this.
    """
    named = base_of(adapter)
    if named is None or _is_named(named, model):
        return
    right = typed("localtune", *(command or ("fuse", adapter, "-o", "FUSED")), "-m", named)
    fix = f"{right}   or, where both are the same weights,   -m {typed(model.name)} --force"
    raise InputError(Problem("adapter.base", f"was trained on {named}, not on {model.name}", str(adapter), fix=fix))


def other_revision(adapter: Path, model: ModelFiles) -> str | None:
    """The commit of the hub that an adapter was trained on, where it is known not to be that of `model`."""
    trained = read_object(adapter / CONFIG_FILE).get("revision")
    known = isinstance(trained, str) and _COMMIT.fullmatch(trained) and model.revision
    return trained if known and trained != model.revision else None


_COMMIT = re.compile("[0-9a-f]{40}")


def _is_named(named: str, model: ModelFiles) -> bool:
    """Whether `named` may be `model`; of a folder both what it is called and what it is a link to."""
    known = {os.path.abspath(model.folder), str(model.folder.resolve())} if model.revision is None else {model.name}
    return named == model.name or any(may_be_one(named, name) for name in known)


def _faults(
    model: ModelFiles, tensors: Sequence[TensorInfo], updates: Mapping[str, Update], weights: Weights, lora: Lora
) -> Iterator[str]:
    """Modules that the base lacks or has in another shape or type."""
    base = {tensor.name: tensor for tensor in tensors}
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


def _left_out(tensors: Sequence[TensorInfo], modules: Mapping[str, object], lora: Lora) -> Iterator[str]:
    """Modules that the adapter leaves out, though it targets their name and adapts them in other layers."""
    adapted = {_NUMBER.sub(".#", module) for module in modules}
    for tensor in tensors:
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
