"""A session that was saved, closed and restored goes on as if it had never been: the same bytes, at any update."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from localtune.adapter import Lora, Trainable
from localtune.backend import Backend, OptimizerSpec, Sampling, Session
from tests.contract.conftest import Opener, rows_of, segment
from tests.contract.test_session_order import KINDS, PROMPTS, state
from tests.goals import FULL, Reached, times

UPDATES = times(4, 12)
BATCHES = [rows_of([segment(9 + n, 1), segment(20, n)], [segment(25 - n, 3)]) for n in range(12)]
OPTIMIZERS = {
    "lora": ("adamw", "lion", "adafactor"),
    "quantised": ("adamw", "lion"),
    "dora": ("adamw", "adafactor"),
    "dora-quantised": ("adamw",),
    "full": ("adamw", "lion"),
}
"""Of each kind of `KINDS` in the short form; in the full one it is all for all."""
Contents = dict[str, str]


def trained(session: Session, first: int, last: int) -> None:
    for step in range(first, last):
        session.train_step([BATCHES[step]], step=step, lr=1e-2)


def straight(session: Session, folder: Path) -> Contents:
    """The state after all updates at once; the one after each is in a folder of its number."""
    for step in range(UPDATES):
        state(session, folder / str(step))
        trained(session, step, step + 1)
    return state(session, folder / "end")


def resumed(session: Session, checkpoint: Path, step: int, folder: Path) -> Contents:
    """The state after the updates that were left, in a session that was asked other things before."""
    session.score(BATCHES[0])
    session.restore(checkpoint)
    session.score(BATCHES[1])
    list(session.generate(PROMPTS[:1], Sampling((2,), 2)))
    trained(session, step, UPDATES)
    return state(session, folder)


@pytest.mark.parametrize("kind", KINDS)
def test_a_restored_session_continues_bit_for_bit_from_any_update(
    backend: Backend, open_session: Opener, tmp_path: Path, kind: str, goal: Reached
) -> None:
    trainable, precision = with_dropout(*KINDS[kind])
    steps = range(UPDATES) if FULL else (1, UPDATES - 1)
    names = ("adamw", "lion", "adafactor") if FULL else OPTIMIZERS[kind]
    for name in names:
        spec = OptimizerSpec(name)  # type: ignore[arg-type]
        here = tmp_path / name
        here.mkdir()
        with open_session("llama-even", trainable, precision=precision, optimizer=spec) as session:
            wanted = straight(session, here)
        for step in steps if name == "adamw" or FULL else steps[-1:]:
            with open_session("llama-even", trainable, precision=precision, optimizer=spec) as session:
                assert resumed(session, here / str(step), step, here / f"from {step}") == wanted, (name, step)
    tried = f"{len(steps) * len(names)} of {len(steps) * len(names)} restored sessions bit-identical"
    goal("kill", f"{backend.probe().backend}, {kind}: {tried}, {', '.join(names)}")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["adamw", "lion"] if FULL else ["adamw"])
def test_without_the_optimizers_state_it_would_be_another_result(
    open_session: Opener, tmp_path: Path, kind: str, name: str
) -> None:
    trainable, precision = with_dropout(*KINDS[kind])
    spec = OptimizerSpec(name)  # type: ignore[arg-type]
    with open_session("llama-even", trainable, precision=precision, optimizer=spec) as session:
        wanted = straight(session, tmp_path)
    for path in (tmp_path / "0").glob("optimizer.*"):
        shutil.copy(path, tmp_path / "2")
    with open_session("llama-even", trainable, precision=precision, optimizer=spec) as session:
        found = resumed(session, tmp_path / "2", 2, tmp_path / "without")
    (weights,) = (file for file in wanted if file in ("adapter_model.safetensors", "model.safetensors"))
    assert found[weights] != wanted[weights]


def with_dropout(trainable: Trainable, precision: str) -> tuple[Trainable, str]:
    return (replace(trainable, dropout=0.1) if isinstance(trainable, Lora) else trainable), precision
