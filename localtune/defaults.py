"""What `auto` stands for: learning rate, storage and compute type of the base, the memory a run may use.

Decided from recipe, model and device alone, before anything is loaded; `conflicts` names settings that these rule out.
"""

import numpy as np
import numpy.typing as npt

from localtune.backend import Device, Precision, Refusal
from localtune.model import ModelFiles
from localtune.settings import Recipe
from localtune.sizes import readable

LEARNING_RATES = {"lora": 2e-4, "qlora": 2e-4, "full": 2e-5}
"""With AdamW, by method."""
LION_SHARE = 0.2
"""Lion's learning rate to AdamW's, 3 to 10 times lower (Chen et al. 2023): every step has the size of the rate."""
ADAFACTOR_RATE = 0.01
"""Largest step to the size of a weight (Shazeer & Stern 2018): Adafactor's rate is relative."""
QUANTIZERS = {"torch": "nf4", "mlx": "affine4"}
"""How each backend stores the base of qlora where the recipe leaves it open."""
NARROWEST = 256
"""Tokens below which narrower rows save next to nothing."""
LIMIT_SHARE = 0.9
"""Of the memory a device has for a run."""
METAL_SHARE = 0.8
"""Of Metal's recommended working set: above it macOS swaps, and Macs have frozen or restarted (mlx#3186, mlx#3346)."""


def learning_rate(recipe: Recipe) -> float:
    """The highest learning rate: the recipe's, or what suits its method and optimizer."""
    train = recipe.train
    if train.learning_rate != "auto":
        return train.learning_rate
    if train.optimizer == "adafactor":
        return ADAFACTOR_RATE
    return LEARNING_RATES[train.method] * (LION_SHARE if train.optimizer == "lion" else 1)


def memory_limit(recipe: Recipe, device: Device) -> int:
    """Bytes a run may use: the recipe's, or most of what the device has."""
    limit = recipe.train.memory_limit
    return int(device.memory_limit * share(device)) if limit == "auto" else limit


def packed_width(lengths: npt.NDArray[np.int64], device: Device) -> int:
    """Tokens up to which rows are packed, for examples of these `lengths`; 0 = as many as are allowed.

    MLX keeps the attention scores of a row for the backward pass, so a row costs the square of its length: rows hold
    19 of 20 examples, and the few longer ones get rows of their own. PyTorch's kernels keep none.
    """
    if device.backend != "mlx" or not len(lengths):
        return 0
    return max(NARROWEST, int(-(-np.quantile(lengths, 0.95) // 64) * 64))


def precision(recipe: Recipe, model: ModelFiles, device: Device) -> Precision:
    """How the base is stored and computes."""
    train = recipe.train
    quantised = train.method == "qlora" or (train.method == "lora" and model.config.quantized == "mlx")
    rounded = quantised and recipe.lora.dora  # DoRA's magnitudes over a quantised base need float32
    fast = "bfloat16" if device.dtypes[0] == "bfloat16" and not rounded else "float32"
    compute = fast if train.precision == "auto" else train.precision
    return Precision(_storage(recipe, model, device, compute), compute)  # type: ignore[arg-type]


def conflicts(recipe: Recipe, model: ModelFiles, device: Device) -> list[Refusal]:
    """Settings that model or device leave no room for, whatever the backend says."""
    found, train = [], recipe.train
    if train.quantize != "auto" and model.config.quantized == "mlx":
        reason = f"the base is quantised already, so it cannot be stored as {train.quantize}"
        found.append(Refusal("train.quantize", reason, "--set train.quantize=auto"))
    elif train.quantize != "auto" and train.method != "qlora":
        reason = f"{train.method} stores its base unquantised, so there is nothing to store as {train.quantize}"
        fix = "--set train.method=qlora   or   --set train.quantize=auto"
        found.append(Refusal("train.quantize", reason, fix))
    most = int(device.memory_limit * METAL_SHARE)
    if device.kind == "metal" and train.memory_limit != "auto" and train.memory_limit > most:
        asked, part = readable(train.memory_limit), f"{METAL_SHARE:.0%} of what Metal can give here"
        fix = "--set train.memory_limit=auto"
        found.append(Refusal("train.memory_limit", f"{asked} is above {readable(most)}, {part}", fix))
    return found


def _storage(recipe: Recipe, model: ModelFiles, device: Device, compute: str) -> str:
    train = recipe.train
    if train.method == "full":
        return "float32"
    if model.config.quantized == "mlx":
        return "checkpoint"
    if train.method == "lora":
        return compute
    return QUANTIZERS[device.backend] if train.quantize == "auto" else train.quantize


def share(device: Device) -> float:
    """Of a device's memory, what a run or a chat may use unless it is told otherwise."""
    return METAL_SHARE if device.kind == "metal" else LIMIT_SHARE
