"""The process that trains one run, from its folder alone: `python -m localtune.worker FOLDER [SUPERVISOR]`.

It records every event, answers requests at update boundaries and between the parts of a measurement, and ends with 0,
with the code of the error it met, or with 130 or 143 when it was asked to stop. Whoever kills its supervisor stops it.
"""

import json
import os
import sys
import time
import traceback
from collections.abc import Generator, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NoReturn

from localtune.adapter import Full
from localtune.asked import Asked
from localtune.backend import Session, load_backend
from localtune.data.report import place
from localtune.durable import FULL
from localtune.easing import times_eased
from localtune.errors import LocaltuneError, Problem, ResourceError, RunFailed
from localtune.evaluate import answers, evaluate_tests, evaluation_of
from localtune.events import Checkpoint, Done, Event, Failed, Phase, Product, Sample, Warn
from localtune.fuse import copy_companions
from localtune.job import Job, changes_since, read_job
from localtune.plan import settings_of
from localtune.probe import refuse
from localtune.recorder import Recorder
from localtune.redacted import guard
from localtune.reference import record
from localtune.runs import checkpoints
from localtune.runs.checkpoints import Progress
from localtune.runs.files import folder_size, new_folder, write_json
from localtune.runs.folder import Run
from localtune.runs.lock import WORKER, RunLock
from localtune.runs.process import ProcessId
from localtune.score import StopRequested
from localtune.train import Course, Hooks, train
from localtune.worked import BEGIN, seconds_worked

_LESS_MEMORY = "--set train.rows=1   or   --set train.checkpointing=blocks   or   a shorter data.max_tokens"


def work(run: Run, supervisor: ProcessId | None = None) -> int:
    """Train the run and return the exit code; whatever happens is recorded. It stops when its supervisor is gone."""
    recorder = Recorder(run)
    asked = Asked(run, supervisor)
    try:
        with RunLock(run.folder, WORKER):
            recorder.read()
            life = live(read_job(run), asked, recorder)
            return asked.exit_code if _record_all(recorder, life).startswith("stop") else 0
    except StopRequested:
        return asked.exit_code
    except LocaltuneError as error:
        return _fail(run, error)
    except MemoryError:
        return _fail(run, ResourceError(Problem("memory.out", "the system gave no more memory", fix=_LESS_MEMORY)))
    except OSError as error:
        if error.errno not in FULL:
            raise
        return _fail(run, ResourceError(_disk_full(run)))


def live(job: Job, asked: Asked, recorder: Recorder) -> Generator[Event, None, str]:
    """Everything that happens from opening the model to the measured product; returns why it ended."""
    began = time.monotonic() - seconds_worked(job.run.events)
    yield Phase(BEGIN, f"{job.model.name} on {job.plan.device.name}")
    backend = load_backend(job.plan.device.backend)
    refuse(backend.supports(job.model, settings_of(job.recipe, job.plan)))
    progress, reason = Progress(), "stop"
    try:
        with ExitStack() as stack:
            with asked.at_once():
                session = stack.enter_context(job.open(backend))
            progress = yield from _resume(job, session)
            if progress.step == 0:
                yield from _measure(job, session, "base", 0, asked)
            hooks = _hooks(job, session, asked, recorder)
            progress, reason = yield from train(session, course_of(job), progress, hooks)
            if not reason.startswith("stop"):
                best = yield from _save_product(job, session, progress, recorder)
                if not isinstance(job.trainable, Full):
                    yield from _measure(job, session, "tuned", best, asked)
                    yield from _record(job, session, asked)
        if not reason.startswith("stop"):
            if isinstance(job.trainable, Full):
                with job.open_product(backend) as product:  # as it lies on disk, in the types it was saved in
                    yield from _measure(job, product, "tuned", best, asked)
                    yield from _record(job, product, asked)
            write_json(job.run.evaluation, evaluation_of(job.run, best))
            yield from _make_products(job, asked)
    except StopRequested:
        reason = "stop"
    seconds, planned = time.monotonic() - began, job.plan.memory_measurable
    yield Done(progress.step, reason, progress.best_step, seconds, recorder.peak, planned)
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
        place=partial(place, job.prepared.report),
    )


def _resume(job: Job, session: Session) -> Generator[Event, None, Progress]:
    if times := times_eased(job.run):
        text = f"memory ran out {times} times in this run: its parts stay smaller (remove {job.run.eased.name} to undo)"
        yield Warn("run.eased.note", text)
    found = checkpoints.latest(job.run)
    if found is None:
        return Progress()
    progress, folder = found
    for step in checkpoints.passed_over(job.run, progress):
        text = f"the checkpoint of update {step} is damaged and passed over for that of update {progress.step}"
        yield Warn("run.checkpoint", text)
    for change in changes_since(job):
        yield Warn("run.changed", f"{change}: this run continues, but may differ from one that was never stopped")
    session.restore(folder)
    return progress


def _hooks(job: Job, session: Session, asked: Asked, recorder: Recorder) -> Hooks:
    def save(progress: Progress) -> Checkpoint:
        began = time.monotonic()
        progress = replace(progress, events_offset=job.run.settle_events())
        folder = checkpoints.save(job.run, progress, lambda folder: session.save(folder, state=True))
        return Checkpoint(progress.step, folder.name, folder_size(folder), time.monotonic() - began)

    def samples(step: int) -> Iterator[Event]:
        prompts = job.prepared.samples
        ids = [prompt.prompt.tolist() for prompt in prompts]
        texts = answers(session, job.tokenizer, ids, job.sampling, check=asked.check)
        for prompt, text in zip(prompts, texts, strict=True):
            yield Sample(step, prompt.text, recorder.base_answers.get(prompt.text, text), text)

    return Hooks(asked.requests, asked.check, save, samples, lambda: recorder.unusual)


def _measure(job: Job, session: Session, who: str, step: int, asked: Asked) -> Iterator[Event]:
    """Loss and exact match on the test rows, of the weights as they are now."""
    if job.prepared.test:
        yield Phase("evaluating", f"{who} model on {len(job.prepared.test)} test rows")
        yield from evaluate_tests(job, session, who, step, check=asked.check)


def _record(job: Job, session: Session, asked: Asked) -> Iterator[Event]:
    """What tuned and base model say at held-out positions, for whatever is made of the run later."""
    yield Phase("recording", "what tuned and base model say at held-out positions")
    record(job, session, job.run.reference, asked.check)


def _make_products(job: Job, asked: Asked) -> Iterator[Event]:
    """The products the recipe asks for, proven; a request to stop is heard in between."""
    if not job.recipe.export.gguf:
        return
    from localtune.products.gguf import export_run  # libraries that only an export needs

    yield from export_run(job, job.recipe.export.gguf, heed=asked.check)


def _save_product(job: Job, session: Session, progress: Progress, recorder: Recorder) -> Generator[Event, None, int]:
    """Load the best weights and write what the user takes away; returns the update they are of."""
    best = progress.best_step or progress.step
    folder = checkpoints.intact(job.run, best) if best != progress.step else None
    if folder is not None:
        session.restore(folder)
    elif best != progress.step:
        yield Warn("run.checkpoint", f"the best checkpoint, of update {best}, is damaged: the last weights are taken")
        best = progress.step
    yield from _doubts(progress, recorder)
    target = job.run.model if isinstance(job.trainable, Full) else job.run.adapter
    yield Phase("saving", f"{target.name} of update {best}")
    began = time.monotonic()
    with new_folder(target) as product:
        session.save(product, state=False)
        if isinstance(job.trainable, Full):
            copy_companions(job.model.folder, product)
        size = folder_size(product)
    yield Product(target.name, target.name, size, time.monotonic() - began)
    return best


def _doubts(progress: Progress, recorder: Recorder) -> Iterator[Event]:
    best, base = progress.best_loss, recorder.base_loss
    if best is not None and base is not None and best > base:
        text = f"the validation loss never fell below the base model's ({best:.3f} > {base:.3f})"
        yield Warn("train.no-gain", text)
    if recorder.refused:
        yield Warn("train.not-finite", f"{len(recorder.refused)} updates were not applied: {recorder.refused[:8]}")


def _record_all(recorder: Recorder, life: Generator[Event, None, str]) -> str:
    while True:
        try:
            event = next(life)
        except StopIteration as stop:
            return str(stop.value)
        recorder.record(event)


def _disk_full(run: Run) -> Problem:
    fix = f"free some space, then  localtune run --resume {run.name}"
    return Problem("disk.full", "no space left on the disk of the run folder", where=str(run.folder), fix=fix)


def _fail(run: Run, error: LocaltuneError) -> int:
    with suppress(OSError):
        run.spend_reserve()  # a full disk must not hide what happened
    with suppress(OSError):
        run.record(Failed(error.problems[0].code, str(error)))
    with suppress(OSError):  # the log lies on the same disk
        sys.stderr.write(f"{error}\n")
        sys.stderr.flush()
    return error.exit_code


def main() -> None:
    """Train the run named on the command line."""
    guard()
    run = Run(Path(sys.argv[1]))
    try:
        code = work(run, ProcessId(**json.loads(sys.argv[2])) if len(sys.argv) > 2 else None)
    except Exception as error:
        with suppress(OSError):
            traceback.print_exc()
        what = f"{type(error).__name__}: {error}"
        fix = f"localtune tail {run.name} --log"
        code = _fail(run, RunFailed(Problem("internal", what, where=str(run.log), fix=fix)))
    _leave(code)


def _leave(code: int) -> NoReturn:
    """End at once: everything is written, and taking down a framework takes a second."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
