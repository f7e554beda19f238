"""What trains: nothing, everything, or LoRA; and LoRA's files, which are PEFT's whoever trained them.

Hu et al. 2021, "LoRA": y = W x + scale * B A x with A [rank, in], B [out, rank], B = 0 at the start and scale =
alpha / rank (rsLoRA, Kalajdzievski 2023: alpha / sqrt(rank)). On disk: `adapter_config.json` and
`adapter_model.safetensors` with `base_model.model.<module>.lora_A.weight` and `lora_B.weight`, float32.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from localtune.batch import Floats
from localtune.errors import InputError, Problem
from localtune.model.json_object import read_object

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj", "qkv_proj")
FEED_FORWARD = ("gate_proj", "up_proj", "down_proj", "gate_up_proj")
TARGET_SETS = {"all-linear": ATTENTION + FEED_FORWARD, "attention": ATTENTION}
"""Module names by the name a recipe uses. Routers and fused experts are in none of them."""

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
PREFIX = "base_model.model."
"""PEFT puts this before the module's name in the model."""


@dataclass(frozen=True)
class Nothing:
    """Nothing trains: the session scores and answers."""


@dataclass(frozen=True)
class Full:
    """Every weight trains, from a float32 copy."""


@dataclass(frozen=True)
class Lora:
    """Low-rank updates beside frozen weights."""

    rank: int
    alpha: float
    dropout: float = 0.0
    targets: tuple[str, ...] = TARGET_SETS["all-linear"]
    """Last part of a module's name; each name that the model has is adapted in every layer."""
    dora: bool = False
    """Weight-decomposed (Liu et al. 2024): a trained magnitude per output."""
    rslora: bool = False
    """Scale by alpha / sqrt(rank)."""

    @property
    def scale(self) -> float:
        """Factor before B A."""
        return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)


Trainable = Nothing | Full | Lora


def initial_a(seed: int, module: str, rank: int, inputs: int) -> Floats:
    """A at the start, float32 [rank, inputs]: uniform within 1/sqrt(inputs), keyed by (seed, module name).

    The distribution is PEFT's default (Kaiming with a = sqrt(5)); drawn here so that both backends start alike.
    """
    key = hashlib.sha256(f"{seed}:{module}".encode()).digest()
    generator = np.random.Generator(np.random.Philox(int.from_bytes(key[:16], "little")))
    return generator.uniform(-1, 1, (rank, inputs)).astype(np.float32) / np.float32(math.sqrt(inputs))


def peft_config(lora: Lora, modules: Sequence[str], base: str, revision: str | None) -> dict[str, Any]:
    """The content of `adapter_config.json` for `lora` on the `modules` adapted in the model `base`."""
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "revision": revision,
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "lora_dropout": lora.dropout,
        "target_modules": sorted({name.rsplit(".", 1)[-1] for name in modules}),
        "use_dora": lora.dora,
        "use_rslora": lora.rslora,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
    }


def base_of(folder: Path) -> str | None:
    """The model that an adapter folder names as its base."""
    base = read_object(folder / CONFIG_FILE).get("base_model_name_or_path")
    return base if isinstance(base, str) and base else None


_UNMAPPED = ("modules_to_save", "rank_pattern", "alpha_pattern", "layers_to_transform", "layer_replication",
             "target_parameters", "trainable_token_indices", "lora_bias", "fan_in_fan_out", "exclude_modules",
             "layers_pattern", "alora_invocation_tokens", "use_qalora", "use_bdlora", "arrow_config", "kasa_config",
             "velora_config", "monteclora_config")  # fmt: skip
_PLAIN_STARTS = (None, True, False, "gaussian", "orthogonal", "eva")
"""Values of init_lora_weights that leave the base's own weights as they are."""


def read_peft_config(folder: Path) -> Lora:
    """The `Lora` of an adapter folder. Refuses by name what is not a plain LoRA, DoRA or rsLoRA."""
    path = folder / CONFIG_FILE
    config = read_object(path)
    unknown = [key for key in _UNMAPPED if config.get(key)]
    if config.get("init_lora_weights") not in _PLAIN_STARTS:
        unknown.append(f"init_lora_weights={config['init_lora_weights']!r}, which changes the base")
    if config.get("peft_type") != "LORA" or config.get("bias", "none") != "none":
        unknown.append(f"peft_type={config.get('peft_type')}, bias={config.get('bias')}")
    if not isinstance(config.get("target_modules"), list):
        unknown.append("target_modules that are not a list of names")
    if unknown:
        fix = "take a plain LoRA, rsLoRA or DoRA"
        raise InputError(Problem("adapter.unsupported", f"cannot map {', '.join(unknown)}", str(path), fix=fix))
    for key, lowest in (("r", 1), ("lora_alpha", 0)):
        value = config.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not lowest <= value < 1e9:
            what = f"{key} is {value!r}; expected a number"
            raise InputError(Problem("adapter.unreadable", what, str(path), fix="get a fresh copy of the adapter"))
    return Lora(
        rank=int(config["r"]),
        alpha=float(config["lora_alpha"]),
        dropout=float(config.get("lora_dropout") or 0.0),
        targets=tuple(sorted(config["target_modules"])),
        dora=bool(config.get("use_dora")),
        rslora=bool(config.get("use_rslora")),
    )
