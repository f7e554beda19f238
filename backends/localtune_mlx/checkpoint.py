"""What trains, on disk and back: safetensors and JSON, in the files of `localtune.saved`. Modes are usual ones.

What `restore` reads back is bit for bit what was in memory.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import mlx.core as mx
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from localtune.adapter import CONFIG_FILE, PREFIX, WEIGHTS_FILE, Lora, peft_config
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

Arrays = Mapping[str, mx.array]
DTYPES = {"F32": mx.float32, "BF16": mx.bfloat16, "F16": mx.float16}
HEADERS = {dtype: name for name, dtype in DTYPES.items()}


def save_adapter(folder: Path, lora: Lora, trained: Arrays, model: ModelFiles) -> None:
    """Write PEFT's two files; `trained` are the adapter's arrays by file name."""
    _write(folder / WEIGHTS_FILE, trained)
    modules = sorted({name.removeprefix(PREFIX).split(".lora_")[0] for name in trained})
    write_json(folder / CONFIG_FILE, peft_config(lora, modules, model.name, model.revision))


def save_model(folder: Path, trained: Arrays, model: ModelFiles) -> None:
    """Write every weight in the type and under the name it has in the checkpoint `model`."""
    original = {tensor.name: DTYPES.get(tensor.dtype) for tensor in model.tensors}
    _write(
        folder / MODEL_FILE, {name: array.astype(original.get(name) or array.dtype) for name, array in trained.items()}
    )


def save_weights(folder: Path, trained: Arrays) -> None:
    """Write the trained weights of a full fine-tune as they are, float32."""
    _write(folder / MODEL_FILE, trained)


def load_weights(folder: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, mx.array]:
    """An adapter or a full model, float32. Raises `InputError` unless names and shapes match exactly."""
    path = weights_path(folder)
    tensors = _read(path)
    require_same({name: tuple(tensor.shape) for name, tensor in tensors.items()}, shapes, path)
    return {name: tensors[name].astype(mx.float32) for name in shapes}


def save_state(folder: Path, name: str, state: Arrays, count: int, trained: Arrays) -> None:
    """Write the state of the optimizer `name` after `count` updates."""
    _write(folder / STATE_FILE, state if count else {})
    steps = dict.fromkeys(sorted(trained), count) if count else {}
    write_json(folder / STEPS_FILE, {"format": FORMAT, "name": name, "steps": steps})


def load_state(folder: Path, name: str, shapes: Mapping[str, tuple[int, ...]]) -> tuple[dict[str, mx.array], int]:
    """The state and the number of updates. Raises `InputError` for a state of another optimizer or other weights.

    `shapes` are those of the optimizer's arrays; before the first update there are none on disk.
    """
    path = folder / STEPS_FILE
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["format"] != FORMAT or record["name"] != name:
            raise ValueError(f"{record['name']} in format {record['format']}, expected {name} in {FORMAT}")
        count = max(map(int, record["steps"].values()), default=0)
    except (OSError, ValueError, KeyError) as error:
        raise unrestorable(path, error) from None
    tensors = _read(folder / STATE_FILE)
    if count == 0:
        return {key: mx.zeros(shape) for key, shape in shapes.items()}, 0
    require_same({key: tuple(tensor.shape) for key, tensor in tensors.items()}, shapes, folder / STATE_FILE)
    return tensors, count


def _write(path: Path, arrays: Arrays) -> None:
    mx.eval(list(arrays.values()))
    tensors = [
        TensorInfo(name, tuple(array.shape), HEADERS[array.dtype], array.nbytes, path.name)
        for name, array in sorted(arrays.items())
    ]
    write_shard(path, tensors, lambda tensor: iter([_words(arrays[tensor.name])]))


def _words(array: mx.array) -> memoryview:
    """The bytes of one array; numpy has no bfloat16, so 16-bit numbers are handed over as words."""
    return memoryview(np.array(array if array.dtype == mx.float32 else array.view(mx.uint16)).tobytes())


def _read(path: Path) -> dict[str, mx.array]:
    """Every tensor of one file, materialised: a lazy one would follow later changes of the file."""
    try:
        with path.open("rb"):
            tensors = {name: mx.array(array) for name, array in load_file(path).items()}
    except (OSError, SafetensorError, KeyError, TypeError) as error:
        raise unreadable(path, error) from None
    mx.eval(list(tensors.values()))
    return tensors
