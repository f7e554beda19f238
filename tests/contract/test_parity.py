"""MLX and PyTorch train the same model: one folder, the same batches, the same numbers, family by family.

Float32 on the processor. Logits within 1e-5 (of the largest logit, where that is above 1), gradients within 1e-4 of
each tensor, fifty updates (of some families fewer in the short form) within 1e-4 of loss and weights; texts lie inside
every window that mlx-lm ignores.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from localtune.adapter import Full, Lora, Trainable
from localtune.backend import Backend, OptimizerSpec, Session
from localtune.model import ModelFiles
from tests.contract.conftest import (
    LORA,
    MORE,
    PARITY,
    Models,
    Tensors,
    logits_apart,
    open_on,
    rows_of,
    saved,
    segment,
)
from tests.contract.gradient import PLAIN_DESCENT, apart, gradient
from tests.goals import Reached, times

BATCH = rows_of([segment(9, 1), segment(20, 2)], [segment(25, 3)])
OTHER = rows_of([segment(31, 4)], [segment(12, 5), segment(7, 6), segment(11, 7)])
TOKENS = segment(40, 9).tokens.tolist()
PLACES = list(range(len(TOKENS)))


def trained_start(backend: Backend, files: ModelFiles, trainable: Trainable, folder: Path) -> Path:
    """An adapter some updates away from its start, so that A and B both have gradients."""
    with open_on(backend, files, trainable) as session:
        for step in range(3):
            session.train_step([BATCH], step=step, lr=1e-2)
        saved(session, folder)
    return folder


@pytest.mark.parametrize("family", [*PARITY, *MORE])
def test_logits_and_scores_are_the_same(
    backends: tuple[Backend, Backend], models: Models, tmp_path: Path, family: str
) -> None:
    start = trained_start(backends[0], models(family), LORA, tmp_path)
    said, scores = [], []
    for backend in backends:
        with open_on(backend, models(family), LORA, start) as session:
            said.append([session.logits(TOKENS, PLACES, adapter=adapter) for adapter in (True, False)])
            scores.append(session.score(BATCH))
    for adapted in (0, 1):
        assert logits_apart(said[1][adapted], said[0][adapted]) <= 1e-5
    assert logits_apart(said[0][0], said[0][1]) > 1e-3  # the adapter says something
    assert np.max(np.abs(scores[1].nll - scores[0].nll) / scores[0].targets) <= 1e-5
    for name in ("weight", "targets", "hits"):
        np.testing.assert_array_equal(getattr(scores[1], name), getattr(scores[0], name))


VARIANTS: dict[str, tuple[str, Trainable]] = {
    **{family: (family, LORA) for family in [*PARITY, *MORE]},
    "dora": ("llama", replace(LORA, dora=True)),
    "rslora": ("qwen3", Lora(4, 3.0, rslora=True)),
    "full": ("llama", Full()),
    "full-tied": ("llama-tied", Full()),
}


@pytest.mark.parametrize("case", VARIANTS.values(), ids=VARIANTS.keys())
def test_gradients_are_the_same(
    backends: tuple[Backend, Backend], models: Models, tmp_path: Path, case: tuple[str, Trainable]
) -> None:
    family, trainable = case
    start = trained_start(backends[0], models(family), trainable, tmp_path) if isinstance(trainable, Lora) else None
    found = []
    for number, backend in enumerate(backends):
        opened = _opener(backend, models(family), trainable, start, PLAIN_DESCENT)
        found.append(gradient(opened, tmp_path / str(number), [BATCH, OTHER]))
    far = {name: gap for name, gap in apart(found[1], found[0]).items() if gap > 1e-4}
    assert not far
    assert min(np.abs(value).max() for value in found[0].values()) > 1e-6


def _opener(
    backend: Backend, files: ModelFiles, trainable: Trainable, start: Path | None, spec: OptimizerSpec
) -> Callable[[], Session]:
    return lambda: open_on(backend, files, trainable, start, optimizer=spec)


@pytest.mark.parametrize("variant", [LORA, replace(LORA, dora=True)], ids=["lora", "dora"])
@pytest.mark.parametrize("family", ["llama", "phi3-inside"])
def test_an_adapter_starts_as_the_same_bytes(
    backends: tuple[Backend, Backend], models: Models, tmp_path: Path, family: str, variant: Lora
) -> None:
    starts = []
    for number, backend in enumerate(backends):
        with open_on(backend, models(family), variant) as session:
            starts.append(saved(session, tmp_path / str(number)))
    assert starts[0].keys() == starts[1].keys()
    for name, value in starts[0].items():
        if "magnitude" in name:  # the norm of the base's rows: a sum, whose order differs
            np.testing.assert_allclose(starts[1][name], value, rtol=1e-6)
        else:
            np.testing.assert_array_equal(starts[1][name], value)
    first, second = ((tmp_path / name / "adapter_config.json").read_bytes() for name in "01")
    assert first == second


@pytest.mark.parametrize("family", PARITY)
def test_at_step_zero_the_adapter_says_what_the_base_says_on_both(
    backends: tuple[Backend, Backend], models: Models, family: str
) -> None:
    for backend in backends:
        with open_on(backend, models(family), LORA) as session:
            ours, base = session.score(BATCH), session.score(BATCH, adapter=False)
            np.testing.assert_array_equal(ours.nll, base.nll)
            with open_on(backend, models(family)) as alone:
                np.testing.assert_array_equal(alone.score(BATCH).nll, base.nll)
            loss = session.train_step([BATCH], step=0, lr=1e-2).loss
            assert loss == pytest.approx(float(base.nll.sum(dtype=np.float64)), rel=2e-6)
            assert np.any(session.score(BATCH).nll != base.nll)


SPEC = OptimizerSpec(weight_decay=0.05, clip=0.5)


def schedule(step: int) -> float:
    """Warm-up and decay."""
    return 5e-3 * min(1.0, (step + 1) / 5) * (1 - step / 60)


def path_of(session: Session, updates: int, folder: Path, scale: float = 1.0) -> tuple[list[float], Tensors]:
    """Mean losses of `updates`, and the weights after them."""
    losses = []
    for step in range(updates):
        result = session.train_step([BATCH, OTHER][: 1 + step % 2], step=step, lr=scale * schedule(step))
        losses.append(result.loss / result.weight)
    return losses, saved(session, folder)


@pytest.mark.parametrize("family", PARITY)
def test_fifty_updates_are_the_same(
    backends: tuple[Backend, Backend], models: Models, tmp_path: Path, family: str, goal: Reached
) -> None:
    updates = 50 if family in ("llama", "gemma2-inside") else times(16, 50)
    losses, weights = [], []
    for number, backend in enumerate(backends):
        with open_on(backend, models(family), LORA, optimizer=SPEC) as session:
            path, final = path_of(session, updates, tmp_path / str(number))
        losses.append(path)
        weights.append(final)
    gap, far = np.max(np.abs(np.subtract(losses[0], losses[1]))), whole(weights[1], weights[0])
    goal("parity", f"{family}: loss within {gap:.1e} over {updates} updates, weights within {far:.1e} after them")
    assert gap <= 1e-4
    assert losses[0][-2] < losses[0][0] - 0.006 * updates
    assert far <= 1e-4


def whole(a: Tensors, b: Tensors) -> float:
    """Relative L2 distance of all tensors together."""
    assert a.keys() == b.keys()
    gap = sum(float(np.sum((a[name].astype(np.float64) - b[name]) ** 2)) for name in b)
    return float(np.sqrt(gap / sum(float(np.sum(b[name].astype(np.float64) ** 2)) for name in b)))


OPTIMIZERS = {
    "adafactor": OptimizerSpec(name="adafactor", weight_decay=0.05, clip=0.5),
    "lion": OptimizerSpec(name="lion", beta1=0.9, beta2=0.99, weight_decay=0.05, clip=0.5),
}


@pytest.mark.parametrize("spec", OPTIMIZERS.values(), ids=OPTIMIZERS.keys())
@pytest.mark.parametrize("trainable", [LORA, Full()], ids=["lora", "full"])
def test_twenty_updates_of_other_optimizers_are_the_same(
    backends: tuple[Backend, Backend], models: Models, tmp_path: Path, spec: OptimizerSpec, trainable: Trainable
) -> None:
    losses, weights = [], []
    for number, backend in enumerate(backends):
        with open_on(backend, models("llama"), trainable, optimizer=spec) as session:
            path, final = path_of(session, 20, tmp_path / str(number), 0.02 if spec.name == "lion" else 1.0)
        losses.append(path)
        weights.append(final)
    assert np.max(np.abs(np.subtract(losses[0], losses[1]))) <= 1e-4
    assert losses[0][-2] < losses[0][0]
    assert whole(weights[1], weights[0]) <= 1e-4


@pytest.mark.parametrize("which", [0, 1], ids=["torch", "mlx"])
def test_learning_rate_clip_and_decay_are_the_closed_form_at_every_update(
    backends: tuple[Backend, Backend], models: Models, tmp_path: Path, which: int
) -> None:
    backend, spec = backends[which], OptimizerSpec(beta2=0.95, weight_decay=0.1, clip=0.2, epsilon=1e-6)
    weights, norms = [], []
    with open_on(backend, models("llama"), LORA, optimizer=spec) as session:
        weights.append(saved(session, tmp_path / "0"))
        for step in range(4):
            norms.append(session.train_step([BATCH], step=step, lr=schedule(step)).gradient_norm)
            weights.append(saved(session, tmp_path / str(step + 1)))
    gradients = []
    for step in range(4):
        opened = _opener(backend, models("llama"), LORA, tmp_path / str(step), PLAIN_DESCENT)
        gradients.append(gradient(opened, tmp_path / f"gradient-{step}", [BATCH]))
    own = [np.sqrt(sum(float(np.sum(g**2)) for g in step.values())) for step in gradients]
    np.testing.assert_allclose(norms, own, rtol=1e-5)
    assert min(norms) > spec.clip  # every update was clipped
    for step in range(1, 5):
        assert _largest_gap(weights[step], closed_form(spec, weights[0], gradients[:step])) <= 2e-6
    for wrong in (replace(spec, weight_decay=0.0), replace(spec, clip=0.0), replace(spec, beta2=0.999)):
        assert _largest_gap(weights[4], closed_form(wrong, weights[0], gradients)) > 2e-5
    assert _largest_gap(weights[4], closed_form(spec, weights[0], gradients, corrected=False)) > 1e-3


def _largest_gap(a: Tensors, b: Tensors) -> float:
    return max(float(np.max(np.abs(a[name] - b[name]))) for name in b)


def closed_form(spec: OptimizerSpec, start: Tensors, gradients: list[Tensors], *, corrected: bool = True) -> Tensors:
    """Loshchilov & Hutter 2019, algorithm 2, after clipping by the global norm; float64."""
    values = {name: value.astype(np.float64) for name, value in start.items()}
    first, second = ({name: np.zeros_like(value) for name, value in values.items()} for _ in range(2))
    for t, step in enumerate(gradients, start=1):
        norm = np.sqrt(sum(float(np.sum(g**2)) for g in step.values()))
        factor = min(1.0, spec.clip / (norm + 1e-6)) if spec.clip else 1.0
        for name, g in step.items():
            first[name] = spec.beta1 * first[name] + (1 - spec.beta1) * factor * g
            second[name] = spec.beta2 * second[name] + (1 - spec.beta2) * (factor * g) ** 2
            m = first[name] / (1 - spec.beta1**t if corrected else 1)
            v = second[name] / (1 - spec.beta2**t if corrected else 1)
            decayed = values[name] * (1 - schedule(t - 1) * spec.weight_decay)
            values[name] = decayed - schedule(t - 1) * m / (np.sqrt(v) + spec.epsilon)
    return values
