"""What a session says and trains does not depend on what it was asked in between; at its start it is the base."""

import hashlib
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from localtune.adapter import Full, Trainable
from localtune.backend import Sampling, Session
from tests.contract.conftest import LORA, VOCABULARY, Models, Opener, rows_of, saved, segment

BATCH = rows_of([segment(9, 1), segment(20, 2)], [segment(25, 3)])
PROMPTS = [list(segment(length, length).tokens) for length in (3, 9, 6)]
Kind = tuple[Trainable, str]
KINDS: dict[str, Kind] = {
    "lora": (LORA, "float32"),
    "quantised": (LORA, "quantised"),
    "dora": (replace(LORA, dora=True), "float32"),
    "dora-quantised": (replace(LORA, dora=True), "quantised"),
    "full": (Full(), "float32"),
}


def contents(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def state(session: Session, folder: Path) -> dict[str, str]:
    folder.mkdir()
    session.save(folder, state=True)
    return contents(folder)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
def test_answering_between_updates_changes_no_bit(open_session: Opener, tmp_path: Path, kind: Kind) -> None:
    trainable, precision = kind
    states = []
    for asked in (True, False):
        with open_session("llama-even", trainable, precision=precision) as session:
            for step in range(3):
                session.train_step([BATCH], step=step, lr=1e-2)
                if asked:
                    session.score(BATCH)
                    if not isinstance(trainable, Full):
                        session.score(BATCH, adapter=False)
                    list(session.generate(PROMPTS, Sampling((2,), 4)))
                    session.logits(PROMPTS[0], [0, 2])
            states.append(state(session, tmp_path / str(asked)))
    assert states[0] == states[1]


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
def test_the_score_is_the_training_loss(open_session: Opener, kind: Kind) -> None:
    with open_session("llama-even", kind[0], precision=kind[1]) as session:
        for step in range(3):
            scores = session.score(BATCH)
            result = session.train_step([BATCH], step=step, lr=1e-2)
            assert result.loss == pytest.approx(float(scores.nll.sum(dtype=np.float64)), rel=2e-6)
            assert result.weight == float(scores.weight.sum())


def test_two_sessions_train_the_same_bytes(open_session: Opener, tmp_path: Path) -> None:
    states = []
    for name in "ab":
        with open_session("qwen3", LORA) as session:
            session.train_step([BATCH], step=0, lr=1e-2)
            states.append(state(session, tmp_path / name))
    assert states[0] == states[1]


STARTS = {
    **KINDS,
    "lora-bf16": (LORA, "bfloat16"),
    "dora-bf16": (replace(LORA, dora=True), "bfloat16"),
    "quantised-bf16": (LORA, "quantised-bfloat16"),
}
del STARTS["full"]


@pytest.mark.parametrize("kind", STARTS.values(), ids=STARTS.keys())
def test_at_step_zero_the_adapter_says_what_the_base_says(open_session: Opener, kind: Kind) -> None:
    with open_session("llama-even", kind[0], precision=kind[1]) as session:
        np.testing.assert_array_equal(session.score(BATCH).nll, session.score(BATCH, adapter=False).nll)
        session.train_step([BATCH], step=0, lr=1e-2)
        assert np.any(session.score(BATCH).nll != session.score(BATCH, adapter=False).nll)


def test_the_base_stays_the_base(open_session: Opener) -> None:
    tokens = PROMPTS[1]
    places = list(range(len(tokens)))
    with open_session("llama") as session:
        base = session.logits(tokens, places)
    with open_session("llama", LORA) as session:
        for step in range(3):
            session.train_step([BATCH], step=step, lr=1e-2)
        np.testing.assert_array_equal(session.logits(tokens, places, adapter=False), base)
        assert np.max(np.abs(session.logits(tokens, places) - base)) > 1e-2


def test_a_model_that_knows_nothing_loses_the_logarithm_of_its_vocabulary(
    open_session: Opener, models: Models, tmp_path: Path
) -> None:
    from safetensors.numpy import load_file, save_file

    files = models("llama")
    for path in files.folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    tensors = load_file(files.folder / "model.safetensors")
    tensors["lm_head.weight"] = tensors["lm_head.weight"] * np.float32(0.02)
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with open_session(replace(files, folder=tmp_path), LORA) as session:
        scores = session.score(BATCH)
    assert scores.nll.sum() / scores.weight.sum() == pytest.approx(np.log(VOCABULARY), abs=0.05)


def test_scores_count_weights_targets_and_hits_per_segment(open_session: Opener) -> None:
    batch = rows_of([segment(9, 1), segment(20, 2)], [segment(25, 3)])
    halved = replace(batch, weights=batch.weights * np.float32(0.5))
    with open_session("llama", LORA) as session:
        whole, half = session.score(batch), session.score(halved)
        rows = [session.logits(segment(25, 3).tokens.tolist(), list(range(25)))]
    np.testing.assert_allclose(half.nll, whole.nll / 2, rtol=1e-6)
    np.testing.assert_array_equal(half.weight, whole.weight / 2)
    np.testing.assert_array_equal(half.targets, whole.targets)
    third = segment(25, 3)
    learned = np.flatnonzero(third.weights)
    shifted = rows[0].astype(np.float64)
    logprobs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    assert whole.nll[2] == pytest.approx(-logprobs[learned - 1, third.tokens[learned]].sum(), rel=1e-5)
    assert whole.hits[2] == np.sum(shifted[learned - 1].argmax(axis=1) == third.tokens[learned])


def test_a_full_fine_tune_has_no_base_left(open_session: Opener) -> None:
    with open_session("llama", Full()) as session, pytest.raises(RuntimeError, match="no longer exist"):
        session.score(BATCH, adapter=False)


def test_a_checkpoint_is_the_adapter_and_the_state_of_the_optimizer(open_session: Opener, tmp_path: Path) -> None:
    with open_session("llama", LORA) as session:
        session.train_step([BATCH], step=0, lr=1e-2)
        saved(session, tmp_path, state=True)
    names = {"adapter_config.json", "adapter_model.safetensors", "optimizer.json", "optimizer.safetensors"}
    assert {path.name for path in tmp_path.iterdir()} == names


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no file modes")
def test_saved_files_are_readable_by_everybody(open_session: Opener, tmp_path: Path) -> None:
    with open_session("llama", LORA) as session:
        session.train_step([BATCH], step=0, lr=1e-2)
        saved(session, tmp_path, state=True)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o644}
