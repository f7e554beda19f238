"""Where each tensor of a model goes in a GGUF, and the hyperparameters beside it: one table row per architecture.

Exact: names are those of gguf's tensor map; every tensor the architecture has must be there in its shape and no other
may be. Values of `config.json` that mean nothing, and whatever is not known, are refused by name.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from typing import Any

import gguf

from localtune.errors import InputError, Problem
from localtune.export.placed import Conversion, Metadata, Placed
from localtune.export.problems import Problems
from localtune.export.rope import llama3_factors, scaling_of
from localtune.export.tokens import ANOTHER
from localtune.model import ModelConfig, ModelFiles
from localtune.model.config import CONFIG, read_config
from localtune.model.weights import DTYPES

_FRESH = "get a fresh copy of the model's files"


def convert(model: ModelFiles) -> Conversion:
    """How `model` is written. Raises `InputError` with everything that cannot be (codes gguf.*)."""
    name = model.config.architecture
    if model.config.quantized:
        what = f"is quantised already ({model.config.quantized}); a GGUF is made from the original weights"
        raise InputError(Problem("gguf.quantised", what, CONFIG, fix="use the original 16-bit checkpoint"))
    if name not in FAMILIES:
        what = f"{name} cannot be exported; these can: {', '.join(FAMILIES)}"
        raise InputError(Problem("gguf.architecture", what, CONFIG, fix=ANOTHER))
    problems = Problems()
    conversion = FAMILIES[name](model, read_config(model.folder), problems)
    problems.end()
    return conversion


def _llama(model: ModelFiles, config: Mapping[str, Any], problems: Problems) -> Conversion:
    flags = {"self_attn": "attention_bias", "mlp": "mlp_bias"}
    biased = {part for part, key in flags.items() if _flag(config, key, problems)}
    return _llama_layout(model, config, biased, problems)


def _mistral(model: ModelFiles, config: Mapping[str, Any], problems: Problems) -> Conversion:
    window = config.get("sliding_window", 4096)  # the family's default in transformers
    if window is not None and (type(window) is not int or window <= 0):
        problems.add(_value("sliding_window", window, "a whole number above 0, or null"))
    elif window is not None and window < model.config.context:
        what = (
            f"sliding_window {window} is shorter than max_position_embeddings {model.config.context}, "
            "and llama.cpp's llama architecture has no window: longer texts would come out differently"
        )
        fix = f'write "max_position_embeddings": {window} into a copy of config.json, which limits the file to it'
        problems.add(Problem("gguf.sliding-window", what, CONFIG, fix=fix))
    return _llama_layout(model, config, set(), problems)


FAMILIES: dict[str, Callable[[ModelFiles, Mapping[str, Any], Problems], Conversion]] = {
    "LlamaForCausalLM": _llama,
    "MistralForCausalLM": _mistral,
}
"""Architecture in `config.json` -> how it is written; what keeps it from being written goes to the problems."""


def _llama_layout(model: ModelFiles, config: Mapping[str, Any], biased: Set[str], problems: Problems) -> Conversion:
    """The llama architecture; `biased` are the parts of a layer whose linear maps have biases."""
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
        "llama.attention.layer_norm_rms_epsilon": _epsilon(config, problems),
        "llama.rope.freq_base": theta,
        "llama.rope.dimension_count": shape.head_dim,
        "llama.vocab_size": shape.vocabulary,
    }
    factors: list[Placed] = []
    with problems.kept():
        scaling = scaling_of(shape, config)
        if scaling.get("rope_type") == "linear":
            metadata |= {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": float(scaling["factor"])}
        elif scaling:
            values = llama3_factors(scaling, theta, shape.head_dim)
            factors.append(Placed("rope_freqs.weight", values.shape, values=values))
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, shape.layers)
    placed = _placed(model, dict(_llama_tensors(shape, biased)), names, problems)
    tensors = (replace(p, heads=_rotated_heads(p.sources[0], shape)) for p in placed)
    problems.add(*_unsupported(shape, config))
    return Conversion("llama", (*factors, *tensors), metadata)


def _llama_tensors(shape: ModelConfig, biased: Set[str]) -> Iterator[tuple[str, tuple[int, ...]]]:
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
            if module.partition(".")[0] in biased:
                yield f"model.layers.{layer}.{module}.bias", size[:1]
    yield "model.norm.weight", (hidden,)
    if not shape.tied:
        yield "lm_head.weight", (shape.vocabulary, hidden)


def _rotated_heads(name: str, shape: ModelConfig) -> int:
    module = name.rpartition(".")[0]
    return shape.heads if module.endswith(".q_proj") else shape.kv_heads if module.endswith(".k_proj") else 0


def _placed(
    model: ModelFiles, wanted: dict[str, tuple[int, ...]], names: gguf.TensorNameMap, problems: Problems
) -> list[Placed]:
    """The tensors in the order of `wanted`; what is missing, unknown, of another shape or type is a problem."""
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
        placed.append(Placed(str(target), shape, (name,)))
    missing = [name for name in wanted if name not in found]
    unknown = sorted(found.keys() - wanted.keys())
    lists = (("lacks", missing), ("has unknown tensors:", unknown), ("holds tensors that do not fit:", wrong))
    problems.add(*(_tensor_problem(model, words, some) for words, some in lists if some))
    return placed


def _tensor_problem(model: ModelFiles, words: str, some: Sequence[str]) -> Problem:
    shown = ", ".join(name[:120] for name in some[:3]) + (f" and {len(some) - 3} more" if len(some) > 3 else "")
    what = f"{model.config.architecture} with this config.json {words} {shown}"
    return Problem("gguf.tensors", what, model.folder.name, fix=_FRESH)


def _epsilon(config: Mapping[str, Any], problems: Problems) -> float:
    """What keeps a norm from dividing by 0; a float32 above 0."""
    value = config.get("rms_norm_eps", 1e-6)
    if type(value) in (int, float) and 1e-30 < value < 1:
        return float(value)
    problems.add(_value("rms_norm_eps", value, "a number above 0 and below 1"))
    return 1e-6


def _flag(config: Mapping[str, Any], key: str, problems: Problems) -> bool:
    value = config.get(key)
    if value is not None and not isinstance(value, bool):
        problems.add(_value(key, value, "true or false"))
    return value is True


def _value(key: str, value: object, expected: str) -> Problem:
    return Problem("gguf.config", f"{key} is {value!r:.60}; expected {expected}", CONFIG, fix=_FRESH)


def _unsupported(shape: ModelConfig, config: Mapping[str, Any]) -> Iterator[Problem]:
    act = config.get("hidden_act", "silu")
    if act != "silu":
        what = f"hidden_act is {act!r:.40}; llama.cpp computes this architecture with silu"
        yield Problem("gguf.activation", what, CONFIG, fix=ANOTHER)
    if shape.head_dim % 2:
        what = f"head_dim {shape.head_dim} is odd, and rotary positions come in pairs"
        yield Problem("gguf.head-dim", what, CONFIG, fix=_FRESH)
    if shape.heads % shape.kv_heads:
        what = f"num_attention_heads {shape.heads} is no multiple of num_key_value_heads {shape.kv_heads}"
        yield Problem("gguf.heads", what, CONFIG, fix=_FRESH)
