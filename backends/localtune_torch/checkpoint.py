"""What trains, on disk and back: safetensors and JSON, never a pickle, in the files of `localtune.saved`.

Modes are those of any new file. What `restore` reads back is bit for bit what was in memory.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from localtune.adapter import CONFIG_FILE, WEIGHTS_FILE, Lora, peft_config
from localtune.model import ModelFiles, TensorInfo
from localtune.model.weights import write_shard
from localtune.saved import (
    FORMAT,
    MODEL_FILE,
    STATE_FILE,
    STEPS_FILE,
    require_same,
    unreadable,
    unrestorable,
    weights_path,
    write_json,
)
from localtune_torch import optimizer as optimizers

SAFETENSORS_DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
_HEADERS = {dtype: name for name, dtype in SAFETENSORS_DTYPES.items()}

Named = Mapping[str, torch.nn.Parameter]


def save_adapter(folder: Path, lora: Lora, named: Named, model: ModelFiles) -> None:
    """Write PEFT's two files; `named` are the adapter's parameters by file name."""
    _write_tensors(folder / WEIGHTS_FILE, dict(named))
    config = peft_config(lora, sorted({_module(name) for name in named}), model.name, model.revision)
    write_json(folder / CONFIG_FILE, config)


def save_model(folder: Path, transformer: Any, model: ModelFiles) -> None:
    """Write every weight in the type and under the name it has in the checkpoint `model`."""
    from transformers.core_model_loading import revert_weight_conversion

    original = {tensor.name: SAFETENSORS_DTYPES.get(tensor.dtype) for tensor in model.tensors}
    tensors = {}
    for name, tensor in revert_weight_conversion(transformer, _untied(transformer)).items():
        tensors[name] = tensor.detach().to(original.get(name) or tensor.dtype)
    _write_tensors(folder / MODEL_FILE, tensors)


def save_weights(folder: Path, named: Named) -> None:
    """Write the trained parameters of a full fine-tune as they are, float32."""
    _write_tensors(folder / MODEL_FILE, dict(named))


def load_weights(folder: Path, named: Named) -> None:
    """Read an adapter or a full model into `named`. Raises `InputError` unless names and shapes match exactly."""
    path = weights_path(folder)
    tensors = _read_tensors(path)
    expected = {name: tuple(parameter.shape) for name, parameter in named.items()}
    require_same({name: tuple(tensor.shape) for name, tensor in tensors.items()}, expected, path)
    with torch.no_grad():
        for name, parameter in named.items():
            parameter.copy_(tensors[name])


def save_state(folder: Path, optimizer: torch.optim.Optimizer, named: Named) -> None:
    """Write the optimizer's state."""
    tensors, steps = optimizers.state_tensors(optimizer, named)
    _write_tensors(folder / STATE_FILE, tensors)
    write_json(folder / STEPS_FILE, {"format": FORMAT, "name": optimizers.name_of(optimizer), "steps": steps})


def load_state(folder: Path, optimizer: torch.optim.Optimizer, named: Named) -> None:
    """The inverse of `save_state`. Raises `InputError` for a state of other parameters or of another optimizer."""
    path = folder / STEPS_FILE
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["format"] != FORMAT:
            raise ValueError(f"format {record['format']}, expected {FORMAT}")
        if record["name"] != (name := optimizers.name_of(optimizer)):
            raise ValueError(f"it is that of {record['name']}, and this run trains with {name}")
        optimizers.load_state(optimizer, named, _read_tensors(folder / STATE_FILE), record["steps"])
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise unrestorable(path, error) from None


def _module(name: str) -> str:
    return name.split(".lora_")[0]


def _untied(transformer: Any) -> dict[str, torch.Tensor]:
    """The model's persistent tensors, tied ones once and under their first name."""
    seen: set[int] = set()
    tensors = {}
    for name, tensor in transformer.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            tensors[name] = tensor
        seen.add(id(tensor))
    return tensors


def _write_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    infos = [
        TensorInfo(name, tuple(tensor.shape), _HEADERS[tensor.dtype], tensor.nbytes, path.name)
        for name, tensor in sorted(tensors.items())
    ]
    write_shard(path, infos, lambda info: iter([_bytes(tensors[info.name])]))


def _bytes(tensor: torch.Tensor) -> npt.NDArray[np.uint8]:
    """Every byte of one tensor; numpy has no bfloat16."""
    plain = tensor.detach().to("cpu").contiguous().reshape(-1)
    found: npt.NDArray[np.uint8] = plain.view(torch.uint8).numpy()
    return found


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise unreadable(path, error) from None
