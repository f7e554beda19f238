"""A written file says in llama.cpp what the model says in transformers, at every position; and the comparison would
show it if it did not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import pre_tokenizers

from localtune.export import families, gguf_file
from localtune.export.placed import Conversion
from localtune.export.values import values_of
from localtune.model import ModelFiles
from tests.unit.export.served import Served
from tests.unit.export.tiny import byte_level, exported, llama, save_tokenizer

IDS = [5, 80, 13, 200, 7, 7, 311, 42, 9, 150, 99, 260, 31, 4, 77, 18, 301, 66, 240, 12, 5, 80, 13, 200]
VOCABULARY = 330
PLAIN = 40
LLAMA3 = {
    **{"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
    "original_max_position_embeddings": 32,
}
SHAPES: dict[str, dict[str, Any]] = {
    "grouped queries, untied": {},
    "tied": {"tie_word_embeddings": True},
    "every head its own key": {"num_key_value_heads": 4},
    "head_dim of its own": {"head_dim": 24},
    "biases": {"attention_bias": True, "mlp_bias": True},
    "another rope base": {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}},
    "llama3 scaling": {"rope_parameters": LLAMA3},
    "linear scaling": {"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}},
    "another epsilon": {"rms_norm_eps": 0.01},
    "mistral": {"mistral": True, "sliding_window": None},
}


def divergence(folder: Path, encoding: str = "F32", **shape: Any) -> tuple[float, float]:
    """Mean and largest KL (nats) over the positions of `IDS`, transformers float32 against the file."""
    tokenizer = byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False), size=VOCABULARY)
    save_tokenizer(folder, tokenizer)
    model = llama(folder, VOCABULARY, eos=2, **shape)
    with torch.no_grad():
        wanted = model(torch.tensor([IDS])).logits[0].double().log_softmax(-1).numpy()
    with Served(exported(folder, encoding)) as served:
        got = served.logprobs(IDS, VOCABULARY, PLAIN)
    positions = (np.exp(wanted) * (wanted - got)).sum(1)
    return float(positions.mean()), float(positions.max())


@pytest.mark.parametrize("name", SHAPES)
def test_logits_in_llama_cpp_equal_those_in_transformers(tmp_path: Path, name: str) -> None:
    assert divergence(tmp_path / "model", **SHAPES[name])[1] < 1e-5


ENCODED = {"F16": (8e-6, 9), "BF16": (5e-4, 6), "Q8_0": (3.5e-3, 5)}
"""Encoding -> bound of the mean KL, about twice what is measured, and how many bits of mantissa exceed it."""


@pytest.mark.parametrize("encoding", ENCODED)
def test_smaller_encodings_stay_near(tmp_path: Path, encoding: str) -> None:
    assert divergence(tmp_path / "model", encoding)[0] < ENCODED[encoding][0]


@pytest.mark.parametrize("encoding", ENCODED)
def test_one_bit_less_exceeds_the_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    rows_of, (bound, bits) = values_of, ENCODED[encoding]

    def coarse(*arguments: Any) -> Any:
        for rows in rows_of(*arguments):
            mantissa, exponent = np.frexp(rows)
            yield np.ldexp(np.round(mantissa * 2 ** (bits + 1)) / 2 ** (bits + 1), exponent)

    monkeypatch.setattr(gguf_file, "values_of", coarse)
    assert divergence(tmp_path / "model", encoding)[0] > bound


def _changed(monkeypatch: pytest.MonkeyPatch, change: Callable[[Conversion], Conversion]) -> None:
    def convert(model: ModelFiles) -> Conversion:
        return change(families.convert(model))

    monkeypatch.setattr("localtune.export.convert", convert)


def test_without_the_regrouped_rows_the_comparison_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf_file, "regrouped", lambda rows, head_dim: rows)
    assert divergence(tmp_path / "model")[0] > 1e-2


def test_without_the_factors_of_llama3_the_comparison_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without(conversion: Conversion) -> Conversion:
        tensors = tuple(placed for placed in conversion.tensors if placed.name != "rope_freqs.weight")
        return Conversion(conversion.architecture, tensors, conversion.metadata)

    _changed(monkeypatch, without)
    assert divergence(tmp_path / "model", **SHAPES["llama3 scaling"])[0] > 1e-2


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("another rope base", "llama.rope.freq_base", 10000.0),
        ("linear scaling", "llama.rope.scaling.factor", 1.0),
        ("another epsilon", "llama.attention.layer_norm_rms_epsilon", 1e-6),
    ],
)
def test_with_a_wrong_number_the_comparison_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, key: str, value: float
) -> None:
    def changed(conversion: Conversion) -> Conversion:
        return Conversion(conversion.architecture, conversion.tensors, conversion.metadata | {key: value})

    _changed(monkeypatch, changed)
    assert divergence(tmp_path / "model", **SHAPES[name])[0] > 1e-3
