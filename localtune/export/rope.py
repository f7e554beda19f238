"""Rotary positions: their base, how much of a head they turn, and which scalings of transformers llama.cpp computes.

`linear` divides every position by a factor. `llama3` and `longrope` divide each frequency by one of its own, which a
GGUF carries as tensors. `yarn` mixes both ways by wavelength and scales the rotated halves; llama.cpp scales them by
0.1 ln(factor) + 1 of itself, so the file states how much more the model wants; its bounds of the mix are always 32 and
1 turns (the keys yarn_beta_fast and yarn_beta_slow change nothing in it). Formulas: transformers,
modeling_rope_utils. All are exact with precisely the parameters listed here, and whatever else `config.json` says of
positions is refused by name. longrope has two sets of factors: transformers takes the long ones for a text beyond the
original context, llama.cpp for every text where its context is set beyond it; that is a note.
"""

import math
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any

import numpy as np

from localtune.batch import Floats
from localtune.errors import InputError, Problem
from localtune.export.placed import Metadata, Placed
from localtune.export.tokens import ANOTHER
from localtune.model import ModelConfig
from localtune.model.config import CONFIG

_PARTIAL = "partial_rotary_factor"
_ORIGINAL = "original_max_position_embeddings"


@dataclass(frozen=True)
class Rotary:
    """What an architecture of llama.cpp's can do about positions."""

    scalings: Set[str] = frozenset()
    """The values of rope_type beside the default."""
    theta: float = 10_000.0
    """The base where `config.json` is silent, as transformers has it."""
    partial: bool = False
    """It can turn the first part of a head alone."""
    layered: bool = False
    """Layers with a window have positions of their own."""


@dataclass(frozen=True)
class Positions:
    """How a file states a model's positions."""

    metadata: Metadata
    """Keys without the architecture before them."""
    tensors: tuple[Placed, ...] = ()
    notes: tuple[str, ...] = ()


def positions(shape: ModelConfig, config: Mapping[str, Any], rotary: Rotary) -> Positions:
    """The positions of a model. Raises `InputError` (code gguf.rope) with what llama.cpp does not compute alike."""
    theta = rotary.theta if shape.rope_theta is None else shape.rope_theta
    turned = _turned(shape, config, rotary)
    plain: Metadata = {"rope.freq_base": theta, "rope.dimension_count": turned}
    scaling = {key: value for key, value in (shape.rope_scaling or {}).items() if key != _PARTIAL}
    if not scaling:
        return Positions(plain)
    kind = str(scaling.pop("rope_type"))
    if kind not in rotary.scalings or kind not in _SCALINGS:
        raise _refused(f"rope_type {kind:.40}", rotary)
    _check(kind, scaling, rotary)
    if _ORIGINAL in _SCALINGS[kind].optional:
        # where both places state it, transformers takes the one at the top
        scaling[_ORIGINAL] = config.get(_ORIGINAL) or scaling.get(_ORIGINAL) or shape.context
        if not _is_positive(scaling[_ORIGINAL]) or scaling[_ORIGINAL] < 2:
            raise _refused(f"{_ORIGINAL} {scaling[_ORIGINAL]!r:.40}", rotary)
    if kind == "linear":
        return Positions({**plain, "rope.scaling.type": "linear", "rope.scaling.factor": float(scaling["factor"])})
    if kind == "llama3":
        values = llama3_factors(scaling, theta, turned)
        return Positions(plain, (Placed("rope_freqs.weight", values.shape, values=values),))
    if kind == "yarn":
        return Positions(plain | _yarn(scaling))
    return _longrope(plain, scaling, shape.context, turned)


def llama3_factors(scaling: Mapping[str, Any], theta: float, head_dim: int) -> Floats:
    """By what rope_type llama3 divides each frequency, float32 [head_dim / 2]."""
    factor, low, high = (float(scaling[key]) for key in ("factor", "low_freq_factor", "high_freq_factor"))
    original = float(scaling[_ORIGINAL])
    frequency = 1.0 / theta ** (np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
    wavelength = 2 * math.pi / frequency
    smooth = (original / wavelength - low) / (high - low)
    between = 1.0 / ((1 - smooth) / factor + smooth)
    divisor = np.where(wavelength > original / low, factor, np.where(wavelength < original / high, 1.0, between))
    return divisor.astype(np.float32)


@dataclass(frozen=True)
class _Scaling:
    required: Set[str]
    optional: Set[str] = frozenset()


_SCALINGS = {
    "linear": _Scaling({"factor"}),
    "llama3": _Scaling({"factor", "low_freq_factor", "high_freq_factor", _ORIGINAL}),
    "yarn": _Scaling(
        {"factor"},
        {_ORIGINAL, "attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate"},
    ),
    "longrope": _Scaling({"long_factor", "short_factor"}, {_ORIGINAL, "factor", "attention_factor"}),
}


_FIXED = {"beta_fast": 32, "beta_slow": 1, "truncate": True}
"""What llama.cpp takes for granted."""


def _turned(shape: ModelConfig, config: Mapping[str, Any], rotary: Rotary) -> int:
    """How many numbers of a head are turned."""
    groups: list[Mapping[str, Any]] = [config]
    for key in ("rope_parameters", "rope_scaling"):
        group = config.get(key)
        if isinstance(group, dict):
            nested = [value for value in group.values() if isinstance(value, dict)]
            if nested and not rotary.layered:
                raise _refused(f"{key} for each type of layer", rotary)
            groups += [group, *nested]
    stated = {group[_PARTIAL] for group in groups if isinstance(group.get(_PARTIAL), int | float)} - {1.0}
    strange = [group[_PARTIAL] for group in groups if not isinstance(group.get(_PARTIAL), int | float | None)]
    if strange or len(stated) > 1 or (stated and not rotary.partial):
        raise _refused(f"{_PARTIAL} {(strange or sorted(stated))[0]!r:.40}", rotary)
    part = stated.pop() if stated else 1.0
    turned = int(shape.head_dim * part) if 0 < part <= 1 else 0
    if turned < 2 or turned % 2:
        raise _refused(f"{_PARTIAL} {part!r:.40} of head_dim {shape.head_dim}", rotary)
    return turned


def _yarn(scaling: Mapping[str, Any]) -> Metadata:
    factor = float(scaling["factor"])
    keys: Metadata = {
        "rope.scaling.type": "yarn",
        "rope.scaling.factor": factor,
        "rope.scaling.original_context_length": int(scaling[_ORIGINAL]),
    }
    own, wanted = _yarn_scale(factor), scaling.get("attention_factor")
    if wanted is None:
        both = scaling.get("mscale"), scaling.get("mscale_all_dim")
        wanted = _yarn_scale(factor, both[0]) / _yarn_scale(factor, both[1]) if both[0] and both[1] else own
    if abs(wanted / own - 1) > 1e-7:
        keys["rope.scaling.attn_factor"] = wanted / own
    return keys


def _yarn_scale(factor: float, mscale: float = 1.0) -> float:
    """By what YaRN multiplies cosines and sines."""
    return 1.0 if factor <= 1 else 0.1 * mscale * math.log(factor) + 1.0


def _longrope(plain: Metadata, scaling: Mapping[str, Any], context: int, turned: int) -> Positions:
    original = int(scaling[_ORIGINAL])
    factor = scaling.get("factor") or context / original
    scale = scaling.get("attention_factor")
    if scale is None:
        scale = 1.0 if factor <= 1 else math.sqrt(1 + math.log(factor) / math.log(original))
    tensors = []
    for name in ("long", "short"):
        values = np.array(scaling[f"{name}_factor"], np.float32)
        if values.shape != (turned // 2,):
            what = f"rope_type longrope with {values.size} {name} factors instead of {turned // 2}"
            raise InputError(Problem("gguf.rope", what, CONFIG, fix=ANOTHER))
        tensors.append(Placed(f"rope_factors_{name}.weight", values.shape, values=values))
    note = (
        f"llama.cpp takes the long rope factors for every text once its context is set beyond {original:,} tokens, "
        f"training takes them for texts beyond that alone: set the context to {original} for shorter texts"
    )
    stated = {"rope.scaling.original_context_length": original, "rope.scaling.attn_factor": float(scale)}
    return Positions(plain | stated, tuple(tensors), (note,) if context > original else ())


def _check(kind: str, parameters: Mapping[str, Any], rotary: Rotary) -> None:
    """Raise for parameters that are not understood."""
    known, named = _SCALINGS[kind], f"rope_type {kind}"
    there = {key for key, value in parameters.items() if value is not None}
    if not known.required <= there or not parameters.keys() <= known.required | known.optional:
        raise _refused(f"{named} with {', '.join(sorted(parameters))[:200] or 'nothing'}", rotary)
    wrong = [f"{key} {parameters[key]!r:.40}" for key in sorted(there) if not _makes_sense(key, parameters[key])]
    if kind == "llama3" and not wrong and parameters["low_freq_factor"] >= parameters["high_freq_factor"]:
        wrong = ["low_freq_factor not below high_freq_factor"]
    if kind == "yarn" and not wrong and parameters["factor"] < 1:
        wrong = [f"factor {parameters['factor']!r:.40}"]
    if wrong:
        raise _refused(f"{named} with {', '.join(wrong)}", rotary)


def _makes_sense(key: str, value: object) -> bool:
    if key in _FIXED:
        return type(value) is not str and value == _FIXED[key]
    if key in ("long_factor", "short_factor"):
        return isinstance(value, list) and bool(value) and all(map(_is_positive, value))
    return _is_positive(value)


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 1e-9 < value < 1e18


def _refused(what: str, rotary: Rotary) -> InputError:
    able = " and ".join(sorted(rotary.scalings & _SCALINGS.keys())) or "unscaled positions"
    return InputError(Problem("gguf.rope", f"{what} cannot be exported; {able} can", CONFIG, fix=ANOTHER))
