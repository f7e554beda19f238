"""What trains, on disk and back: safetensors and JSON, never a pickle. Files are readable by all (mode 0644).

An adapter is PEFT's folder, float32. A full model is `model.safetensors` under the names of the original checkpoint and
in its types; with the optimizer's state it is float32 under the names of the parameters, so that nothing is rounded.
The state is `optimizer.safetensors` (both moments) and `optimizer.json` (updates by name). What `restore` reads back is
bit for bit what was in memory.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from localtune.adapter import CONFIG_FILE, WEIGHTS_FILE, Lora, peft_config, read_peft_config
from localtune.errors import InputError, Problem
from localtune.model import ModelFiles
from localtune_torch import optimizer as adamw

MODEL_FILE = "model.safetensors"
STATE_FILE = "optimizer.safetensors"
STEPS_FILE = "optimizer.json"
FORMAT = 1
SAFETENSORS_DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}

Named = Mapping[str, torch.nn.Parameter]


def save_adapter(folder: Path, lora: Lora, named: Named, model: ModelFiles) -> None:
    """Write PEFT's two files; `named` are the adapter's parameters by file name."""
    _write_tensors(folder / WEIGHTS_FILE, dict(named))
    config = peft_config(lora, sorted({_module(name) for name in named}), model.name, model.revision)
    _write_json(folder / CONFIG_FILE, config)


def same_adapter(asked: Lora, folder: Path) -> None:
    """Raise `InputError` unless the adapter in `folder` has the rank, scale and kind `asked`: its weights need them."""
    given = read_peft_config(folder)
    wrong = [
        f"{name} {getattr(given, name)}, asked for {getattr(asked, name)}"
        for name in ("rank", "scale", "dora", "rslora")
        if getattr(asked, name) != getattr(given, name)
    ]
    if wrong:
        what = f"the adapter has {'; '.join(wrong)}"
        fix = "use the adapter's own lora settings"
        raise InputError(Problem("adapter.mismatch", what, where=str(folder), fix=fix))


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
    path = folder / (WEIGHTS_FILE if (folder / WEIGHTS_FILE).exists() else MODEL_FILE)
    tensors = _read_tensors(path)
    wrong = [f"{name} is missing" for name in sorted(named.keys() - tensors.keys())]
    wrong += [f"{name} is unknown" for name in sorted(tensors.keys() - named.keys())]
    for name in sorted(named.keys() & tensors.keys()):
        if tensors[name].shape != named[name].shape:
            wrong.append(f"{name} is {list(tensors[name].shape)}, expected {list(named[name].shape)}")
    if wrong:
        what = f"{len(wrong)} tensors do not fit this model and these settings"
        raise InputError(Problem("adapter.mismatch", what, where=str(path), evidence="\n".join(wrong[:5])))
    with torch.no_grad():
        for name, parameter in named.items():
            parameter.copy_(tensors[name])


def save_state(folder: Path, optimizer: torch.optim.AdamW, named: Named) -> None:
    """Write the optimizer's state."""
    tensors, steps = adamw.state_tensors(optimizer, named)
    _write_tensors(folder / STATE_FILE, tensors)
    _write_json(folder / STEPS_FILE, {"format": FORMAT, "name": "adamw", "steps": steps})


def load_state(folder: Path, optimizer: torch.optim.AdamW, named: Named) -> None:
    """The inverse of `save_state`. Raises `InputError` for a state of other parameters."""
    path = folder / STEPS_FILE
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["format"] != FORMAT:
            raise ValueError(f"format {record['format']}, expected {FORMAT}")
        adamw.load_state(optimizer, named, _read_tensors(folder / STATE_FILE), record["steps"])
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        what = f"the optimizer's state cannot be restored: {error}"
        raise InputError(Problem("checkpoint.state", what, where=str(path))) from None


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
    plain = {name: tensor.detach().to("cpu").contiguous() for name, tensor in sorted(tensors.items())}
    save_file(plain, path, metadata={"format": "pt"})
    path.chmod(0o644)


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        what = f"no readable weights: {error}"
        raise InputError(Problem("checkpoint.unreadable", what, where=str(path))) from None


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8", newline="\n")
    path.chmod(0o644)
