"""Where each tensor of a model goes in a GGUF, and the hyperparameters beside it: one row and function per family.

Exact: names are those of gguf's tensor map; every tensor the architecture has must be there in its shape and no other
may be. Values of `config.json` that mean nothing, and whatever llama.cpp computes otherwise, are refused by name. The
keys a function looks at are all those of the family's class in transformers that change a number.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from gguf import MODEL_ARCH, MODEL_ARCH_NAMES

from localtune.errors import InputError, Problem
from localtune.export.families.decoder import ATTENTION, MLP, QKV, Decoder, Experts, wanted
from localtune.export.families.placing import placed, stored
from localtune.export.families.reading import FRESH, Reading
from localtune.export.placed import Conversion, Metadata
from localtune.export.problems import Problems
from localtune.export.rope import Positions, Rotary, positions
from localtune.export.tokens import ANOTHER
from localtune.model import ModelFiles
from localtune.model.config import CONFIG
from localtune.model.plain import KNOWN


@dataclass(frozen=True)
class Family:
    """How a model is written."""

    arch: MODEL_ARCH
    """llama.cpp's architecture."""
    decoder: Decoder
    rotary: Rotary
    metadata: Metadata = field(default_factory=dict)
    """Keys of its own, without the architecture before them."""


def convert(model: ModelFiles) -> Conversion:
    """How `model` is written. Raises `InputError` with everything that cannot be (codes gguf.*)."""
    name = model.config.architecture
    if model.config.quantized not in KNOWN:
        what = f"is quantised already ({model.config.quantized}) in a way that cannot be undone here"
        raise InputError(Problem("gguf.quantised", what, CONFIG, fix="use the original 16-bit checkpoint"))
    if name not in FAMILIES:
        what = f"{name} cannot be exported; these can: {', '.join(FAMILIES)}"
        raise InputError(Problem("gguf.architecture", what, CONFIG, fix=ANOTHER))
    problems = Problems()
    reading = Reading(model, problems)
    family = FAMILIES[name](reading)
    found = stored(model)
    turning = Positions({})
    with problems.kept():
        turning = positions(model.config, reading.config, family.rotary)
    tensors = placed(model, found, list(wanted(model.config, family.decoder, found)), family.arch, problems)
    keys = _common(reading) | turning.metadata | family.metadata
    problems.end()
    architecture = MODEL_ARCH_NAMES[family.arch]
    metadata = {f"{architecture}.{key}": value for key, value in keys.items()}
    return Conversion(architecture, (*turning.tensors, *tensors), metadata, (*reading.notes, *turning.notes))


def _llama(reading: Reading) -> Family:
    biases = {"attention_bias": ATTENTION, "mlp_bias": MLP}
    biased = frozenset(module for key, modules in biases.items() if reading.flag(key) for module in modules)
    reading.activation("hidden_act", "silu", "swish")
    return Family(MODEL_ARCH.LLAMA, Decoder(biased, regrouped=True), _LLAMA)


def _mistral(reading: Reading) -> Family:
    reading.activation("hidden_act", "silu", "swish")
    reading.limit_to_window(reading.config.get("sliding_window", 4096))
    return Family(MODEL_ARCH.LLAMA, Decoder(regrouped=True), _LLAMA)


def _mixtral(reading: Reading) -> Family:
    reading.activation("hidden_act", "silu", "swish")
    reading.limit_to_window(reading.config.get("sliding_window"))
    count, used = reading.count("num_local_experts", 8), reading.count("num_experts_per_tok", 2)
    experts = Experts(count, reading.shape.feed_forward, "block_sparse_moe", ("w1", "w3", "w2"))
    rotary = Rotary(_LLAMA.scalings, theta=1_000_000.0)
    return Family(MODEL_ARCH.LLAMA, Decoder(experts=experts, regrouped=True), rotary, _chosen(reading, count, used))


def _smollm3(reading: Reading) -> Family:
    reading.activation("hidden_act", "silu", "swish")
    reading.without("attention_bias")
    reading.without("mlp_bias")
    reading.limit_to_window(reading.shape.sliding_window)
    layers = range(reading.shape.layers)
    usual = [int((layer + 1) % 4 != 0) for layer in layers]
    interval = reading.config.get("no_rope_layer_interval", 4)
    turned = reading.config.get("no_rope_layers")
    if turned != usual and (turned is not None or interval != 4):
        what = "no_rope_layers are others than every fourth, which llama.cpp does not know"
        reading.refuse("gguf.rope", what)
    return Family(MODEL_ARCH.SMOLLM3, Decoder(regrouped=True), Rotary({"linear", "yarn"}, theta=2_000_000.0))


def _qwen2(reading: Reading) -> Family:
    reading.activation("hidden_act", "silu", "swish")
    reading.limit_to_window(reading.shape.sliding_window)
    return Family(MODEL_ARCH.QWEN2, Decoder(frozenset(QKV)), Rotary({"linear", "yarn"}))


def _qwen3(reading: Reading) -> Family:
    reading.activation("hidden_act", "silu", "swish")
    reading.without("attention_bias")
    reading.limit_to_window(reading.shape.sliding_window)
    return Family(MODEL_ARCH.QWEN3, Decoder(head_norms=True), Rotary({"linear", "yarn"}))


def _qwen3_moe(reading: Reading) -> Family:
    like = _qwen3(reading)
    reading.without("mlp_only_layers", [])
    reading.without("decoder_sparse_step", 1)
    if not reading.flag("norm_topk_prob"):
        what = "norm_topk_prob is not true: llama.cpp scales the weights of the chosen experts to a sum of 1"
        reading.refuse("gguf.config", what)
    name = "num_local_experts" if "num_local_experts" in reading.config else "num_experts"  # transformers 5 and 4
    count, used = reading.count(name, 128), reading.count("num_experts_per_tok", 8)
    width = reading.count("moe_intermediate_size", 768)
    experts = Experts(count, width, "mlp", ("gate_proj", "up_proj", "down_proj"))
    keys = {"expert_feed_forward_length": width} | _chosen(reading, count, used)
    return Family(MODEL_ARCH.QWEN3MOE, Decoder(head_norms=True, experts=experts), like.rotary, keys)


def _phi3(reading: Reading) -> Family:
    reading.activation("hidden_act", "silu", "swish")
    reading.limit_to_window(reading.config.get("sliding_window"))
    reading.whole_heads()
    return Family(MODEL_ARCH.PHI3, Decoder(fused=True), Rotary({"longrope"}, partial=True))


def _gemma2(reading: Reading) -> Family:
    keys = _gemma(reading, largest=46, period=reading.window_period(2), usual=2)
    for cap, silent in (("attn_logit_softcapping", 50.0), ("final_logit_softcapping", 30.0)):
        keys[cap] = reading.number(cap, silent)
    return Family(MODEL_ARCH.GEMMA2, Decoder(norms=_SANDWICHED, norm_offset=1.0), Rotary(), keys)


def _gemma3(reading: Reading) -> Family:
    period = reading.window_period(reading.count("sliding_window_pattern", 6))
    keys = _gemma(reading, largest=62, period=period, usual=6)
    reading.without("attn_logit_softcapping")
    reading.without("final_logit_softcapping")
    keys |= {"rope.freq_base_swa": reading.local_theta(10_000.0)}
    decoder = Decoder(norms=_SANDWICHED, head_norms=True, norm_offset=1.0)
    return Family(MODEL_ARCH.GEMMA3, decoder, Rotary({"linear"}, theta=1_000_000.0, layered=True), keys)


FAMILIES: dict[str, Callable[[Reading], Family]] = {
    "LlamaForCausalLM": _llama,
    "MistralForCausalLM": _mistral,
    "MixtralForCausalLM": _mixtral,
    "SmolLM3ForCausalLM": _smollm3,
    "Qwen2ForCausalLM": _qwen2,
    "Qwen3ForCausalLM": _qwen3,
    "Qwen3MoeForCausalLM": _qwen3_moe,
    "Phi3ForCausalLM": _phi3,
    "Gemma2ForCausalLM": _gemma2,
    "Gemma3ForCausalLM": _gemma3,
}
"""Architecture in `config.json` -> how it is written; what keeps it from being written goes to the reading."""

_LLAMA = Rotary({"linear", "llama3", "yarn"})
_SANDWICHED = (
    *("input_layernorm", "post_attention_layernorm"),
    *("pre_feedforward_layernorm", "post_feedforward_layernorm"),
)


def _common(reading: Reading) -> Metadata:
    """The keys of every family."""
    shape = reading.shape
    if shape.head_dim % 2:
        what = f"head_dim {shape.head_dim} is odd, and rotary positions come in pairs"
        reading.refuse("gguf.head-dim", what, FRESH)
    if shape.heads % shape.kv_heads:
        what = f"num_attention_heads {shape.heads} is no multiple of num_key_value_heads {shape.kv_heads}"
        reading.refuse("gguf.heads", what, FRESH)
    return {
        "block_count": shape.layers,
        "context_length": reading.context,
        "embedding_length": shape.hidden,
        "feed_forward_length": shape.feed_forward,
        "attention.head_count": shape.heads,
        "attention.head_count_kv": shape.kv_heads,
        "attention.key_length": shape.head_dim,
        "attention.value_length": shape.head_dim,
        "attention.layer_norm_rms_epsilon": reading.epsilon(),
        "vocab_size": shape.vocabulary,
    }


def _chosen(reading: Reading, count: int, used: int) -> Metadata:
    """The keys of a router."""
    if used > count:
        reading.refuse("gguf.config", f"num_experts_per_tok {used} is more than the {count} experts", FRESH)
    return {"expert_count": count, "expert_used_count": used}


def _gemma(reading: Reading, *, largest: int, period: int, usual: int) -> Metadata:
    """What both generations have in common; `largest` is the number of layers by which llama.cpp knows the 27B model,
    whose queries it scales by the width of the hidden state per head, and by that of a head in every other."""
    shape = reading.shape
    reading.activation("hidden_activation", "gelu_pytorch_tanh")
    reading.without("attention_bias")
    reading.without("use_bidirectional_attention")
    reading.tied()
    scalar = reading.number("query_pre_attn_scalar", 256)
    expected = shape.hidden // shape.heads if shape.layers == largest else shape.head_dim
    if not math.isclose(scalar, expected):
        what = f"query_pre_attn_scalar is {scalar:g}; llama.cpp computes a model of this shape with {expected}"
        reading.refuse("gguf.config", what)
    keys: Metadata = {"attention.sliding_window": shape.sliding_window or shape.context}
    return keys if period == usual else keys | {"attention.sliding_window_pattern": period}
