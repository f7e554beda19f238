"""A copy of an adapter in mlx-lm's layout, which `mlx_lm.generate --adapter-path` reads.

mlx-lm (0.32, `tuner/utils.py`) keeps A as `lora_a` [in, rank], B as `lora_b` [rank, out], DoRA's magnitude as
`m` [out] under the module's name in the model, and names the adapted modules once, relative to a layer, for the last
`num_layers` layers; `scale` is PEFT's alpha / rank, or alpha / sqrt(rank) of rsLoRA. The values are exact: transposed,
float32. What those few words cannot say is refused by name, since mlx-lm would put fresh layers there or none.
"""

import json
import math
import re
import time
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from localtune.adapter import CONFIG_FILE, Lora, Update, base_of, read_peft_config, read_updates
from localtune.errors import InputError, Problem
from localtune.events import Event, Product, Warn
from localtune.model import ModelFiles
from localtune.model.json_object import read_object
from localtune.model.tensors import TensorInfo
from localtune.model.weights import DTYPES, Piece, Weights, write_shard
from localtune.runs.files import folder_size, is_complete, new_folder, write_bytes
from localtune.typed import typed

FOLDER = "mlx-lm-adapter"
"""Its name in a run's folder."""
WEIGHTS = "adapters.safetensors"


def copy_for_mlx_lm(adapter: Path, model: ModelFiles, folder: Path) -> Generator[Event, None, Path]:
    """Write the PEFT adapter in `adapter`, of `model`, to `folder` in mlx-lm's layout, and return `folder`.

    Raises `InputError` for an adapter that is damaged or of another kind (see `localtune.adapter`), that is not of this
    model (adapter.base), that the layout cannot hold (mlx-lm.unmapped), or when `folder` holds something else.
    """
    began = time.monotonic()
    lora = read_peft_config(adapter)
    updates, weights = read_updates(adapter, lora)
    _refuse_foreign(folder)
    _refuse_misfits(adapter, model, lora, updates, weights)
    config = _config(adapter, model, lora, updates)
    with new_folder(folder) as temporary:
        names = _names(updates)
        tensors = [_stored(name, weights[source]) for name, source in names.items()]
        write_shard(temporary / WEIGHTS, tensors, lambda tensor: _transposed(weights, names[tensor.name]))
        write_bytes(temporary / CONFIG_FILE, (json.dumps(config, indent=2) + "\n").encode())
    yield Product(FOLDER, str(folder), folder_size(folder), time.monotonic() - began)
    yield from _rope_warning(model)
    return folder


_IN_LAYER = re.compile(r"model\.layers\.(\d+)\.(.+)", re.DOTALL)
_PARTS = {"a": "lora_a", "b": "lora_b", "magnitude": "m"}


def _names(updates: Mapping[str, Update]) -> dict[str, str]:
    """The tensors to write, each with the one it is made of."""
    pairs = [(f"{module}.{part}", getattr(update, field))
             for module, update in updates.items() for field, part in _PARTS.items()]  # fmt: skip
    return {name: source for name, source in sorted(pairs) if source is not None}


def _stored(name: str, source: TensorInfo) -> TensorInfo:
    return TensorInfo(name, source.shape[::-1], "F32", 4 * math.prod(source.shape), WEIGHTS)


def _transposed(weights: Weights, name: str) -> Iterator[Piece]:
    yield np.ascontiguousarray(weights.rows(name, 0, weights[name].shape[0]).T)


def _config(adapter: Path, model: ModelFiles, lora: Lora, updates: Mapping[str, Update]) -> dict[str, Any]:
    """What mlx-lm reads first. Raises `InputError` for modules that it cannot name."""
    first, keys = _named_once(adapter, model, updates)
    return {
        "model": model.name,
        "fine_tune_type": "dora" if lora.dora else "lora",
        "num_layers": model.config.layers - first,
        "lora_parameters": {"rank": lora.rank, "scale": lora.scale, "dropout": lora.dropout, "keys": keys},
    }


def _named_once(adapter: Path, model: ModelFiles, updates: Mapping[str, Update]) -> tuple[int, list[str]]:
    """The first adapted layer, and the names that are adapted in it and in every later layer that has them."""
    faults, layers, keys = [], set(), set()
    for module in updates:
        match = _IN_LAYER.fullmatch(module)
        if match is None or ".experts." in match[2]:
            faults.append(f"{module[:200]} is no linear module of its own in a layer of mlx-lm's model")
        else:
            layers.add(int(match[1]))
            keys.add(match[2])
    first = min(layers, default=0)
    present = {tensor.name for tensor in model.tensors}
    for layer in range(first, model.config.layers):
        for key in sorted(keys):
            module = f"model.layers.{layer}.{key}"
            if module not in updates and f"{module}.weight" in present:
                faults.append(f"{module} has no adapter, but other layers have one at {key}")
    if faults:
        what = f"mlx-lm's adapter layout cannot hold this adapter: {len(faults)} modules"
        fix = "fuse it: mlx-lm reads the fused model's folder, and needs no adapter then"
        raise InputError(Problem("mlx-lm.unmapped", what, str(adapter), "\n".join(faults[:5]), fix))
    return first, sorted(keys)


def _refuse_misfits(
    adapter: Path, model: ModelFiles, lora: Lora, updates: Mapping[str, Update], weights: Weights
) -> None:
    """Raise `InputError` unless each module is in the base, in the shape that the adapter is for."""
    base = {tensor.name: tensor for tensor in model.tensors}
    faults = []
    for module, update in updates.items():
        a, b = weights[update.a].shape, weights[update.b].shape
        weight = base.get(f"{module}.weight")
        if weight is None:
            faults.append(f"{module[:200]}: the base has no such weight matrix")
        elif not (len(a) == len(b) == 2 and a[0] == b[1] == lora.rank):
            faults.append(f"{module[:200]}: A {list(a)} and B {list(b)} are not of rank {lora.rank}")
        elif weight.dtype in DTYPES and weight.shape != (b[0], a[1]):
            faults.append(f"{module[:200]}: the base is {list(weight.shape)}, the adapter is for {[b[0], a[1]]}")
        elif update.magnitude and weights[update.magnitude].shape != b[:1]:
            faults.append(f"{module[:200]}: its magnitude is {list(weights[update.magnitude].shape)}")
    if faults:
        what = f"the adapter does not belong to {model.name}: {len(faults)} of its parts do not fit"
        fix = f"name the model it was trained on: {base_of(adapter) or 'its configuration does not say which'}"
        raise InputError(Problem("adapter.base", what, str(adapter), "\n".join(faults[:5]), fix))


def _refuse_foreign(folder: Path) -> None:
    """An earlier copy is replaced, anything else is not."""
    if folder.exists() and not (is_complete(folder, verify=True) and (folder / WEIGHTS).is_file()):
        what, other = "is there and is not, or no longer, what such an export wrote", typed(f"{folder}-2")
        raise InputError(Problem("mlx-lm.exists", what, str(folder), fix=f"move it away, or  -o {other}"))


def _rope_warning(model: ModelFiles) -> Iterator[Event]:
    """Most of mlx-lm's models read `rope_theta` and `rope_scaling`, not the form that transformers 5 writes."""
    stated = read_object(model.folder / "config.json")
    needed = {"rope_theta": model.config.rope_theta, "rope_scaling": model.config.rope_scaling}
    lost = {key: value for key, value in needed.items() if value is not None and key not in stated}
    if lost and "rope_parameters" in stated:
        text = f"mlx-lm may not read rope_parameters in the base's config.json: add {json.dumps(lost)[1:-1]}"
        yield Warn("mlx-lm.rope", f"{text} to a copy of it, or it says something else than was trained")
