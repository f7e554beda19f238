"""Rotary positions that are scaled: which of transformers' ways llama.cpp computes alike.

`linear` divides every position by a factor, `llama3` divides each frequency by a factor of its own (transformers,
modeling_rope_utils, `_compute_llama3_parameters`), which a GGUF carries as the tensor `rope_freqs.weight`. Both are
exact with precisely the parameters listed here; whatever else `config.json` says of positions is refused by name.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from localtune.batch import Floats
from localtune.errors import InputError, Problem
from localtune.export.tokens import ANOTHER
from localtune.model import ModelConfig
from localtune.model.config import CONFIG

_PARTIAL = "partial_rotary_factor"
_PARAMETERS = {
    "linear": {"factor"},
    "llama3": {"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"},
}


def scaling_of(shape: ModelConfig, config: Mapping[str, Any]) -> dict[str, Any]:
    """`rope_type` and exactly its parameters, or {} where nothing is scaled. Raises `InputError` (code gguf.rope)."""
    scaling = {key: value for key, value in (shape.rope_scaling or {}).items() if key != _PARTIAL}
    groups = [
        config,
        *(config[key] for key in ("rope_parameters", "rope_scaling") if isinstance(config.get(key), dict)),
    ]
    rotated = [group[_PARTIAL] for group in groups if group.get(_PARTIAL) not in (None, 1.0)]
    wrong = f"{_PARTIAL} {rotated[0]!r:.40}" if rotated else _wrong(scaling)
    if wrong:
        what = f"{wrong} cannot be exported; linear and llama3 can"
        raise InputError(Problem("gguf.rope", what, CONFIG, fix=ANOTHER))
    return scaling


def llama3_factors(scaling: Mapping[str, Any], theta: float, head_dim: int) -> Floats:
    """By what rope_type llama3 divides each frequency, float32 [head_dim / 2]."""
    factor, low, high = (float(scaling[key]) for key in ("factor", "low_freq_factor", "high_freq_factor"))
    original = float(scaling["original_max_position_embeddings"])
    frequency = 1.0 / theta ** (np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
    wavelength = 2 * math.pi / frequency
    smooth = (original / wavelength - low) / (high - low)
    between = 1.0 / ((1 - smooth) / factor + smooth)
    divisor = np.where(wavelength > original / low, factor, np.where(wavelength < original / high, 1.0, between))
    return divisor.astype(np.float32)


def _wrong(scaling: Mapping[str, Any]) -> str:
    """What of it is not understood; "" where all is."""
    parameters = {key: value for key, value in scaling.items() if key != "rope_type"}
    named = f"rope_type {scaling.get('rope_type')!s:.40}"
    expected = _PARAMETERS.get(str(scaling.get("rope_type")))
    if not scaling:
        return ""
    if expected is None:
        return named
    if parameters.keys() != expected:
        return f"{named} with {', '.join(sorted(parameters))[:200]}"
    wrong = [f"{key} {value!r:.40}" for key, value in parameters.items() if not _is_positive(value)]
    if not wrong and "low_freq_factor" in expected and scaling["low_freq_factor"] >= scaling["high_freq_factor"]:
        wrong = ["low_freq_factor not below high_freq_factor"]
    return f"{named} with {', '.join(wrong)}" if wrong else ""


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 1e-9 < value < 1e18
