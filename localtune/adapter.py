"""What trains: nothing, everything, or LoRA; and LoRA's files, which are PEFT's whoever trained them.

Hu et al. 2021, "LoRA": y = W x + scale * B A x with A [rank, in], B [out, rank], B = 0 at the start and scale =
alpha / rank (rsLoRA, Kalajdzievski 2023: alpha / sqrt(rank)). On disk: `adapter_config.json` and
`adapter_model.safetensors` with `base_model.model.<module>.lora_A.weight` and `lora_B.weight`, float32.
"""

import hashlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from localtune.batch import Floats
from localtune.errors import InputError, Problem
from localtune.model.json_object import read_object
from localtune.model.links import refuse_links_out
from localtune.model.weights import DTYPES, Weights, one_file

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


@dataclass(frozen=True)
class Update:
    """What an adapter holds for one module: names of its tensors."""

    a: str
    b: str
    magnitude: str | None
    """DoRA's."""


def adapted_names(names: Iterable[str], lora: Lora) -> list[str]:
    """Which of the linear modules called `names` get an adapter. Raises `InputError` if `lora` names none of them."""
    there = list(names)
    chosen = [n for n in there if any(n == target or n.endswith(f".{target}") for target in lora.targets)]
    if not chosen:
        lasts = ", ".join(sorted({name.rsplit(".", 1)[-1] for name in there}))
        what = f"the model has none of the modules {', '.join(lora.targets)}"
        raise InputError(
            Problem("lora.targets", what, evidence=f"it has: {lasts}", fix=f"--set lora.targets=[{lasts}]")
        )
    return chosen


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
    base = _config(folder).get("base_model_name_or_path")
    return base if isinstance(base, str) and base else None


_MAPPED = {"peft_type", "r", "lora_alpha", "lora_dropout", "target_modules", "use_dora", "use_rslora", "bias",
           "init_lora_weights"}  # fmt: skip
_HARMLESS = {"task_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision", "inference_mode",
             "megatron_core", "loftq_config", "eva_config", "corda_config", "lora_ga_config", "qalora_group_size",
             "runtime_config", "ensure_weight_tying"}  # fmt: skip
"""Keys of peft 0.21's LoraConfig that leave W + scale B A as it is; those of a start say no more than its name does."""
_PLAIN_STARTS = (None, True, False, "gaussian", "orthogonal", "eva", "mica")
"""Values of init_lora_weights that leave the base's own weights as they are."""


def read_peft_config(folder: Path) -> Lora:
    """The `Lora` of an adapter folder.

    Raises `InputError` for a link to a file elsewhere, as its weights too may not be (model.link), for a file that is
    no JSON object (model.json), for what is not a plain LoRA, DoRA or rsLoRA (adapter.unsupported), for values of
    another type or range than PEFT writes (adapter.unreadable), all of them.
    """
    path, config = folder / CONFIG_FILE, _config(folder)
    problems = []
    if unmapped := _unmapped(config):
        fix = "take a plain LoRA, rsLoRA or DoRA"
        problems.append(Problem("adapter.unsupported", f"cannot map {', '.join(unmapped)}", str(path), fix=fix))
    if wrong := _wrong(config):
        fix = "get a fresh copy of the adapter"
        problems.append(Problem("adapter.unreadable", "; ".join(wrong), str(path), fix=fix))
    if problems:
        raise InputError(*problems)
    return Lora(
        rank=config["r"],
        alpha=float(config["lora_alpha"]),
        dropout=float(config.get("lora_dropout") or 0.0),
        targets=tuple(sorted(set(config["target_modules"]))),
        dora=bool(config.get("use_dora")),
        rslora=bool(config.get("use_rslora")),
    )


_PART = re.compile(
    rf"{re.escape(PREFIX)}(.+)\.(lora_A\.weight|lora_B\.weight|lora_magnitude_vector)",
    re.DOTALL,
)
_A, _B, _MAGNITUDE = "lora_A.weight", "lora_B.weight", "lora_magnitude_vector"


def read_updates(folder: Path, lora: Lora) -> tuple[dict[str, Update], Weights]:
    """The tensors of an adapter folder by module. Raises `InputError` unless each module is whole and none is left."""
    weights = Weights(one_file(folder / WEIGHTS_FILE))
    modules: dict[str, dict[str, str]] = {}
    faults = []
    expected = {_A, _B, _MAGNITUDE} if lora.dora else {_A, _B}
    for name in weights:
        match = _PART.fullmatch(name)
        if match is None or match[2] not in expected or weights[name].dtype not in DTYPES:
            faults.append(f"{name[:200]} ({weights[name].dtype}) is no part of this kind of adapter")
        else:
            modules.setdefault(match[1], {})[match[2]] = name
    for module, parts in modules.items():
        faults += [f"{module[:200]} has no {part}" for part in sorted(expected - parts.keys())]
    if faults or not modules:
        what, evidence = "its tensors are not those of one LoRA adapter", "\n".join(faults[:5]) or "there are none"
        fix = "get a fresh copy of the adapter"
        raise InputError(Problem("adapter.unreadable", what, str(folder), evidence, fix))
    found = {module: Update(parts[_A], parts[_B], parts.get(_MAGNITUDE)) for module, parts in modules.items()}
    return found, weights


def _config(folder: Path) -> dict[str, Any]:
    refuse_links_out(folder, [folder / CONFIG_FILE, folder / WEIGHTS_FILE])
    return read_object(folder / CONFIG_FILE)


def _unmapped(config: Mapping[str, Any]) -> list[str]:
    """What is set that `Lora` cannot say."""
    found = [_shown(config, key) for key in config if key not in _MAPPED | _HARMLESS and _is_set(config, key)]
    if config.get("peft_type") != "LORA":
        found.append(_shown(config, "peft_type"))
    if config.get("bias", "none") != "none":
        found.append(_shown(config, "bias"))
    if config.get("init_lora_weights") not in _PLAIN_STARTS:
        found.append(f"{_shown(config, 'init_lora_weights')}, which changes the base")
    if isinstance(config.get("target_modules"), str):  # a regular expression
        found.append(_shown(config, "target_modules"))
    return found


def _is_set(config: Mapping[str, Any], key: str) -> bool:
    """By Python's truth, but for the one key whose 0 is a layer."""
    return bool(config[key]) or (key == "layers_to_transform" and type(config[key]) is int)


def _wrong(config: Mapping[str, Any]) -> list[str]:
    """Values that are not of the type or in the range that PEFT writes."""
    rank, alpha, dropout = config.get("r"), config.get("lora_alpha"), config.get("lora_dropout")
    targets = config.get("target_modules")
    named = isinstance(targets, list) and targets and all(isinstance(name, str) and name for name in targets)
    checks = [
        ("r", type(rank) is int and 1 <= rank < 10**9, "a whole number of at least 1"),
        ("lora_alpha", _in_range(alpha, 1e9), "a number from 0 to 1e9"),
        ("lora_dropout", dropout is None or _in_range(dropout, 1), "a number from 0 to 1"),
        ("target_modules", isinstance(targets, str) or named, "a list of names"),
    ]
    for key in ("use_dora", "use_rslora"):
        checks.append((key, isinstance(config.get(key), bool | None), "true or false"))
    return [f"{_shown(config, key)}; expected {expected}" for key, right, expected in checks if not right]


def _in_range(value: Any, most: float) -> bool:
    """NaN is in no range, and true is no number."""
    return type(value) in (int, float) and 0 <= value <= most


def _shown(config: Mapping[str, Any], key: str) -> str:
    text = f"{key[:60]}={config[key]!r}" if key in config else f"no {key}"
    return text if len(text) <= 120 else text[:119] + "…"
