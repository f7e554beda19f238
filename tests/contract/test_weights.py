"""Weights that are not as the configuration says: loaded right, or refused with what to do. And full models saved."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from localtune.adapter import Full
from localtune.errors import InputError
from localtune.model import ModelFiles
from tests.contract.conftest import Models, Opener, Tensors, files_of, logits_apart, rows_of, saved, segment

TOKENS = segment(12, 5).tokens.tolist()
PLACES = list(range(len(TOKENS)))
BATCH = rows_of([segment(9, 1), segment(20, 2)], [segment(25, 3)])


def copied(files: ModelFiles, folder: Path, change: Callable[[Tensors], Tensors]) -> Path:
    """A copy of the model in `folder` with other tensors."""
    from safetensors.numpy import load_file, save_file

    folder.mkdir()
    for path in files.folder.glob("*.json"):
        (folder / path.name).write_bytes(path.read_bytes())
    tensors = change(load_file(files.folder / "model.safetensors"))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def sharded(files: ModelFiles, folder: Path) -> Path:
    """A copy of the model in `folder` in two shards."""
    from safetensors.numpy import load_file, save_file

    folder.mkdir()
    for path in files.folder.glob("*.json"):
        (folder / path.name).write_bytes(path.read_bytes())
    tensors = sorted(load_file(files.folder / "model.safetensors").items())
    index: dict[str, str] = {}
    for number, part in enumerate((dict(tensors[::2]), dict(tensors[1::2])), start=1):
        shard = f"model-0000{number}-of-00002.safetensors"
        save_file(part, folder / shard, metadata={"format": "pt"})
        index |= dict.fromkeys(part, shard)
    record = {"metadata": {"total_size": 1}, "weight_map": index}
    (folder / "model.safetensors.index.json").write_text(json.dumps(record), encoding="utf-8")
    return folder


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_shards_are_the_model(open_session: Opener, models: Models, tmp_path: Path, family: str) -> None:
    with open_session(family) as session:
        expected = session.logits(TOKENS, PLACES)
    with open_session(files_of(sharded(models(family), tmp_path / "shards"))) as session:
        np.testing.assert_array_equal(session.logits(TOKENS, PLACES), expected)


def test_a_shard_that_went_missing_is_an_input_error(open_session: Opener, models: Models, tmp_path: Path) -> None:
    files = files_of(sharded(models("llama"), tmp_path / "shards"))
    (files.folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(InputError, match="do not fit") as caught:
        open_session(files)
    assert caught.value.problems[0].fix
    with pytest.raises(InputError):
        files_of(files.folder)


def without(name: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {key: value for key, value in tensors.items() if key != name}


def narrower(name: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {**tensors, name: tensors[name][:-1].copy()}


def turned(name: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {**tensors, name: tensors[name].T.copy()}


SPOILED = {
    "missing": without("model.layers.1.mlp.up_proj.weight"),
    "missing norm": without("model.norm.weight"),
    "missing head": without("lm_head.weight"),
    "narrower": narrower("model.layers.0.self_attn.k_proj.weight"),
    "narrower norm": narrower("model.layers.0.input_layernorm.weight"),
    "turned": turned("model.layers.0.mlp.down_proj.weight"),
    "fewer words": narrower("model.embed_tokens.weight"),
}


@pytest.mark.parametrize("change", SPOILED.values(), ids=SPOILED.keys())
def test_missing_and_misshapen_tensors_are_an_input_error(
    open_session: Opener, models: Models, tmp_path: Path, change: Callable[[Tensors], Tensors]
) -> None:
    folder = copied(models("llama"), tmp_path / "spoiled", change)
    with pytest.raises(InputError) as caught:
        open_session(replace(models("llama"), folder=folder))
    assert "do not fit" in str(caught.value)
    assert caught.value.problems[0].fix


def head_only(tensors: Tensors) -> Tensors:
    embedding = tensors.pop("model.embed_tokens.weight")
    return {**tensors, "lm_head.weight": embedding}


def both(tensors: Tensors) -> Tensors:
    return {**tensors, "lm_head.weight": tensors["model.embed_tokens.weight"]}


@pytest.mark.parametrize("change", [head_only, both])
@pytest.mark.parametrize("family", ["llama-tied", "gemma2-inside", "gemma3"])
def test_tied_weights_under_the_name_of_the_head_are_loaded_right(
    open_session: Opener,
    models: Models,
    tmp_path: Path,
    family: str,
    change: Callable[[Tensors], Tensors],
) -> None:
    with open_session(family) as session:
        expected = session.logits(TOKENS, PLACES)
    files = files_of(copied(models(family), tmp_path / "head", change))
    with open_session(files) as session:
        np.testing.assert_array_equal(session.logits(TOKENS, PLACES), expected)


@pytest.mark.parametrize("family", ["llama", "llama-tied", "qwen3", "gemma3", "phi3-inside"])
def test_transformers_opens_a_full_fine_tune_with_the_same_logits(
    open_session: Opener, models: Models, tmp_path: Path, family: str
) -> None:
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForCausalLM

    files, folder = models(family), tmp_path / "model"
    with open_session(family, Full()) as session:
        base = session.logits(TOKENS, PLACES)
        for step in range(2):
            session.train_step([BATCH], step=step, lr=1e-3)
        ours = session.logits(TOKENS, PLACES)
        tensors = saved(session, folder)
    assert {(name, value.shape) for name, value in tensors.items()} == {(t.name, t.shape) for t in files.tensors}
    (folder / "config.json").write_bytes((files.folder / "config.json").read_bytes())
    kept: Any = {"dtype": torch.float32, "attn_implementation": "eager", "local_files_only": True}
    model, report = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True, **kept)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    with torch.no_grad():
        theirs = model.eval()(input_ids=torch.tensor([TOKENS])).logits[0].numpy()
    assert logits_apart(ours, theirs) <= 1e-5
    assert logits_apart(base, theirs) > 1e-3
