"""The step that MLX compiles on a GPU, compiled here for the processor: the same numbers, in few shapes."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from localtune.adapter import Full, Lora, Trainable
from localtune.backend import Backend, MemorySpec, OptimizerSpec
from tests.contract.conftest import LORA, Models, installed, logits_apart, open_on, rows_of, saved, segment
from tests.contract.gradient import apart

BATCHES = [
    [rows_of([segment(9, 1), segment(20, 2)], [segment(25, 3)])],
    [rows_of([segment(31, 4)]), rows_of([segment(12, 5), segment(7, 6), segment(11, 7)])],
    [rows_of([segment(60, 8)], multiple=1)],
]
TOKENS = segment(12, 5).tokens.tolist()
SMOOTH = OptimizerSpec(epsilon=1e-3)


@pytest.fixture(scope="module")
def backend() -> Backend:
    return installed("mlx")


@pytest.fixture
def compiled(backend: Backend) -> Iterator[pytest.MonkeyPatch]:
    """While it lasts, sessions are opened as on a GPU, where the step is compiled."""
    with pytest.MonkeyPatch.context() as patch:
        yield patch


CASES: dict[str, tuple[str, Trainable, str, MemorySpec]] = {
    "lora": ("llama", LORA, "float32", MemorySpec(0)),
    "windows": ("gemma3", LORA, "float32", MemorySpec(0, loss_chunk=7)),
    "blocks": ("qwen3", LORA, "float32", MemorySpec(0, checkpointing="blocks")),
    "dora-quantised": ("llama-even", replace(LORA, dora=True), "quantised", MemorySpec(0)),
    "full": ("llama-tied", Full(), "float32", MemorySpec(0)),
    "full-blocks": ("llama", Full(), "float32", MemorySpec(0, checkpointing="blocks")),
}


SLOW = [pytest.param(case, id=name, marks=[pytest.mark.slow] if name != "lora" else []) for name, case in CASES.items()]


@pytest.mark.parametrize("case", SLOW)
def test_a_compiled_step_is_the_same_update(
    backend: Backend,
    models: Models,
    compiled: pytest.MonkeyPatch,
    tmp_path: Path,
    case: tuple[str, Trainable, str, MemorySpec],
) -> None:
    family, trainable, precision, memory = case
    losses, weights, said = [], [], []
    for name in ("plain", "compiled"):
        if name == "compiled":
            compiled.setattr("localtune_mlx.session.on_gpu", lambda: True)
        with open_on(backend, models(family), trainable, precision=precision, memory=memory, optimizer=SMOOTH) as one:
            steps = []
            for step in range(6):
                result = one.train_step(BATCHES[step % 3], step=step, lr=1e-2)
                steps.append((result.loss / result.weight, result.gradient_norm))
                one.score(BATCHES[0][0])
            losses.append(steps)
            weights.append(saved(one, tmp_path / name))
            said.append(one.logits(TOKENS, range(12)))
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)
    assert max(apart(weights[1], weights[0]).values()) <= 1e-4
    assert logits_apart(said[1], said[0]) <= 1e-4


def test_a_compiled_step_draws_its_dropout_anew(backend: Backend, models: Models, compiled: pytest.MonkeyPatch) -> None:
    compiled.setattr("localtune_mlx.session.on_gpu", lambda: True)
    with open_on(backend, models("llama"), Lora(4, 8.0, dropout=0.3)) as session:
        session.train_step(BATCHES[0], step=0, lr=1e-2)  # B off zero, so that a dropped input matters
        first, other, again = (session.train_step(BATCHES[0], step=step, lr=0.0).loss for step in (1, 2, 1))
    assert first == again
    assert first != other


def test_many_lengths_make_few_shapes(backend: Backend, models: Models, compiled: pytest.MonkeyPatch) -> None:
    compiled.setattr("localtune_mlx.session.on_gpu", lambda: True)
    with open_on(backend, models("llama"), LORA) as session:
        for step, length in enumerate(range(3, 64, 4)):
            session.train_step([rows_of([segment(length, step)], multiple=1)], step=step, lr=1e-3)
            session.score(rows_of([segment(length, step)], multiple=1))
        shapes: int = session.shapes  # type: ignore[attr-defined]
    assert 1 <= shapes <= 8


def test_padding_changes_no_number(backend: Backend, models: Models) -> None:
    one, other = segment(9, 1), segment(33, 2)
    losses = []
    for multiple in (1, 8, 64):
        with open_on(backend, models("gemma3"), LORA) as session:
            batches = [rows_of([one, other], multiple=multiple)]
            losses.append([session.train_step(batches, step=step, lr=1e-2).loss for step in range(3)])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)
    np.testing.assert_allclose(losses[2], losses[0], rtol=1e-5)
