"""Adapters on disk are PEFT's: what a session saved, peft opens with the same logits; what does not fit is refused."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from localtune.adapter import Full, Lora, initial_a
from localtune.backend import Backend
from localtune.batch import Floats
from localtune.errors import InputError
from localtune.model import ModelFiles
from tests.contract.conftest import LORA, Models, Opener, rows_of, saved, segment, weights_in
from tests.goals import Reached

BATCH = rows_of([segment(9, 1), segment(20, 2)], [segment(25, 3)])
TOKENS = segment(12, 5).tokens.tolist()
PLACES = list(range(len(TOKENS)))
VARIANTS = {
    "lora": LORA,
    "rslora": replace(LORA, rslora=True),
    "dora": replace(LORA, dora=True),
    "attention": Lora(3, 5.0, targets=("q_proj", "v_proj")),
}


def test_an_adapter_starts_as_the_core_says(open_session: Opener, tmp_path: Path) -> None:
    with open_session("llama", LORA, seed=5) as session:
        tensors = saved(session, tmp_path)
    assert len(tensors) == 2 * 7 * 2  # A and B, seven modules, two layers
    for name, tensor in tensors.items():
        assert tensor.dtype == np.float32
        module = name.removeprefix("base_model.model.").split(".lora_")[0]
        if ".lora_A." in name:
            np.testing.assert_array_equal(tensor, initial_a(5, module, 4, tensor.shape[1]))
        else:
            assert not tensor.any()


def peft_logits(files: ModelFiles, folder: Path, *, merge: bool = False) -> Floats:
    """What peft says, from the folder alone."""
    torch = pytest.importorskip("torch")
    import peft
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(files.folder, dtype=torch.float32, attn_implementation="eager")
    model = peft.PeftModel.from_pretrained(base, folder).eval()
    model = model.merge_and_unload() if merge else model
    with torch.no_grad():
        logits: Floats = model(input_ids=torch.tensor([TOKENS])).logits[0].numpy()
    return logits


@pytest.mark.parametrize("family", ["llama", "gemma2-inside", "phi3-inside"])
@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS.keys())
def test_peft_opens_it_with_the_same_logits(
    open_session: Opener, models: Models, tmp_path: Path, family: str, variant: Lora
) -> None:
    if family == "phi3-inside":
        variant = replace(variant, targets=(*variant.targets, "qkv_proj"))
    with open_session(family, variant) as session:
        for step in range(3):
            session.train_step([BATCH], step=step, lr=1e-2)
        ours, base = session.logits(TOKENS, PLACES), session.logits(TOKENS, PLACES, adapter=False)
        saved(session, tmp_path)
    assert np.max(np.abs(peft_logits(models(family), tmp_path) - ours)) <= 1e-4
    assert np.max(np.abs(peft_logits(models(family), tmp_path, merge=True) - ours)) <= 1e-4
    assert np.max(np.abs(base - ours)) > 1e-2


def test_merged_is_the_adapter_within_rounding(
    backend: Backend, open_session: Opener, models: Models, tmp_path: Path, goal: Reached
) -> None:
    with open_session("llama", LORA) as session:
        session.train_step([BATCH], step=0, lr=1e-2)
        ours = session.logits(TOKENS, PLACES)
        saved(session, tmp_path)
    gap = np.max(np.abs(peft_logits(models("llama"), tmp_path, merge=True) - ours))
    goal("fuse", f"{backend.probe().backend}: logits of weights that peft merged within {gap:.1e} of base and adapter")
    assert gap <= 1e-5
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps({**config, "lora_alpha": 2 * config["lora_alpha"]}))
    assert np.max(np.abs(peft_logits(models("llama"), tmp_path, merge=True) - ours)) > 1e-2  # the scale is in there


@pytest.mark.parametrize("precision", ["float32", "quantised"])
def test_a_session_that_starts_from_it_says_the_same(open_session: Opener, tmp_path: Path, precision: str) -> None:
    with open_session("llama-even", LORA, precision=precision) as session:
        session.train_step([BATCH], step=0, lr=1e-2)
        ours, base = session.logits(TOKENS, PLACES), session.logits(TOKENS, PLACES, adapter=False)
        saved(session, tmp_path)
    with open_session("llama-even", None, tmp_path, precision=precision, objective=None, optimizer=None) as session:
        np.testing.assert_array_equal(session.logits(TOKENS, PLACES), ours)
        np.testing.assert_array_equal(session.logits(TOKENS, PLACES, adapter=False), base)
        np.testing.assert_array_equal(session.logits(TOKENS, PLACES), ours)
    with open_session("llama-even", LORA, tmp_path, precision=precision) as session:
        np.testing.assert_array_equal(session.logits(TOKENS, PLACES), ours)


Spoil = Callable[[dict[str, Any]], dict[str, Any]]
SPOILED: dict[str, tuple[Spoil, str]] = {
    "missing": (lambda tensors: dict(list(tensors.items())[1:]), "is missing"),
    "unknown": (lambda tensors: {**tensors, "extra.lora_A.weight": np.zeros((1, 1), np.float32)}, "is unknown"),
    "shape": (lambda tensors: {name: value[:, :-1].copy() for name, value in tensors.items()}, "expected"),
}


@pytest.mark.parametrize("case", SPOILED.values(), ids=SPOILED.keys())
def test_tensors_that_do_not_fit_are_named(open_session: Opener, tmp_path: Path, case: tuple[Spoil, str]) -> None:
    from safetensors.numpy import save_file

    with open_session("llama", LORA) as session:
        saved(session, tmp_path)
    save_file(case[0](weights_in(tmp_path)), tmp_path / "adapter_model.safetensors")
    with pytest.raises(InputError, match=case[1]):
        open_session("llama", LORA, tmp_path)


@pytest.mark.parametrize("changed", [{"rank": 2}, {"alpha": 3.0}, {"dora": True}, {"rslora": True}], ids=str)
def test_an_adapter_of_another_rank_scale_or_kind_is_refused(
    open_session: Opener, tmp_path: Path, changed: dict[str, Any]
) -> None:
    with open_session("llama", LORA) as session:
        saved(session, tmp_path)
    with pytest.raises(InputError, match="asked for"):
        open_session("llama", replace(LORA, **changed), tmp_path)


@pytest.mark.parametrize("changed", [{"alpha": 3.0}, {"dora": True}, {"rank": 2}, {"rslora": True}], ids=str)
def test_a_checkpoint_of_another_rank_scale_or_kind_is_not_restored(
    open_session: Opener, tmp_path: Path, changed: dict[str, Any]
) -> None:
    with open_session("llama", LORA) as session:
        saved(session, tmp_path, state=True)
    with open_session("llama", replace(LORA, **changed), seed=8) as session:
        ours = session.logits(TOKENS, PLACES)
        with pytest.raises(InputError, match="asked for"):
            session.restore(tmp_path)
        np.testing.assert_array_equal(session.logits(TOKENS, PLACES), ours)


def test_targets_the_model_lacks_are_refused_with_those_it_has(open_session: Opener) -> None:
    with pytest.raises(InputError, match=r"it has: down_proj, gate_proj"):
        open_session("llama", Lora(4, 8.0, targets=("c_attn",)))


@pytest.mark.parametrize("family", ["llama", "llama-tied", "qwen3-moe"])
def test_a_full_fine_tune_is_saved_as_the_model_it_came_from(
    open_session: Opener, models: Models, tmp_path: Path, family: str
) -> None:
    files, folder = models(family), tmp_path / family
    folder.mkdir()
    with open_session(family, Full()) as session:
        session.train_step([BATCH], step=0, lr=1e-3)
        ours = session.logits(TOKENS, PLACES)
        session.save(folder, state=False)
    for name in ("config.json", "generation_config.json"):
        (folder / name).write_bytes((files.folder / name).read_bytes())
    with open_session(replace(files, folder=folder)) as session:
        np.testing.assert_array_equal(session.logits(TOKENS, PLACES), ours)
    with open_session(family) as session:
        assert np.max(np.abs(session.logits(TOKENS, PLACES) - ours)) > 1e-3
    if family != "qwen3-moe":  # its experts have other names in a checkpoint than in memory
        with open_session(family, Full(), folder) as session:
            np.testing.assert_array_equal(session.logits(TOKENS, PLACES), ours)


def test_a_folder_that_is_an_adapter_is_not_opened_as_a_model(
    open_session: Opener, models: Models, tmp_path: Path
) -> None:
    files = models("llama")
    for path in files.folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "somebody/else"}')
    with pytest.raises(InputError, match="is an adapter"):
        open_session(replace(files, folder=tmp_path))


def test_a_torn_file_is_an_input_error(open_session: Opener, models: Models, tmp_path: Path) -> None:
    files = models("llama")
    for path in files.folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    whole = (tmp_path / "model.safetensors").read_bytes()
    for length in (0, 5, 200, len(whole) - 4):
        (tmp_path / "model.safetensors").write_bytes(whole[:length])
        with pytest.raises(InputError, match="do not fit"):
            open_session(replace(files, folder=tmp_path))
    with open_session("llama", LORA) as session:
        saved(session, tmp_path, state=True)
        (tmp_path / "optimizer.safetensors").write_bytes(b"torn")
        with pytest.raises(InputError, match="no readable weights"):
            session.restore(tmp_path)


def test_weights_that_do_not_fit_the_configuration_are_refused(
    open_session: Opener, models: Models, tmp_path: Path
) -> None:
    files = models("llama")
    for path in files.folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    for change in ({"num_hidden_layers": 3}, {"intermediate_size": 80}):
        (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
        with pytest.raises(InputError, match="do not fit the configuration"):
            open_session(replace(files, folder=tmp_path))
