"""Rotary embeddings from every form of a configuration say the same on MLX and PyTorch, or are refused by name."""

from pathlib import Path
from typing import Any

import pytest

from localtune.backend import Backend
from localtune.batch import Floats
from localtune.model import ModelFiles
from tests.contract.conftest import (
    FAMILIES,
    MORE,
    PARITY,
    files_of,
    logits_apart,
    make_model,
    open_on,
    segment,
    with_config,
)
from tests.contract.test_probe_and_refusals import settings

TOKENS = segment(40, 9).tokens.tolist()
PLACES = list(range(len(TOKENS)))

THETA = {"rope_parameters": {"rope_type": "default", "rope_theta": 300.0}}
THETAS = {
    "rope_parameters": {
        "full_attention": {"rope_type": "default", "rope_theta": 300.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 30.0},
    }
}


def logits_of(backend: Backend, files: ModelFiles) -> Floats:
    with open_on(backend, files, objective=None, optimizer=None) as session:
        return session.logits(TOKENS, PLACES)


@pytest.mark.parametrize("family", [*PARITY, *MORE])
def test_a_rotary_base_other_than_the_default_is_read(
    backends: tuple[Backend, Backend], tmp_path: Path, family: str
) -> None:
    kind, extra = FAMILIES[family]
    theta = THETAS if family == "gemma3" else THETA
    files = files_of(make_model((kind, {**extra, **theta}), tmp_path / "theta"))
    expected = logits_of(backends[0], files)
    assert logits_apart(logits_of(backends[1], files), expected) <= 1e-5
    forgotten = with_config(files, tmp_path / "forgotten", {"rope_parameters": None})
    for backend in backends:
        assert logits_apart(logits_of(backend, forgotten), expected) > 1e-3


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3"])
def test_the_form_of_transformers_4_says_the_same(
    backends: tuple[Backend, Backend], tmp_path: Path, family: str
) -> None:
    kind, extra = FAMILIES[family]
    theta = THETAS if family == "gemma3" else THETA
    files = files_of(make_model((kind, {**extra, **theta}), tmp_path / "new"))
    old: dict[str, Any] = {"rope_parameters": None, "rope_theta": 300.0}
    if family == "gemma3":
        old["rope_local_base_freq"] = 30.0
    expected = logits_of(backends[0], files)
    for backend in backends:
        assert logits_apart(logits_of(backend, with_config(files, tmp_path / "old", old)), expected) <= 1e-5


ORIGINAL = {"original_max_position_embeddings": 64}
SCALINGS: dict[str, dict[str, Any]] = {
    "linear": {"factor": 4.0},
    "llama3": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32},
    "yarn": {"factor": 4.0, **ORIGINAL},
    "yarn-other-factor": {"factor": 2.0, **ORIGINAL},
    "yarn-betas": {"factor": 4.0, **ORIGINAL, "beta_fast": 16.0, "beta_slow": 2.0},
    "yarn-attention": {"factor": 4.0, **ORIGINAL, "attention_factor": 1.3},
    "yarn-untruncated": {"factor": 4.0, **ORIGINAL, "truncate": False},
    "yarn-mscale": {"factor": 4.0, **ORIGINAL, "mscale": 0.7, "mscale_all_dim": 1.0},
    "yarn-half-mscale": {"factor": 4.0, **ORIGINAL, "mscale": 0.7},
    "yarn-without-original": {"factor": 4.0},
    "llama3-without-original": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
}


def scaled_model(family: str, name: str, folder: Path) -> ModelFiles:
    kind, extra = FAMILIES[family]
    scaling = {"rope_type": name.split("-")[0], "rope_theta": 10_000.0, **SCALINGS[name]}
    return files_of(
        make_model((kind, {**extra, "head_dim": 16, "hidden_size": 64, "rope_parameters": scaling}), folder)
    )


@pytest.mark.parametrize("family", ["llama", "mistral-inside", "qwen2", "qwen3"])
@pytest.mark.parametrize("name", SCALINGS)
def test_a_scaled_rotary_embedding_is_the_same_or_refused(
    backends: tuple[Backend, Backend], tmp_path: Path, family: str, name: str
) -> None:
    files = scaled_model(family, name, tmp_path / "scaled")
    if found := backends[1].supports(files, settings()):
        assert [refusal.setting for refusal in found] == ["model"]
        assert name.split("-")[0] in found[0].reason
        return
    expected = logits_of(backends[0], files)
    assert logits_apart(logits_of(backends[1], files), expected) <= 1e-5
    plain = {"rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0}}
    unscaled = with_config(files, tmp_path / "unscaled", plain)
    assert logits_apart(logits_of(backends[1], unscaled), expected) > 1e-3


TAKEN = {
    "llama": {"linear", "llama3", "yarn"},
    "mistral-inside": {"linear", "yarn"},
    "qwen2": {"linear", "yarn"},
    "qwen3": {"linear", "yarn"},
    "granite": set(),
    "gemma2-inside": set(),
}


@pytest.mark.parametrize("family", TAKEN)
def test_exactly_these_scalings_are_taken(backends: tuple[Backend, Backend], tmp_path: Path, family: str) -> None:
    names = ("linear", "llama3", "yarn")
    taken = {
        name for name in names if not backends[1].supports(scaled_model(family, name, tmp_path / name), settings())
    }
    assert taken == TAKEN[family]
