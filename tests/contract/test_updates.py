"""One update: the same however it is split, chunked or recomputed; never applied when it is not finite."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from localtune.adapter import Full, Lora
from localtune.backend import Backend, MemorySpec, OptimizerSpec, Session
from localtune.batch import Batch
from localtune.errors import InputError
from localtune.objectives import Objective, Values
from tests.contract.conftest import LORA, Opener, rows_of, saved, segment
from tests.contract.gradient import PLAIN_DESCENT, gradient
from tests.goals import Reached, times

LENGTHS = (10, 61, 7, 33, 18, 5, 44, 12)
SEGMENTS = [segment(length, number, learned=0.1 if number == 1 else 0.7) for number, length in enumerate(LENGTHS)]
SMOOTH = OptimizerSpec(epsilon=1e-3)
"""With the usual epsilon a first update is nearly the sign of the gradient, which magnifies rounding near zero."""

SPLITS = {
    "eight rows": [rows_of(*[[one] for one in SEGMENTS])],
    "two halves": [rows_of(*[[one] for one in SEGMENTS[:4]]), rows_of(*[[one] for one in SEGMENTS[4:]])],
    "one by one": [rows_of([one]) for one in SEGMENTS],
    "ragged": [rows_of(*[[one] for one in SEGMENTS[:5]]), rows_of(SEGMENTS[5:])],
    "packed": [rows_of(SEGMENTS[:3], SEGMENTS[3:])],
}


def difference(a: dict[str, Any], b: dict[str, Any]) -> float:
    """Relative L2 distance of two adapters."""
    assert a.keys() == b.keys()
    gap = sum(float(np.sum((a[name] - b[name]) ** 2.0)) for name in a)
    return float(np.sqrt(gap / sum(float(np.sum(b[name] ** 2.0)) for name in b)))


def trained(session: Session, folder: Path, batches: Sequence[Batch], steps: int, lr: float = 1e-2) -> dict[str, Any]:
    for step in range(steps):
        session.train_step(batches, step=step, lr=lr)
    return saved(session, folder)


def test_the_same_update_however_rows_are_split(
    backend: Backend, open_session: Opener, tmp_path: Path, goal: Reached
) -> None:
    results, adapters, gradients = {}, {}, {}
    for name, batches in SPLITS.items():
        with open_session("llama", LORA, optimizer=SMOOTH) as session:
            results[name] = session.train_step(batches, step=0, lr=1e-2)
            session.train_step(batches, step=1, lr=1e-2)
            adapters[name] = saved(session, tmp_path / name)
        opened = partial(open_session, "llama", LORA, optimizer=PLAIN_DESCENT)
        gradients[name] = gradient(opened, tmp_path / f"gradient, {name}", batches)
    gap = max(difference(found, gradients["eight rows"]) for found in gradients.values())
    goal("batch", f"{backend.probe().backend}: gradients of {len(SPLITS)} ways to split within {gap:.1e}")
    assert gap <= 1e-5
    reference = results["eight rows"]
    for name, result in results.items():
        assert result.weight == reference.weight
        assert result.loss == pytest.approx(reference.loss, rel=1e-6)
        assert result.gradient_norm == pytest.approx(reference.gradient_norm, rel=1e-5)
        assert difference(adapters[name], adapters["eight rows"]) <= 1e-5, name


def test_a_mean_of_means_would_be_another_update(
    backend: Backend, open_session: Opener, tmp_path: Path, goal: Reached
) -> None:
    batches = SPLITS["one by one"]
    evened = [replace(batch, weights=(batch.weights / batch.weight).astype(np.float32)) for batch in batches]
    adapters = []
    for number, chosen in enumerate((batches, evened)):
        with open_session("llama", LORA, optimizer=SMOOTH) as session:
            adapters.append(trained(session, tmp_path / str(number), chosen, 2))
    goal("batch", f"{backend.probe().backend}: a mean of means would be off by {difference(*adapters):.1e}")
    assert difference(*adapters) > 1e-3


def test_many_updates_follow_the_same_path_however_rows_are_split(
    backend: Backend, open_session: Opener, goal: Reached
) -> None:
    updates, paths = times(20, 50), []
    for name in ("packed", "one by one"):
        with open_session("llama", LORA) as session:
            steps = [session.train_step(SPLITS[name], step=step, lr=2e-3) for step in range(updates)]
            paths.append([step.loss / step.weight for step in steps])
    gaps = np.abs(np.subtract(paths[0], paths[1]))
    said = f"loss within {gaps.max():.1e} over {updates} updates, {gaps.mean():.1e} on average"
    goal("batch", f"{backend.probe().backend}: {said}")
    assert gaps.max() <= 1e-4
    assert gaps.mean() <= 1e-5
    assert paths[0][-1] < paths[0][0] - 0.01 * updates


@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_the_loss_chunk_changes_nothing(open_session: Opener, tmp_path: Path, chunk: int) -> None:
    adapters = []
    for size in (4096, chunk):
        with open_session("gemma2-inside", LORA, optimizer=SMOOTH, memory=MemorySpec(0, loss_chunk=size)) as session:
            adapters.append(trained(session, tmp_path / str(size), SPLITS["packed"], 2))
    assert difference(*adapters) <= 1e-5


@pytest.mark.parametrize("precision", ["float32", "quantised"])
def test_recomputed_blocks_give_the_same_gradient(open_session: Opener, tmp_path: Path, precision: str) -> None:
    adapters = []
    lora = replace(LORA, dropout=0.2)
    for memory in (MemorySpec(0), MemorySpec(0, checkpointing="blocks")):
        with open_session("llama-even", lora, optimizer=SMOOTH, precision=precision, memory=memory) as session:
            adapters.append(trained(session, tmp_path / memory.checkpointing, SPLITS["packed"], 3))
    assert difference(*adapters) <= 1e-6


def drawn(backend: Backend) -> list[float]:
    """Numbers of the global generator of the backend's library, after which it is as before."""
    if backend.probe().backend == "torch":
        import torch

        with torch.random.fork_rng([]):
            return list(torch.rand(4).tolist())
    import mlx.core as mx

    state: Any = mx.random.state
    high, low = (int(word) for word in state[0].tolist())
    numbers: Any = mx.random.uniform(shape=(4,)).tolist()
    mx.random.seed((high << 32) | low)
    return list(numbers)


def disturb(backend: Backend, numbers: int) -> None:
    if backend.probe().backend == "torch":
        import torch

        torch.rand(numbers)
        return
    import mlx.core as mx

    for _ in range(numbers):
        mx.eval(mx.random.uniform())


def test_dropout_is_keyed_by_step_and_leaves_the_global_generator_alone(
    backend: Backend, open_session: Opener, tmp_path: Path
) -> None:
    lora = replace(LORA, dropout=0.3)
    adapters = []
    for number, (noise, step) in enumerate([(0, 5), (3, 5), (0, 6)]):
        with open_session("llama", lora) as session:
            disturb(backend, noise)
            before = drawn(backend)
            session.train_step(SPLITS["packed"], step=0, lr=1e-2)
            session.train_step(SPLITS["packed"], step=step, lr=1e-2)
            assert drawn(backend) == before
            adapters.append(saved(session, tmp_path / str(number)))
    assert difference(adapters[0], adapters[1]) == 0
    assert difference(adapters[0], adapters[2]) > 1e-4


def _scaled(xp: Any, values: Values) -> Any:
    return -xp.sum(values.logprobs * values.weights * values.per_token["scale"])


SCALED = Objective("scaled", "weights", _scaled)


def scaled(scale: float) -> list[Batch]:
    batch = SPLITS["packed"][0]
    return [replace(batch, per_token={"scale": np.full(batch.tokens.shape, scale, np.float32)})]


@pytest.mark.parametrize("scale", [np.nan, np.inf, 3e38], ids=["nan", "inf", "overflow"])
def test_an_update_that_is_not_finite_is_not_applied(open_session: Opener, tmp_path: Path, scale: float) -> None:
    states: list[dict[str, bytes]] = []
    for number, poisoned in enumerate((True, False)):
        folder = tmp_path / str(number)
        with open_session("llama", LORA, objective=SCALED) as session:
            assert session.train_step(scaled(1.0), step=0, lr=1e-2).applied
            if poisoned:
                result = session.train_step(scaled(scale), step=1, lr=1e-2)
                assert not result.applied
                assert not (np.isfinite(result.loss) and np.isfinite(result.gradient_norm))
            assert session.train_step(scaled(1.0), step=2, lr=1e-2).applied
            saved(session, folder, state=True)
        states.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert states[0] == states[1]


def test_segments_as_denominator_and_membership_give_per_segment_sums(open_session: Opener) -> None:
    def squared(xp: Any, values: Values) -> Any:
        return xp.sum(xp.matmul(values.membership, values.logprobs * values.weights) * values.per_segment["sign"])

    batch = SPLITS["packed"][0]
    signs = np.arange(1, batch.count + 1, dtype=np.float32)
    batch = replace(batch, per_segment={"sign": signs})
    with open_session("llama", LORA, objective=Objective("signed", "segments", squared)) as session:
        nll = session.score(batch).nll
        result = session.train_step([batch], step=0, lr=0.0)
    assert result.weight == batch.count
    assert result.loss == pytest.approx(-float(nll @ signs), rel=1e-5)


def test_an_update_without_targets_is_refused(open_session: Opener) -> None:
    batch = replace(SPLITS["packed"][0], weights=np.zeros_like(SPLITS["packed"][0].weights))
    with open_session("llama", LORA) as session, pytest.raises(ValueError, match="at least one target"):
        session.train_step([batch], step=0, lr=1e-2)


def test_a_micro_batch_without_targets_adds_nothing(open_session: Opener, tmp_path: Path) -> None:
    empty = replace(SPLITS["packed"][0], weights=np.zeros_like(SPLITS["packed"][0].weights))
    adapters = []
    for number, batches in enumerate((SPLITS["packed"], [*SPLITS["packed"], empty])):
        with open_session("llama", LORA) as session:
            adapters.append(trained(session, tmp_path / str(number), batches, 1))
    assert difference(*adapters) == 0


def test_a_session_that_answers_does_not_train(open_session: Opener) -> None:
    with open_session("llama", objective=None, optimizer=None) as session, pytest.raises(RuntimeError, match="answer"):
        session.train_step(SPLITS["packed"], step=0, lr=1e-2)


def test_a_token_the_embedding_lacks_is_an_input_error(open_session: Opener) -> None:
    batch = SPLITS["packed"][0]
    batch = replace(batch, tokens=np.where(batch.tokens == batch.tokens.max(), 1000, batch.tokens).astype(np.int32))
    with open_session("llama", LORA) as session, pytest.raises(InputError, match="1000"):
        session.train_step([batch], step=0, lr=1e-2)


NEAR = {
    "lora": (Lora(8, 16.0), ("float32", "bfloat16"), 2e-2),
    "dora": (Lora(8, 16.0, dora=True), ("float32", "bfloat16"), 2e-2),
    "quantised": (Lora(8, 16.0), ("quantised", "quantised-bfloat16"), 5e-2),
    "full": (Full(), ("float32", "float32-bfloat16"), 2e-2),
}
"""What trains, two precisions, and how far the mean losses may be apart (nats). These weights are float32, so that
a quantiser in bfloat16 also quantises other numbers; a bfloat16 checkpoint has no such difference."""


@pytest.mark.parametrize(("trainable", "precisions", "apart"), NEAR.values(), ids=NEAR.keys())
def test_bfloat16_compute_stays_close_to_float32(
    open_session: Opener, trainable: Lora | Full, precisions: Sequence[str], apart: float
) -> None:
    losses = []
    for precision in precisions:
        with open_session("llama-even", trainable, precision=precision) as session:
            steps = [session.train_step(SPLITS["packed"], step=step, lr=2e-3) for step in range(5)]
            losses.append([step.loss / step.weight for step in steps])
    assert np.max(np.abs(np.subtract(losses[0], losses[1]))) <= apart
    assert losses[0] != losses[1]  # it did compute in another type
