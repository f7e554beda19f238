"""The key of a base: the same of all that was made of it, another of any other model of its shape."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from localtune.export.adapter_file import write_adapter
from localtune.export.families import convert
from localtune.export.fingerprint import KEY, base_key, same_base
from localtune.export.identity import Identity
from localtune.export.read import read_gguf
from localtune.fuse import fuse
from localtune.model import ModelFiles, resolve
from tests.unit.test_fuse import make_adapter
from tests.unit.test_fuse_quantised import original, quantised


def found(folder: Path) -> ModelFiles:
    return resolve(str(folder), folder, offline=True)


def key(model: ModelFiles) -> dict[str, str]:
    return base_key(model, convert(model))


def changed(folder: Path, change: Any) -> ModelFiles:
    """The model in `folder` after `change` to its tensors."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})
    return found(folder)


@pytest.mark.parametrize("dtype", [None, "float32"])
def test_an_adapter_and_what_it_was_fused_into_say_the_same_base(tmp_path: Path, dtype: Any) -> None:
    base = found(original(tmp_path / "base"))
    make_adapter(base.folder, tmp_path / "adapter", lora_alpha=64)
    write_adapter(tmp_path / "adapter", base, tmp_path / "a.gguf", Identity("Tiny", "1M", "test", "v1.0"))
    (tmp_path / "fused").mkdir()
    fuse(base, tmp_path / "adapter", tmp_path / "fused", dtype)
    stated = read_gguf(tmp_path / "a.gguf").metadata
    assert len(stated[KEY]) == 64
    assert same_base(stated, key(base))
    assert same_base(stated, key(found(tmp_path / "fused")))


def one_norm(tensors: dict[str, Any]) -> None:
    tensors["model.layers.1.input_layernorm.weight"][3] += 0.01


def the_embedding(tensors: dict[str, Any]) -> None:
    tensors["model.embed_tokens.weight"] *= 1.01


@pytest.mark.parametrize("change", [one_norm, the_embedding])
def test_a_model_of_the_same_shape_that_was_trained_further_says_another(tmp_path: Path, change: Any) -> None:
    before = key(found(original(tmp_path / "base")))
    assert same_base(before, key(changed(tmp_path / "base", change))) is False


def one_matrix(tensors: dict[str, Any]) -> None:
    tensors["model.layers.1.self_attn.q_proj.weight"] += torch.tensor(0.01)


def test_what_only_its_matrices_tell_apart_says_the_same(tmp_path: Path) -> None:
    before = key(found(original(tmp_path / "base")))
    assert same_base(before, key(changed(tmp_path / "base", one_matrix)))


@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_a_copy_in_few_bits_says_its_original(tmp_path: Path, kind: str) -> None:
    pytest.importorskip("bitsandbytes")
    assert same_base(key(quantised(tmp_path / "few", kind)), key(found(tmp_path / "original")))


def test_where_the_embedding_is_in_few_bits_nothing_is_said(tmp_path: Path) -> None:
    assert key(quantised(tmp_path / "few", "affine4")) == {}


def test_a_file_that_says_nothing_is_neither_the_same_nor_another() -> None:
    assert same_base({}, {KEY: "a"}) is same_base({KEY: "a"}, {}) is same_base({KEY: 1}, {KEY: 1}) is None
