"""The train loop: what it does at which update, how it stops, and that a resume continues as if never stopped."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest

from localtune.backend import Session
from localtune.batch import Segment
from localtune.data.packing import micro_batches
from localtune.errors import RunFailed
from localtune.events import Checkpoint, Evaluation, Event, Step, Warn
from localtune.runs import checkpoints
from localtune.runs.checkpoints import Progress
from localtune.runs.folder import Request, Run
from localtune.schedule import Schedule
from localtune.score import StopRequested
from localtune.train import Course, Hooks, train
from tests.unit.unigram import VOCABULARY, Unigram

Kind = TypeVar("Kind", bound=Event)


def _segments(seed: int, count: int) -> list[Segment]:
    generator = np.random.default_rng(seed)
    rows = [generator.integers(0, VOCABULARY // 2, generator.integers(2, 9)) for _ in range(count)]
    weights = [np.concatenate([[0], np.ones(len(row) - 1)]) for row in rows]
    pairs = enumerate(zip(rows, weights, strict=True))
    return [Segment(row.astype(np.int32), weight.astype(np.float32), i) for i, (row, weight) in pairs]


COURSE = Course(
    train=_segments(0, 21),
    validation=micro_batches(_segments(1, 5), 32, 2, packed=True),
    batches=lambda segments: micro_batches(segments, 32, 2, packed=True),
    schedule=Schedule("cosine", 0.5, 20, 2),
    batch_size=4,
    seed=7,
    eval_every=5,
    save_every=4,
    patience=None,
)


@dataclass
class Runner:
    """Runs the loop in a folder and keeps what it said."""

    run: Run
    session: Unigram = field(default_factory=Unigram)
    asked: dict[int, set[Request]] = field(default_factory=dict)
    """What is asked for after which update."""
    interrupted: bool = False
    """Asked to stop in the middle of the next evaluation."""
    said: list[Event] = field(default_factory=list)
    progress: Progress = field(default_factory=Progress)
    reason: str = ""

    def go(self, course: Course = COURSE) -> "Runner":
        hooks = Hooks(self._requests, self._check, self._save, self._samples)
        life = train(self.session, course, self.progress, hooks)
        while True:
            try:
                self.said.append(next(life))
            except StopIteration as stop:
                self.progress, self.reason = stop.value
                return self

    def _requests(self) -> set[Request]:
        steps = self.all(Step)
        return self.asked.get(steps[-1].step if steps else 0, set())

    def _check(self) -> None:
        if self._requests() & {"stop", "stop-now"} or self.interrupted:
            self.asked[self.all(Step)[-1].step] = {"stop"}
            raise StopRequested

    def _save(self, progress: Progress) -> Checkpoint:
        session: Session = self.session
        folder = checkpoints.save(self.run, progress, lambda folder: session.save(folder, state=True))
        return Checkpoint(progress.step, folder.name, 1, 0.0)

    def _samples(self, step: int) -> Iterator[Event]:
        yield from ()

    def all(self, kind: type[Kind]) -> list[Kind]:
        return [event for event in self.said if isinstance(event, kind)]


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    return Runner(Run(tmp_path))


def test_the_loss_falls_and_every_update_is_reported_once(runner: Runner) -> None:
    steps = runner.go().all(Step)
    assert [step.step for step in steps] == list(range(1, 21))
    assert steps[-1].loss < steps[0].loss - 0.3
    assert runner.reason == "steps"


def test_it_evaluates_the_base_then_at_its_cadence_and_at_the_end(runner: Runner) -> None:
    runner.go(replace(COURSE, eval_every=6))
    assert [event.step for event in runner.all(Evaluation)] == [0, 6, 12, 18, 20]


def test_the_base_is_never_the_best(runner: Runner) -> None:
    first, *others = runner.go().all(Evaluation)
    assert not first.best
    assert runner.progress.best_step in [event.step for event in others if event.best]


def test_a_checkpoint_follows_its_cadence_every_new_best_and_the_end(runner: Runner) -> None:
    runner.go()
    best = {event.step for event in runner.all(Evaluation) if event.best}
    assert {event.step for event in runner.all(Checkpoint)} == {4, 8, 12, 16, 20} | best


def test_an_epoch_shows_every_row_exactly_once() -> None:
    for first in (1, 7):
        updates = [COURSE.update(step) for step in range(first, first + 6)]
        seen = sorted(row for batches in updates for batch in batches for rows in batch.sources for row in rows)
        assert seen == list(range(21))
    assert COURSE.epoch(6) == 1.0


def test_asked_to_stop_it_saves_and_ends(runner: Runner) -> None:
    runner.asked = {7: {"stop"}}
    runner.go()
    assert runner.reason == "stop"
    assert runner.all(Checkpoint)[-1].step == runner.progress.step == 7


def test_asked_to_stop_now_it_ends_without_saving(runner: Runner) -> None:
    runner.asked = {7: {"stop-now"}}
    runner.go()
    assert runner.reason == "stop-now"
    assert runner.all(Checkpoint)[-1].step < 7


def test_asked_to_save_it_saves_and_goes_on(runner: Runner) -> None:
    runner.asked = {7: {"save"}}
    runner.go()
    assert 7 in [event.step for event in runner.all(Checkpoint)]
    assert runner.progress.step == 20


def test_it_stops_early_after_so_many_evaluations_without_a_new_best(runner: Runner) -> None:
    contrary = micro_batches([Segment(np.full(9, 15, np.int32), np.ones(9, np.float32), 0)], 32, 1, packed=True)
    runner.go(replace(COURSE, validation=contrary, eval_every=2, patience=3))
    assert runner.reason == "early stop"
    assert runner.progress.step < 20
    assert runner.progress.step - runner.progress.best_step == 3 * 2


def test_an_update_that_is_not_finite_is_shown_with_its_rows_and_training_goes_on(runner: Runner) -> None:
    runner.session.poisoned = {6}
    runner.go(replace(COURSE, place=lambda source: f"rows.jsonl:{source}"))
    step = runner.all(Step)[5]
    assert not step.applied
    assert re.search(r"\(rows rows\.jsonl:\d+\)", runner.all(Warn)[0].text)
    assert runner.progress.step == 20


def test_three_updates_in_a_row_that_are_not_finite_end_the_run(runner: Runner) -> None:
    runner.session.poisoned = {6, 7, 8}
    with pytest.raises(RunFailed, match="those of update 5"):
        runner.go()


def _figures(steps: list[Step]) -> list[tuple[int, float, float, float]]:
    return [(step.step, step.loss, step.gradient_norm, step.learning_rate) for step in steps]


@pytest.mark.parametrize("stop_at", [1, 3, 5, 11, 19, 20])
def test_a_resumed_run_says_bit_for_bit_what_the_uninterrupted_one_says(tmp_path: Path, stop_at: int) -> None:
    whole = Runner(Run(tmp_path / "whole")).go()
    half = Runner(Run(tmp_path / "half"), asked={stop_at: {"stop"}}).go()
    found = checkpoints.latest(half.run)
    assert found is not None
    rest = Runner(half.run, progress=found[0])
    rest.session.restore(found[1])
    rest.go()
    assert _figures(half.all(Step) + rest.all(Step)) == _figures(whole.all(Step))
    assert rest.progress == whole.progress
    assert rest.session.theta.tobytes() == whole.session.theta.tobytes()


def test_a_stop_in_the_middle_of_an_evaluation_saves_first_and_evaluates_after_the_resume(tmp_path: Path) -> None:
    whole = Runner(Run(tmp_path / "whole")).go()
    half = Runner(Run(tmp_path / "half"), progress=Progress(evaluated=0), interrupted=True).go()
    assert (half.reason, half.progress.step, half.progress.evaluated) == ("stop", 5, 0)
    found = checkpoints.latest(half.run)
    assert found is not None
    rest = Runner(half.run, progress=found[0])
    rest.session.restore(found[1])
    rest.go()
    assert [e.step for e in rest.all(Evaluation)] == [e.step for e in whole.all(Evaluation)][1:]
    assert rest.progress == whole.progress


def test_a_run_that_stopped_early_does_not_train_on_when_resumed(tmp_path: Path) -> None:
    contrary = micro_batches([Segment(np.full(9, 15, np.int32), np.ones(9, np.float32), 0)], 32, 1, packed=True)
    course = replace(COURSE, validation=contrary, eval_every=2, patience=3)
    first = Runner(Run(tmp_path)).go(course)
    found = checkpoints.latest(first.run)
    assert found is not None
    second = Runner(first.run, progress=found[0])
    second.session.restore(found[1])
    second.go(course)
    assert second.all(Step) == []
    assert (second.progress, second.reason) == (first.progress, "early stop")


def test_a_resume_without_the_optimizer_is_noticed(tmp_path: Path) -> None:
    whole = Runner(Run(tmp_path / "whole")).go()
    half = Runner(Run(tmp_path / "half"), asked={5: {"stop"}}).go()
    rest = Runner(half.run, progress=half.progress)
    rest.session.theta = half.session.theta
    rest.go()
    assert _figures(half.all(Step) + rest.all(Step)) != _figures(whole.all(Step))
