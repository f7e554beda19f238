"""A written file says in llama.cpp what the model says in transformers, at every position; and the comparison would
show it if it did not."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import pre_tokenizers

from localtune.export import families, gguf_file, values
from localtune.export.placed import Conversion, Placed
from localtune.model import ModelFiles
from tests.unit.export.served import Served
from tests.unit.export.tiny import byte_level, exported, random_model, save_tokenizer

VOCABULARY = 330
PLAIN = 40
_drawn = np.random.default_rng(1)
TEXTS: dict[int, list[list[int]]] = {
    length: [_drawn.integers(3, VOCABULARY, size).tolist() for size in (length, length // 3)] for length in (24, 72)
}
"""Length of the longer -> two texts, as ids."""

THETA = {"rope_theta": 10000.0}
LLAMA3 = {
    **{"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
    **{"original_max_position_embeddings": 32, **THETA},
}
LINEAR = {"rope_type": "linear", "factor": 4.0, **THETA}
YARN = {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 32, **THETA}
LONGROPE = {
    **{"rope_type": "longrope", "long_factor": [4.0, 3.0, 5.0, 8.0, 2.0, 6.0, 7.0, 9.0], **THETA},
    "short_factor": [1.0, 1.5, 2.0, 1.2, 1.1, 1.3, 1.7, 1.9],
}
TIED = {"tie_word_embeddings": True}
GEMMA = {**TIED, "head_dim": 24, "query_pre_attn_scalar": 24, "sliding_window": 12}
TWO_BASES = {
    "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 50000.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 500.0},
}
EXPERTS = {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 40, "norm_topk_prob": True}
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {}),
    "llama, tied": ("Llama", TIED),
    "llama, every head its own key": ("Llama", {"num_key_value_heads": 4}),
    "llama, head_dim of its own": ("Llama", {"head_dim": 24}),
    "llama, biases": ("Llama", {"attention_bias": True, "mlp_bias": True}),
    "llama, another rope base": ("Llama", {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}}),
    "llama, llama3": ("Llama", {"rope_parameters": LLAMA3}),
    "llama, linear": ("Llama", {"rope_parameters": LINEAR}),
    "llama, yarn": ("Llama", {"rope_parameters": YARN}),
    "llama, another epsilon": ("Llama", {"rms_norm_eps": 0.01}),
    "mistral": ("Mistral", {"sliding_window": None}),
    "mixtral": ("Mixtral", {"num_local_experts": 8}),
    "smollm3": ("SmolLM3", {}),
    "smollm3, yarn, tied": ("SmolLM3", {"rope_parameters": YARN, **TIED}),
    "qwen2": ("Qwen2", {}),
    "qwen2, linear, tied": ("Qwen2", {"rope_parameters": LINEAR, **TIED}),
    "qwen3": ("Qwen3", {"head_dim": 24}),
    "qwen3, yarn that scales otherwise": ("Qwen3", {"rope_parameters": {**YARN, "attention_factor": 1.5}}),
    "qwen3, yarn with mscale": ("Qwen3", {"rope_parameters": {**YARN, "mscale": 1.0, "mscale_all_dim": 0.5}}),
    "qwen3-moe": ("Qwen3Moe", {"head_dim": 24, **EXPERTS}),
    "phi-3": ("Phi3", {}),
    "phi-3, partly turned, tied": (
        "Phi3",
        {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.75, **THETA}, **TIED},
    ),
    "phi-3, longrope within": (
        "Phi3",
        {"rope_parameters": LONGROPE, "original_max_position_embeddings": 256, "max_position_embeddings": 1024},
    ),
    "phi-3, longrope beyond": ("Phi3", {"rope_parameters": LONGROPE, "original_max_position_embeddings": 32}),
    "gemma 2": ("Gemma2", {**GEMMA, "attn_logit_softcapping": 5.0, "final_logit_softcapping": 10.0}),
    "gemma 3": ("Gemma3", {**GEMMA, "num_hidden_layers": 7}),
    "gemma 3, two rope bases": ("Gemma3", {**GEMMA, "num_hidden_layers": 7, "rope_parameters": TWO_BASES}),
    "gemma 3, another pattern": ("Gemma3", {**GEMMA, "num_hidden_layers": 7, "sliding_window_pattern": 3}),
}
BOUND, COARSE_BOUND = 1e-4, 1e-2
"""Of |log p|. llama.cpp looks GELU, which Gemma has, up in a table of half precision."""
SHARPER = 1e-5
"""Of the KL, in nats, which Gemma meets as the others do."""


class Compared:
    """The distributions of a model and of its file at every position of the texts."""

    def __init__(self, folder: Path, name: str, encoding: str = "F32") -> None:
        family, config = SHAPES[name]
        tokenizer = byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False), size=VOCABULARY)
        save_tokenizer(folder, tokenizer, chat_template=None)
        model = random_model(folder, family, VOCABULARY, **config)
        texts = TEXTS[72][:1] if name.endswith("beyond") else TEXTS[24]
        with torch.no_grad():
            wanted = [model(torch.tensor([ids])).logits[0].double().log_softmax(-1).numpy() for ids in texts]
        with Served(exported(folder, encoding)) as served:
            got = [served.logprobs(ids, VOCABULARY, PLAIN) for ids in texts]
        self._wanted, self._got = np.concatenate(wanted), np.concatenate(got)

    @property
    def largest(self) -> float:
        """Largest difference of a log-probability."""
        return float(np.abs(self._wanted - self._got).max())

    @property
    def divergences(self) -> Any:
        """KL (nats) of the file from the model, [positions]."""
        return (np.exp(self._wanted) * (self._wanted - self._got)).sum(1)


@pytest.mark.parametrize("name", SHAPES)
def test_log_probabilities_in_llama_cpp_are_those_in_transformers(tmp_path: Path, name: str) -> None:
    compared = Compared(tmp_path / "model", name)
    assert compared.largest < (COARSE_BOUND if name.startswith("gemma") else BOUND)
    assert compared.divergences.max() < SHARPER


Change = Callable[[Conversion], Conversion]


def without(name: str) -> Change:
    """The file lacks the tensors of that name."""
    return lambda found: replace(found, tensors=tuple(one for one in found.tensors if name not in one.name))


def with_key(key: str, value: Any) -> Change:
    """A key has another value."""

    def change(found: Conversion) -> Conversion:
        full = f"{found.architecture}.{key}"
        assert full in found.metadata
        return replace(found, metadata=found.metadata | {full: value})

    return change


def without_key(key: str) -> Change:
    """The file lacks a key."""

    def change(found: Conversion) -> Conversion:
        full = f"{found.architecture}.{key}"
        return replace(found, metadata={name: value for name, value in found.metadata.items() if name != full})

    return change


def as_placed(name: str, **how: Any) -> Change:
    """Tensors of that name are placed otherwise."""

    def change(found: Conversion) -> Conversion:
        assert any(name in one.name for one in found.tensors)
        return replace(found, tensors=tuple(replace(one, **how) if name in one.name else one for one in found.tensors))

    return change


def all_ones(name: str) -> Change:
    """Tensors of that name are 1."""

    def one(placed: Placed) -> Placed:
        if name not in placed.name:
            return placed
        return replace(placed, sources=(), added=0.0, values=np.ones(placed.shape, np.float32))

    return lambda found: replace(found, tensors=tuple(map(one, found.tensors)))


def reversed_experts(found: Conversion) -> Conversion:
    """The experts' gates are in another order than their other halves."""

    def turned(placed: Placed) -> Placed:
        return replace(placed, sources=placed.sources[::-1]) if "ffn_gate_exps" in placed.name else placed

    return replace(found, tensors=tuple(map(turned, found.tensors)))


CONTROLS: dict[str, tuple[str, Change]] = {
    "llama: rows are not regrouped": ("llama", as_placed("attn_q", heads=0)),
    "llama: biases are not regrouped": ("llama, biases", as_placed("attn_k.bias", heads=0)),
    "llama: no rope_freqs": ("llama, llama3", without("rope_freqs")),
    "llama: the usual rope base": ("llama, another rope base", with_key("rope.freq_base", 10000.0)),
    "llama: no linear scaling": ("llama, linear", with_key("rope.scaling.factor", 1.0)),
    "llama: yarn as linear": ("llama, yarn", with_key("rope.scaling.type", "linear")),
    "llama: yarn from another context": ("llama, yarn", with_key("rope.scaling.original_context_length", 256)),
    "llama: the usual epsilon": ("llama, another epsilon", with_key("attention.layer_norm_rms_epsilon", 1e-6)),
    "mistral: rows are not regrouped": ("mistral", as_placed("attn_k", heads=0)),
    "mixtral: rows are not regrouped": ("mixtral", as_placed("attn_q", heads=0)),
    "mixtral: experts in another order": ("mixtral", reversed_experts),
    "mixtral: one expert": ("mixtral", with_key("expert_used_count", 1)),
    "smollm3: rows are not regrouped": ("smollm3", as_placed("attn_q", heads=0)),
    "smollm3: another rope base": ("smollm3", with_key("rope.freq_base", 10000.0)),
    "qwen2: rows are regrouped": ("qwen2", as_placed("attn_q", heads=4)),
    "qwen2: biases are 1": ("qwen2", all_ones("attn_q.bias")),
    "qwen3: rows are regrouped": ("qwen3", as_placed("attn_q.weight", heads=4)),
    "qwen3: q norms are 1": ("qwen3", all_ones("attn_q_norm")),
    "qwen3: k norms are 1": ("qwen3", all_ones("attn_k_norm")),
    "qwen3: yarn's own scale": ("qwen3, yarn that scales otherwise", without_key("rope.scaling.attn_factor")),
    "qwen3-moe: experts in another order": ("qwen3-moe", reversed_experts),
    "qwen3-moe: three experts": ("qwen3-moe", with_key("expert_used_count", 3)),
    "phi-3: whole heads are turned": ("phi-3, partly turned, tied", with_key("rope.dimension_count", 16)),
    "phi-3: long factors within": (
        "phi-3, longrope within",
        with_key("rope.scaling.original_context_length", 32),
    ),
    "phi-3: no scale": ("phi-3, longrope within", with_key("rope.scaling.attn_factor", 1.0)),
    "phi-3: short factors beyond": (
        "phi-3, longrope beyond",
        with_key("rope.scaling.original_context_length", 256),
    ),
    "gemma 2: norms without 1": ("gemma 2", as_placed("post_ffw_norm", added=0.0)),
    "gemma 2: scores are not capped": ("gemma 2", with_key("attn_logit_softcapping", 1e6)),
    "gemma 2: logits are not capped": ("gemma 2", with_key("final_logit_softcapping", 1e6)),
    "gemma 2: no window": ("gemma 2", with_key("attention.sliding_window", 256)),
    "gemma 3: norms without 1": ("gemma 3", as_placed("attn_q_norm", added=0.0)),
    "gemma 3: no window": ("gemma 3", with_key("attention.sliding_window", 256)),
    "gemma 3: one rope base": ("gemma 3, two rope bases", with_key("rope.freq_base_swa", 50000.0)),
    "gemma 3: the usual pattern": (
        "gemma 3, another pattern",
        with_key("attention.sliding_window_pattern", 6),
    ),
}


@pytest.mark.parametrize("control", CONTROLS)
def test_what_is_written_otherwise_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, control: str) -> None:
    name, change = CONTROLS[control]

    def convert(model: ModelFiles) -> Conversion:
        return change(families.convert(model))

    monkeypatch.setattr("localtune.export.convert", convert)
    compared = Compared(tmp_path / "model", name)
    assert compared.largest > 3 * COARSE_BOUND
    assert compared.divergences.max() > 30 * SHARPER


ENCODED = {"F16": (1.5e-5, 9), "BF16": (1e-3, 6), "Q8_0": (1e-2, 4)}
"""Encoding -> bound of the mean KL, about twice what is measured, and how many bits of mantissa exceed it."""


@pytest.mark.parametrize("encoding", ENCODED)
def test_smaller_encodings_stay_near(tmp_path: Path, encoding: str) -> None:
    assert Compared(tmp_path / "model", "llama", encoding).divergences.mean() < ENCODED[encoding][0]


@pytest.mark.parametrize("encoding", ENCODED)
def test_one_bit_less_exceeds_the_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    rows_of, (bound, bits) = values.values_of, ENCODED[encoding]

    def coarse(*arguments: Any) -> Any:
        for rows in rows_of(*arguments):
            mantissa, exponent = np.frexp(rows)
            yield np.ldexp(np.round(mantissa * 2 ** (bits + 1)) / 2 ** (bits + 1), exponent)

    monkeypatch.setattr(gguf_file, "values_of", coarse)
    assert Compared(tmp_path / "model", "llama", encoding).divergences.mean() > bound
