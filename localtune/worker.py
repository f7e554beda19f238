"""The process that trains one run, from its folder alone: `python -m localtune.worker FOLDER`.

It records every event, answers requests at update boundaries, and ends with 0, with the code of the error it met, or
with 130 (asked to stop) or 143 (SIGTERM) after saving a checkpoint.
"""

import errno
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path
from types import FrameType

from localtune.adapter import Full
from localtune.backend import Session, load_backend
from localtune.errors import LocaltuneError, Problem, ResourceError, RunFailed
from localtune.evaluate import answers, evaluate_tests, evaluation_of
from localtune.events import Checkpoint, Done, Evaluation, Event, Failed, Phase, Sample, Step, Warn
from localtune.job import Job, read_job
from localtune.model import FINGERPRINTED, ModelFiles
from localtune.plan import settings_of
from localtune.probe import refuse
from localtune.runs import checkpoints
from localtune.runs.checkpoints import Progress
from localtune.runs.files import folder_size, new_folder, write_json
from localtune.runs.folder import Request, Run
from localtune.train import Course, Hooks, train

EXIT_STOPPED = 130
EXIT_TERMINATED = 143


class Signals:
    """SIGTERM and SIGINT as requests to stop at the next update boundary."""

    def __init__(self) -> None:
        self.received: int | None = None
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._receive)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = number


def work(run: Run, signals: Signals) -> int:
    """Train the run and return the exit code; whatever happens is recorded."""
    try:
        reason = yield_to(run, live(read_job(run), signals))
    except LocaltuneError as error:
        return _fail(run, error)
    except MemoryError:
        return _fail(run, ResourceError(Problem("memory.out", "the system gave no more memory", fix=_LESS_MEMORY)))
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return _fail(run, ResourceError(_disk_full(run)))
    if reason == "stop" and signals.received == signal.SIGTERM:
        return EXIT_TERMINATED
    return EXIT_STOPPED if reason.startswith("stop") else 0


def yield_to(run: Run, life: Generator[Event, None, str]) -> str:
    """Record every event of `life` and return what it returns."""
    while True:
        try:
            event = next(life)
        except StopIteration as stop:
            return str(stop.value)
        run.record(event)


def live(job: Job, signals: Signals) -> Generator[Event, None, str]:
    """Everything that happens from opening the model to the evaluated product; returns why it ended."""
    began = time.monotonic()
    yield Phase("loading", f"{job.model.name} on {job.plan.device.name}")
    backend = load_backend(job.plan.device.backend)
    refuse(backend.supports(job.model, settings_of(job.recipe, job.plan)))
    with job.open(backend) as session:
        progress = _resume(job, session)
        if progress.step == 0:
            yield from _measure(job, session, "base", 0)
        progress, reason = yield from train(session, course_of(job), progress, _hooks(job, session, signals))
        if not reason.startswith("stop"):
            yield from _finish(job, session, progress)
    yield _done(job, progress, reason, time.monotonic() - began)
    return reason


def course_of(job: Job) -> Course:
    """What the train loop follows."""
    watch, plan = job.recipe.watch, job.plan
    return Course(
        train=job.prepared.train,
        validation=job.batches(job.prepared.valid),
        schedule=plan.schedule,
        batch_size=plan.batch_size,
        seed=job.recipe.train.seed,
        eval_every=watch.eval_every,
        save_every=watch.save_every,
        patience=watch.stop_if.val_loss_rises,
        batches=job.batches,
    )


def _resume(job: Job, session: Session) -> Progress:
    found = checkpoints.latest(job.run)
    if found is None:
        return Progress()
    progress, folder = found
    session.restore(folder)
    return progress


def _hooks(job: Job, session: Session, signals: Signals) -> Hooks:
    def requests() -> set[Request]:
        asked = job.run.requests()
        job.run.answer("save")
        return asked | ({"stop"} if signals.received else set())

    def save(progress: Progress) -> Checkpoint:
        began = time.monotonic()
        progress = replace(progress, events_offset=job.run.events.stat().st_size)
        folder = checkpoints.save(job.run, progress, lambda folder: session.save(folder, state=True))
        return Checkpoint(progress.step, folder.name, folder_size(folder), time.monotonic() - began)

    return Hooks(requests, save, lambda step: _samples(job, session, step))


def _samples(job: Job, session: Session, step: int) -> Iterator[Event]:
    prompts = job.prepared.samples
    if not prompts:
        return
    texts = answers(session, job.tokenizer, [p.prompt.tolist() for p in prompts], job.sampling, adapter=True)
    before = {event.prompt: event.base for event, _ in job.run.read_events() if isinstance(event, Sample)}
    for prompt, text in zip(prompts, texts, strict=True):
        yield Sample(step, prompt.text, before.get(prompt.text, text), text)


def _measure(job: Job, session: Session, who: str, step: int) -> Iterator[Event]:
    """Loss and exact match on the test rows, of the weights as they are now."""
    tests = job.prepared.test
    if not tests:
        return
    yield Phase("evaluating", f"{who} model on {len(tests)} test rows")
    yield from evaluate_tests(job, session, who, step)


def _finish(job: Job, session: Session, progress: Progress) -> Iterator[Event]:
    """Load the best weights, write the product, measure it."""
    step = progress.best_step or progress.step
    if step != progress.step:
        session.restore(checkpoints.best(job.run, step))
    yield from _worse_than_base(job, progress)
    target = job.run.model if isinstance(job.trainable, Full) else job.run.adapter
    yield Phase("saving", f"{target.name} of update {step}")
    with new_folder(target) as folder:
        session.save(folder, state=False)
        if isinstance(job.trainable, Full):
            _copy_companions(job.model, folder)
    yield from _measure(job, session, "tuned", step)
    write_json(job.run.evaluation, evaluation_of(job.run, step))


def _copy_companions(model: ModelFiles, folder: Path) -> None:
    """Configuration and tokenizer as they are in the base: the folder is then a model of its own."""
    for name in FINGERPRINTED:
        if (model.folder / name).is_file() and not name.endswith(".index.json"):
            shutil.copyfile(model.folder / name, folder / name)


def _worse_than_base(job: Job, progress: Progress) -> Iterator[Event]:
    losses = [e.loss for e, _ in job.run.read_events() if isinstance(e, Evaluation) and e.split == "valid"]
    if losses and progress.best_loss is not None and progress.best_loss > losses[0]:
        text = f"the validation loss never fell below the base model's ({progress.best_loss:.3f} > {losses[0]:.3f})"
        yield Warn("train.no-gain", text)
    dead = [e.step for e, _ in job.run.read_events() if isinstance(e, Step) and not e.applied]
    if dead:
        yield Warn("train.not-finite", f"{len(dead)} updates were not applied (first: {dead[0]})")


def _done(job: Job, progress: Progress, reason: str, seconds: float) -> Done:
    peak = max((e.peak_bytes for e, _ in job.run.read_events() if isinstance(e, Step)), default=0)
    return Done(progress.step, reason, progress.best_step, seconds, peak, job.plan.memory_needed)


_LESS_MEMORY = "--set train.rows=1   or   --set train.checkpointing=blocks   or   a shorter data.max_tokens"


def _disk_full(run: Run) -> Problem:
    fix = f"free some space, then  localtune run --resume {run.name}"
    return Problem("disk.full", "no space left on the disk of the run folder", where=str(run.folder), fix=fix)


def _fail(run: Run, error: LocaltuneError) -> int:
    run.record(Failed(error.problems[0].code, str(error)))
    return error.exit_code


def main() -> None:
    """Train the run named on the command line."""
    run = Run(Path(sys.argv[1]))
    try:
        code = work(run, Signals())
    except Exception as error:
        traceback.print_exc()
        what = f"{type(error).__name__}: {error}"
        code = _fail(
            run, RunFailed(Problem("internal", what, where=str(run.log), fix=f"localtune tail {run.name} --log"))
        )
    sys.exit(code)


if __name__ == "__main__":
    main()
