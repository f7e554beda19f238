"""A model by folder: what is found, what it is made of, and what is said when it is not there."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from localtune.errors import InputError, Problem
from localtune.model import ModelFiles, fingerprint, resolve
from tests.material import material

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "num_hidden_layers": 1,
    "hidden_size": 4,
    "intermediate_size": 8,
    "num_attention_heads": 2,
    "vocab_size": 16,
    "max_position_embeddings": 32,
    "tie_word_embeddings": True,
    "eos_token_id": 2,
}


def make_model(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    save_file({"model.embed_tokens.weight": np.zeros((16, 4), np.float32)}, folder / "model.safetensors")
    return folder


def refusal(name: str, base: Path) -> Problem:
    with pytest.raises(InputError) as caught:
        resolve(name, base, offline=True)
    assert caught.value.problems[0].fix
    return caught.value.problems[0]


@pytest.fixture
def model(tmp_path: Path) -> ModelFiles:
    make_model(tmp_path / "models" / "tiny")
    return resolve("models/tiny", tmp_path)


def test_a_folder_is_found_from_the_base_and_absolutely(tmp_path: Path, model: ModelFiles) -> None:
    for name in ("./models/tiny", str(tmp_path / "models" / "tiny")):
        found = resolve(name, tmp_path)
        assert os.path.samefile(found.folder, model.folder)
        assert (found.name, found.revision) == (name, None)


def test_the_size_is_that_of_the_tensors(model: ModelFiles) -> None:
    assert (model.parameters, model.size, model.stop_ids, model.config.vocabulary) == (64, 256, (2,), 16)


@pytest.mark.parametrize(
    "name", ["nothing", "./none/here", "~none/here", "a/b/c", "a//b", "../..", "a/b@", "x\0y", "x" * 9000]
)
def test_a_name_that_is_neither_folder_nor_hub_id_is_told_so(tmp_path: Path, name: str) -> None:
    (tmp_path / "base").mkdir()
    base = tmp_path / "base" / "gone"
    problem = refusal(name, base)
    assert (problem.code, problem.where) == ("model.not-found", name)
    assert "org/name" in problem.what


def test_a_file_is_not_a_model(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    assert refusal("m.gguf", tmp_path).code == "model.file"
    assert "GGUF" in refusal("m.gguf", tmp_path).fix


def test_a_folder_without_a_config_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    problem = refusal("empty", tmp_path)
    assert (problem.code, problem.where) == ("model.no-config", "empty")


def test_a_name_that_would_act_on_the_screen_is_shown_harmless(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        resolve("a\x1b[2Jb", tmp_path)
    assert "\x1b" not in str(caught.value)
    assert "\\x1b" in str(caught.value)


def test_the_fingerprint_covers_configuration_tokenizer_and_weights(model: ModelFiles) -> None:
    (model.folder / "tokenizer.json").write_text("{}")
    (model.folder / "notes.txt").write_text("not part of it")
    found = fingerprint(model)
    assert list(found) == ["config.json", "tokenizer.json", "model.safetensors"]
    assert found["tokenizer.json"] == hashlib.sha256(b"{}").hexdigest()


def test_one_changed_byte_changes_the_fingerprint(model: ModelFiles) -> None:
    before = fingerprint(model)
    weights = model.folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    after = fingerprint(model)
    assert before["model.safetensors"] != after["model.safetensors"]
    assert before["config.json"] == after["config.json"]


@pytest.mark.material
def test_a_real_model_is_described_as_it_is() -> None:
    found = resolve("model-stories260K", material("model-stories260K").parent)
    assert (found.parameters, found.size, found.stop_ids) == (260_032, 1_040_128, (2, 1))
    config = found.config
    assert (config.architecture, config.layers, config.hidden, config.feed_forward) == ("LlamaForCausalLM", 5, 64, 172)
    assert (config.heads, config.kv_heads, config.head_dim, config.vocabulary) == (8, 4, 8, 512)
    assert (config.tied, config.rope_theta, config.dtype, config.context) == (True, 10000.0, "float32", 512)
    assert fingerprint(found)["model.safetensors"].startswith("407a7c58")
