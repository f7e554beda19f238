"""The architectures that are compared with PyTorch number by number, and what mlx-lm must be told of each.

mlx-lm reads `config.json` as transformers 4 wrote it, ignores what it does not know, and fills gaps with defaults of
its own. So it is given every value that decides a number: from the file where the file says it, else the default of
transformers. What it cannot be told is refused (see `refusals`).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from localtune.model import ModelFiles


@dataclass(frozen=True)
class Family:
    """What mlx-lm knows of one `model_type`."""

    module: str
    """mlx_lm.models.<module>."""
    theta: float = 10_000.0
    """Rotary base where the configuration is silent: transformers' default."""
    activation: str = "silu"
    """The only activation of mlx-lm's code."""
    scalings: tuple[str, ...] = ()
    """Rotary scalings that agree with PyTorch."""
    windows: Literal["by layer", "everywhere", "ignored"] = "ignored"
    """Sliding windows: mlx-lm masks the layers that have one; or every layer has one, so the mask given to mlx-lm says
    it; or some layers have one and mlx-lm does not look, so texts beyond it are refused."""
    reads: frozenset[str] = frozenset()
    """Which of `CHANGING` its code reads."""
    tied: bool = False
    """Its head is always the embedding."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Values of transformers where the file is silent and mlx-lm's own default differs, or it has none."""


CHANGING: Mapping[str, tuple[Any, ...]] = {
    "attn_logit_softcapping": (),
    "final_logit_softcapping": (),
    "query_pre_attn_scalar": (),
    "use_bidirectional_attention": (False,),
    "logit_scale": (1.0,),
    "logits_scaling": (1.0,),
    "attention_multiplier": (),
    "embedding_multiplier": (1.0,),
    "residual_multiplier": (1.0,),
    "use_qk_norm": (False,),
    "attention_bias": (False,),
    "mlp_bias": (False,),
}
"""Settings that change what a model computes, and their values that change nothing; null never does."""

_NORM = {"rms_norm_eps": 1e-6}
_BIASES = frozenset({"attention_bias", "mlp_bias"})
_MULTIPLIERS = frozenset({"logits_scaling", "attention_multiplier", "embedding_multiplier", "residual_multiplier"})
_GEMMA = {**_NORM, "query_pre_attn_scalar": 256, "head_dim": 256}

FAMILIES: dict[str, Family] = {
    "llama": Family("llama", scalings=("linear", "llama3", "yarn"), reads=_BIASES, defaults=_NORM),
    "mistral": Family("llama", scalings=("linear", "yarn"), windows="everywhere", defaults=_NORM),
    "qwen2": Family("qwen2", scalings=("linear", "yarn"), defaults=_NORM),
    "qwen3": Family("qwen3", scalings=("linear", "yarn"), defaults={**_NORM, "head_dim": 128}),
    "gemma2": Family(
        "gemma2",
        activation="gelu_pytorch_tanh",
        reads=frozenset({"attn_logit_softcapping", "final_logit_softcapping", "query_pre_attn_scalar"}),
        tied=True,
        defaults={**_GEMMA, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0},
    ),
    "gemma3_text": Family(
        "gemma3_text",
        theta=1_000_000.0,
        activation="gelu_pytorch_tanh",
        windows="by layer",
        reads=frozenset({"query_pre_attn_scalar"}),
        defaults=_GEMMA,
    ),
    "phi3": Family("phi3", windows="everywhere", defaults={"rms_norm_eps": 1e-5}),
    "granite": Family("granite", reads=_BIASES | _MULTIPLIERS, defaults=_NORM),
    "cohere": Family(
        "cohere", theta=500_000.0, reads=frozenset({"logit_scale", "use_qk_norm", "attention_bias"}), tied=True
    ),
    "smollm3": Family("smollm3", theta=2_000_000.0, reads=_BIASES, defaults=_NORM),
}
"""By `model_type`. Each has a row in the parity tests."""


def arguments(model: ModelFiles) -> dict[str, Any]:
    """What mlx-lm's `ModelArgs.from_dict` is given for `model`, whose family is in `FAMILIES`."""
    family, config = FAMILIES[model.config.model_type], raw_config(model)
    given = {key: value for key, value in config.items() if value is not None}
    return {
        **family.defaults,
        **given,
        "vocab_size": model.config.vocabulary,
        "num_key_value_heads": model.config.kv_heads,
        "head_dim": given.get("head_dim") or family.defaults.get("head_dim") or model.config.head_dim,
        "tie_word_embeddings": model.config.tied,
        "rope_theta": model.config.rope_theta or family.theta,
        "rope_scaling": _scaling(model),
        "rope_parameters": None,
        "partial_rotary_factor": rotary_share(config),
        **_layers(model, config),
    }


def window_everywhere(model: ModelFiles) -> int | None:
    """The sliding window of every layer, which the masks have to say since mlx-lm does not."""
    everywhere = FAMILIES[model.config.model_type].windows == "everywhere"
    return model.config.sliding_window if everywhere else None


def longest(model: ModelFiles) -> int | None:
    """Tokens beyond which mlx-lm computes another model than PyTorch; None = no such length."""
    ignored = FAMILIES[model.config.model_type].windows == "ignored"
    return model.config.sliding_window if ignored else None


def raw_config(model: ModelFiles) -> dict[str, Any]:
    """`config.json` as it is; it was checked when the model was resolved."""
    config: dict[str, Any] = json.loads((model.folder / "config.json").read_text(encoding="utf-8"))
    return config


def rotary_share(config: Mapping[str, Any]) -> float:
    """The part of a head that rotates, from either form of a configuration. Raises `ValueError` for no such part."""
    rope = config.get("rope_parameters")
    nested = rope.get("partial_rotary_factor") if isinstance(rope, dict) else None
    share = config.get("partial_rotary_factor") or nested or 1.0
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
        raise ValueError(f"partial_rotary_factor is {share!r:.60}; expected a number from 0 to 1")
    return float(share)


def sliding_pattern(config: Mapping[str, Any], layers: int) -> int | None:
    """n where each n-th layer and only those see everything; None where the layers follow no such pattern.

    Where `layer_types` is missing, the number that Gemma 3 states, by default 6.
    """
    kinds = config.get("layer_types")
    if not isinstance(kinds, list):
        pattern = config.get("sliding_window_pattern") or config.get("_sliding_window_pattern") or 6
        return pattern if type(pattern) is int and 0 < pattern <= layers else None
    full = [index for index, kind in enumerate(kinds) if kind == "full_attention"]
    pattern = full[0] + 1 if full else len(kinds) + 1
    regular = all((kind == "full_attention") == ((i + 1) % pattern == 0) for i, kind in enumerate(kinds))
    return pattern if regular and full else None


def _scaling(model: ModelFiles) -> dict[str, Any] | None:
    scaling = model.config.rope_scaling
    original = {"original_max_position_embeddings": model.config.context}  # transformers' default
    return {**original, **scaling, "type": scaling["rope_type"]} if scaling else None


def _layers(model: ModelFiles, config: Mapping[str, Any]) -> dict[str, Any]:
    """Windows and rotary bases that differ by layer."""
    if model.config.model_type != "gemma3_text":
        return {"layer_types": None, "sliding_window": None}
    local = (config.get("rope_parameters") or {}).get("sliding_attention") or {}
    return {
        "layer_types": None,
        "sliding_window": model.config.sliding_window or model.config.context,
        "sliding_window_pattern": sliding_pattern(config, model.config.layers),
        "rope_local_base_freq": config.get("rope_local_base_freq") or local.get("rope_theta") or 10_000.0,
    }
