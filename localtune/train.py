"""The train loop, as a generator of events: the caller records and shows them, the loop decides what comes next.

Everything that decides the result is a pure function of (recipe, step): the examples of an update, their order and
packing, the learning rate. So a resume needs the weights, the optimizer and `Progress`, and replays nothing.
"""

import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace

from localtune.backend import Session, StepResult
from localtune.batch import Batch, Segment
from localtune.data.order import update_examples, updates_per_epoch
from localtune.errors import Problem, RunFailed
from localtune.events import Checkpoint, Evaluation, Event, Phase, Step, Warn
from localtune.runs.checkpoints import Progress
from localtune.runs.folder import Request
from localtune.schedule import Schedule
from localtune.score import StopRequested, score
from localtune.worked import TRAINING

MAX_SKIPPED = 3
"""Updates in a row that may be refused for numbers that are not finite."""


@dataclass(frozen=True)
class Course:
    """What is trained on, in which order and how often it is looked at."""

    train: Sequence[Segment]
    validation: Sequence[Batch]
    batches: Callable[[Sequence[Segment]], list[Batch]]
    """Packs the examples of one update into micro-batches."""
    schedule: Schedule
    batch_size: int
    """Examples per update."""
    seed: int
    eval_every: int
    save_every: int
    patience: int | None
    """Evaluations in a row without a new best that end the run."""
    place: Callable[[int], str] = str
    """What a person calls the row with this id."""

    @property
    def steps(self) -> int:
        """Updates in all."""
        return self.schedule.steps

    def update(self, step: int) -> list[Batch]:
        """The micro-batches of update `step`, counted from 1."""
        chosen = update_examples(step, count=len(self.train), batch_size=self.batch_size, seed=self.seed)
        return self.batches([self.train[i] for i in chosen.indices])

    def epoch(self, step: int) -> float:
        """Passes over the rows after `step` updates."""
        return step / updates_per_epoch(len(self.train), self.batch_size)


@dataclass(frozen=True)
class Hooks:
    """What the loop asks of who runs it."""

    requests: Callable[[], set[Request]]
    """What has been asked for, looked at after every update."""
    check: Callable[[], None]
    """Raises `StopRequested` when the run should stop; called between the parts of an evaluation."""
    save: Callable[[Progress], Checkpoint]
    samples: Callable[[int], Iterator[Event]]
    """Answers to the fixed prompts, after an evaluation at this step."""
    unusual: Callable[[], str] = str
    """What is unusual about the update that was yielded last; "" = nothing."""


def train(
    session: Session, course: Course, progress: Progress, hooks: Hooks
) -> Generator[Event, None, tuple[Progress, str]]:
    """Train from `progress` to the end; returns where it stopped and why.

    The reasons: "steps", "early stop", "stop" (with a checkpoint), "stop-now". Raises `RunFailed` when `MAX_SKIPPED`
    updates in a row had numbers that are not finite.
    """
    saved = progress.step  # before the first update there is nothing to save, and a resume begins at a checkpoint
    yield Phase(TRAINING, f"{course.steps} updates of {course.batch_size} examples")
    while True:
        asked, best = hooks.requests(), progress.best_step
        if asked & {"stop", "stop-now"}:
            if "stop-now" in asked:
                return progress, "stop-now"
            if saved != progress.step:
                yield hooks.save(progress)
            return progress, "stop"
        if _due(progress.step, course.eval_every, course.steps) and progress.evaluated != progress.step:
            try:
                progress = yield from _evaluate(session, course, progress, hooks)
            except StopRequested:
                continue
        reason = _reason_to_end(course, progress)
        wanted = reason or "save" in asked or _due(progress.step, course.save_every, course.steps)
        if progress.best_step != best or (wanted and saved != progress.step):
            yield hooks.save(progress)
            saved = progress.step
        if reason:
            return progress, reason
        progress = yield from _update(session, course, progress, course.update(progress.step + 1), hooks)


def _update(
    session: Session, course: Course, progress: Progress, batches: Sequence[Batch], hooks: Hooks
) -> Generator[Event, None, Progress]:
    step = progress.step + 1
    rate = course.schedule.at(step)
    result = session.train_step(batches, step=step, lr=rate)
    yield _step_event(course, step, rate, result, batches)
    skipped = 0 if result.applied else progress.skipped + 1
    if not result.applied:
        text = f"loss or gradient of update {step} is not finite; it was not applied ({_rows(course, batches)})"
        yield Warn("train.not-finite", text)
    elif unusual := hooks.unusual():
        yield Warn("train.spike", f"{unusual} ({_rows(course, batches)})")
    if skipped >= MAX_SKIPPED:
        what = f"{skipped} updates in a row were not finite; the weights are those of update {step - skipped}"
        fix = f"start again with  --set train.learning_rate={course.schedule.peak / 10:g}"
        raise RunFailed(Problem("train.not-finite", what, fix=fix))
    return replace(progress, step=step, skipped=skipped)


def _evaluate(session: Session, course: Course, progress: Progress, hooks: Hooks) -> Generator[Event, None, Progress]:
    """Score the validation rows; the new progress knows whether this is the best so far. Step 0 is the base."""
    step = progress.step
    if course.validation:
        began = time.monotonic()
        result = score(session, course.validation, check=hooks.check)
        best = step > 0 and math.isfinite(result.loss) and result.loss < (progress.best_loss or math.inf)
        seconds, who = time.monotonic() - began, "tuned" if step else "base"
        yield Evaluation(step, "valid", who, result.loss, result.targets, result.accuracy, best, seconds)
        if best:
            progress = replace(progress, best_step=step, best_loss=result.loss, rises=0)
        elif step > 0:
            progress = replace(progress, rises=progress.rises + 1)
    yield from hooks.samples(step)
    return replace(progress, evaluated=step)


def _reason_to_end(course: Course, progress: Progress) -> str:
    if course.patience is not None and progress.rises >= course.patience:
        return "early stop"
    return "steps" if progress.step >= course.steps else ""


def _due(step: int, every: int, steps: int) -> bool:
    return step % every == 0 or step == steps


def _step_event(course: Course, step: int, rate: float, result: StepResult, batches: Sequence[Batch]) -> Step:
    return Step(
        step=step,
        steps=course.steps,
        epoch=round(course.epoch(step), 4),
        loss=result.loss / result.weight,
        weight=result.weight,
        learning_rate=rate,
        gradient_norm=result.gradient_norm,
        applied=result.applied,
        tokens=sum(batch.real_tokens for batch in batches),
        targets=sum(batch.targets for batch in batches),
        peak_bytes=result.peak_bytes,
        seconds=result.seconds,
    )


def _rows(course: Course, batches: Sequence[Batch]) -> str:
    """What a person calls the first rows of an update."""
    rows = sorted({source for batch in batches for row in batch.sources for source in row})
    return f"rows {', '.join(map(course.place, rows[:8]))}{', …' if len(rows) > 8 else ''}"
