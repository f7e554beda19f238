"""Whether an adapter belongs to a base: its modules, their shapes, and that every value is a finite number."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from localtune.adapter import CONFIG_FILE, Lora, Update, base_of, read_peft_config, read_updates
from localtune.errors import InputError, Problem
from localtune.model import ModelFiles
from localtune.model.tensors import TensorInfo
from localtune.model.weights import DTYPES, Weights


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
