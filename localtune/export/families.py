"""Where each tensor of a model goes in a GGUF, and the hyperparameters beside it: one table row per architecture.

Exact: names are those of gguf's tensor map; every tensor the architecture has must be there in its shape and no other
may be. llama.cpp rotates neighbouring pairs of a head where transformers rotates its two halves, so in the llama
architecture the rows of q and k (and their biases) are regrouped: row (head, i, half) of the file is row
(head, half, i) of the model. rope_type llama3 becomes the tensor `rope_freqs.weight`: by what each frequency is divided
(transformers, modeling_rope_utils, `_compute_llama3_parameters`). Whatever is not known is refused by name.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gguf
import numpy as np

from localtune.batch import Floats
from localtune.errors import InputError, Problem
from localtune.model import ModelConfig, ModelFiles
from localtune.model.config import CONFIG, read_config
from localtune.model.weights import DTYPES

Metadata = dict[str, Any]
"""Key -> str, bool, int (uint32), float (float32), or a list of one of them (int32)."""

_ANOTHER = "export a model of a supported family, or convert this one with llama.cpp's convert_hf_to_gguf.py"


@dataclass(frozen=True, eq=False)
class Placed:
    """One tensor of the file."""

    name: str
    shape: tuple[int, ...]
    source: str = ""
    """Tensor of the model; "" for one that is computed."""
    heads: int = 0
    """In how many heads the rows are regrouped for llama.cpp's rotary layout; 0 = they stay."""
    values: Floats | None = None
    """What is written where there is no source."""


@dataclass(frozen=True)
class Conversion:
    """How a model is written."""

    architecture: str
    """llama.cpp's name."""
    tensors: tuple[Placed, ...]
    metadata: Metadata


def convert(model: ModelFiles) -> Conversion:
    """How `model` is written. Raises `InputError` with everything that cannot be (codes gguf.*)."""
    name = model.config.architecture
    if model.config.quantized:
        what = f"is quantised already ({model.config.quantized}); a GGUF is made from the original weights"
        raise InputError(Problem("gguf.quantised", what, CONFIG, fix="use the original 16-bit checkpoint"))
    if name not in FAMILIES:
        what = f"{name} cannot be exported; these can: {', '.join(FAMILIES)}"
        raise InputError(Problem("gguf.architecture", what, CONFIG, fix=_ANOTHER))
    config = read_config(model.folder)
    conversion, problems = FAMILIES[name](model, config)
    if problems:
        raise InputError(*problems)
    return conversion


def _llama(model: ModelFiles, config: Mapping[str, Any]) -> tuple[Conversion, list[Problem]]:
    biases = ("self_attn" if config.get("attention_bias") else "", "mlp" if config.get("mlp_bias") else "")
    return _llama_layout(model, config, biases)


def _mistral(model: ModelFiles, config: Mapping[str, Any]) -> tuple[Conversion, list[Problem]]:
    conversion, problems = _llama_layout(model, config, ())
    window = config.get("sliding_window", 4096)  # the family's default in transformers
    if window is not None and window < model.config.context:
        what = (
            f"sliding_window {window} is shorter than max_position_embeddings {model.config.context}, "
            "and llama.cpp's llama architecture has no window: longer texts would come out differently"
        )
        fix = f'write "max_position_embeddings": {window} into a copy of config.json, which limits the file to it'
        problems.append(Problem("gguf.sliding-window", what, CONFIG, fix=fix))
    return conversion, problems


FAMILIES: dict[str, Callable[[ModelFiles, Mapping[str, Any]], tuple[Conversion, list[Problem]]]] = {
    "LlamaForCausalLM": _llama,
    "MistralForCausalLM": _mistral,
}
"""Architecture in `config.json` -> how it is written, and what keeps it from being written."""


def regrouped(rows: Floats, head_dim: int) -> Floats:
    """Rows of whole heads, [heads * head_dim, …], in llama.cpp's rotary order."""
    halves = rows.reshape(-1, 2, head_dim // 2, *rows.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(rows.shape)


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


def _llama_layout(
    model: ModelFiles, config: Mapping[str, Any], biases: Sequence[str]
) -> tuple[Conversion, list[Problem]]:
    shape = model.config
    theta = 10_000.0 if shape.rope_theta is None else shape.rope_theta
    metadata: Metadata = {
        "llama.block_count": shape.layers,
        "llama.context_length": shape.context,
        "llama.embedding_length": shape.hidden,
        "llama.feed_forward_length": shape.feed_forward,
        "llama.attention.head_count": shape.heads,
        "llama.attention.head_count_kv": shape.kv_heads,
        "llama.attention.key_length": shape.head_dim,
        "llama.attention.value_length": shape.head_dim,
        "llama.attention.layer_norm_rms_epsilon": float(config.get("rms_norm_eps", 1e-6)),
        "llama.rope.freq_base": theta,
        "llama.rope.dimension_count": shape.head_dim,
        "llama.vocab_size": shape.vocabulary,
    }
    rope, scaled, problems = _rope(shape, theta, config)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, shape.layers)
    placed, missing = _placed(model, dict(_llama_tensors(shape, biases)), names)
    tensors = tuple(Placed(p.name, p.shape, p.source, _rotated_heads(p.source, shape)) for p in placed)
    problems += [*missing, *_unsupported(shape, config)]
    return Conversion("llama", (*rope, *tensors), metadata | scaled), problems


def _llama_tensors(shape: ModelConfig, biases: Sequence[str]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Every tensor of the model with its shape."""
    q, kv, hidden, wide = (
        shape.heads * shape.head_dim,
        shape.kv_heads * shape.head_dim,
        shape.hidden,
        shape.feed_forward,
    )
    linear = {
        **{"self_attn.q_proj": (q, hidden), "self_attn.k_proj": (kv, hidden), "self_attn.v_proj": (kv, hidden)},
        **{"self_attn.o_proj": (hidden, q), "mlp.gate_proj": (wide, hidden), "mlp.up_proj": (wide, hidden)},
        "mlp.down_proj": (hidden, wide),
    }
    yield "model.embed_tokens.weight", (shape.vocabulary, hidden)
    for layer in range(shape.layers):
        for norm in ("input_layernorm", "post_attention_layernorm"):
            yield f"model.layers.{layer}.{norm}.weight", (hidden,)
        for module, size in linear.items():
            yield f"model.layers.{layer}.{module}.weight", size
            if module.partition(".")[0] in biases:
                yield f"model.layers.{layer}.{module}.bias", size[:1]
    yield "model.norm.weight", (hidden,)
    if not shape.tied:
        yield "lm_head.weight", (shape.vocabulary, hidden)


def _rotated_heads(name: str, shape: ModelConfig) -> int:
    module = name.rpartition(".")[0]
    return shape.heads if module.endswith(".q_proj") else shape.kv_heads if module.endswith(".k_proj") else 0


def _placed(
    model: ModelFiles, wanted: dict[str, tuple[int, ...]], names: gguf.TensorNameMap
) -> tuple[list[Placed], list[Problem]]:
    """The tensors in the order of `wanted`, and what is missing, unknown, of another shape or type."""
    skipped = {"lm_head.weight"} if model.config.tied else set()
    found = {
        tensor.name: tensor
        for tensor in model.tensors
        if tensor.name not in skipped and not tensor.name.endswith(".rotary_emb.inv_freq")
    }
    placed, wrong = [], []
    for name, shape in wanted.items():
        tensor, target = found.get(name), names.get_name(name, try_suffixes=(".weight", ".bias"))
        if tensor is not None and tensor.shape != shape:
            wrong.append(f"{name} is {list(tensor.shape)}, expected {list(shape)}")
        elif tensor is not None and tensor.dtype not in DTYPES:
            wrong.append(f"{name} is stored as {tensor.dtype}, expected F32, F16 or BF16")
        placed.append(Placed(str(target), shape, name))
    missing = [name for name in wanted if name not in found]
    unknown = sorted(found.keys() - wanted.keys())
    lists = (("lacks", missing), ("has unknown tensors:", unknown), ("holds tensors that do not fit:", wrong))
    problems = [_tensor_problem(model, words, some) for words, some in lists if some]
    return placed, problems


def _tensor_problem(model: ModelFiles, words: str, some: Sequence[str]) -> Problem:
    shown = ", ".join(name[:120] for name in some[:3]) + (f" and {len(some) - 3} more" if len(some) > 3 else "")
    what = f"{model.config.architecture} with this config.json {words} {shown}"
    return Problem("gguf.tensors", what, model.folder.name, fix="get a fresh copy of the model's files")


_SCALING_KEYS = {
    "linear": {"factor"},
    "llama3": {"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"},
}


def _rope(shape: ModelConfig, theta: float, config: Mapping[str, Any]) -> tuple[list[Placed], Metadata, list[Problem]]:
    """The tensor, the keys and the problems of a rope scaling."""
    scaling = shape.rope_scaling
    parameters = config.get("rope_parameters")
    partial = (parameters if isinstance(parameters, dict) else {}).get(
        "partial_rotary_factor", config.get("partial_rotary_factor", 1.0)
    )
    if partial not in (None, 1.0):
        return [], {}, [_rope_problem(f"partial_rotary_factor {partial!r:.40}")]
    if scaling is None:
        return [], {}, []
    kind, keys = str(scaling.get("rope_type"))[:40], set(scaling) - {"rope_type", "partial_rotary_factor"}
    if kind not in _SCALING_KEYS:
        return [], {}, [_rope_problem(f"rope_type {kind}")]
    if keys != _SCALING_KEYS[kind]:
        return [], {}, [_rope_problem(f"rope_type {kind} with {', '.join(sorted(map(str, keys)))[:200]}")]
    if not all(_positive(scaling[key]) for key in keys):
        return [], {}, [_rope_problem(f"rope_type {kind} with values that are not numbers above 0")]
    if kind == "linear":
        return [], {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": float(scaling["factor"])}, []
    if scaling["low_freq_factor"] >= scaling["high_freq_factor"]:
        return [], {}, [_rope_problem("rope_type llama3 with low_freq_factor not below high_freq_factor")]
    factors = llama3_factors(scaling, theta, shape.head_dim)
    return [Placed("rope_freqs.weight", factors.shape, values=factors)], {}, []


def _positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e18


def _rope_problem(named: str) -> Problem:
    return Problem("gguf.rope", f"{named} cannot be exported; linear and llama3 can", CONFIG, fix=_ANOTHER)


def _unsupported(shape: ModelConfig, config: Mapping[str, Any]) -> Iterator[Problem]:
    act = config.get("hidden_act", "silu")
    if act != "silu":
        what = f"hidden_act is {act!r:.40}; llama.cpp computes this architecture with silu"
        yield Problem("gguf.activation", what, CONFIG, fix=_ANOTHER)
    if shape.head_dim % 2:
        what = f"head_dim {shape.head_dim} is odd, and rotary positions come in pairs"
        yield Problem("gguf.head-dim", what, CONFIG, fix="get a fresh copy of the model's files")
    if shape.heads % shape.kv_heads:
        what = f"num_attention_heads {shape.heads} is no multiple of num_key_value_heads {shape.kv_heads}"
        yield Problem("gguf.heads", what, CONFIG, fix="get a fresh copy of the model's files")
