"""One run as its folder says it: recipe, plan, model, tokens, and how its sessions are opened."""

import contextlib
import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from localtune import __version__
from localtune.adapter import Full, Nothing, Trainable
from localtune.backend import Backend, Sampling, Session
from localtune.batch import Batch, Segment
from localtune.data.packing import micro_batches
from localtune.data.prepare import Prepared, load, prepare
from localtune.data.tokenizer import Tokenizer
from localtune.easing import eased, longest_of, times_eased
from localtune.errors import InputError, Problem
from localtune.model import ModelFiles, fingerprint, resolve
from localtune.objectives import SFT
from localtune.plan import Plan, from_json, optimizer_of, trainable_of
from localtune.recipe import load as load_recipe
from localtune.runs.files import altered, is_complete, read_json
from localtune.runs.folder import ALIVE, Run
from localtune.settings import Recipe
from localtune.typed import typed


@dataclass(frozen=True)
class Job:
    """Everything the run folder says."""

    run: Run
    recipe: Recipe
    plan: Plan
    model: ModelFiles
    tokenizer: Tokenizer
    prepared: Prepared

    @property
    def trainable(self) -> Trainable:
        """What trains."""
        return trainable_of(self.recipe)

    @property
    def sampling(self) -> Sampling:
        """Greedy answers that end where the training rows end."""
        turn, eos = self.prepared.report.end_of_turn, self.tokenizer.eos_id
        ends = {self.tokenizer.id_of(turn)} if turn else {eos} if eos is not None else set()
        return Sampling(tuple(sorted({*self.model.stop_ids, *ends})), self.recipe.watch.answer_tokens)

    def batches(self, segments: Sequence[Segment]) -> list[Batch]:
        """`segments` packed as they are in training."""
        if not segments:
            return []
        longest = max(len(segment.tokens) for segment in segments)
        room = self.plan.room(longest, self.recipe.data.max_tokens)
        return micro_batches(segments, room, self.plan.rows, packed=self.recipe.train.pack)

    def open(self, backend: Backend) -> Session:
        """The session that trains."""
        return backend.open(
            self.model,
            self.trainable,
            None,
            precision=self.plan.precision,
            objective=SFT,
            optimizer=optimizer_of(self.recipe),
            memory=self.plan.memory_spec(),
            seed=self.recipe.train.seed,
        )

    def open_product(self, backend: Backend) -> Session:
        """The session that answers with what this run made. Raises `InputError` when it has made nothing yet."""
        full = isinstance(self.trainable, Full)
        product = self.run.model if full else self.run.adapter
        if not is_complete(product):
            raise unfinished(self.run)
        model = resolve(str(product), self.run.folder, offline=True) if full else self.model
        return self._answering(backend, model, Nothing() if full else self.trainable, None if full else product)

    def open_base(self, backend: Backend) -> Session:
        """The session that answers with the base model."""
        return self._answering(backend, self.model, Nothing(), None)

    def _answering(self, backend: Backend, model: ModelFiles, trainable: Trainable, start: Path | None) -> Session:
        memory, seed = self.plan.memory_spec(), self.recipe.train.seed
        precision = self.plan.precision
        return backend.open(
            model, trainable, start, precision=precision, objective=None, optimizer=None, memory=memory, seed=seed
        )


def unfinished(run: Run) -> InputError:
    """What to tell of a run whose product is not there."""
    if run.status().state in ALIVE:
        return InputError(
            Problem("run.training", "this run is still training", run.name, fix=f"localtune tail {run.name}")
        )
    fix = f"localtune run --resume {run.name}"
    return InputError(Problem("run.unfinished", "this run has no product yet", where=run.name, fix=fix))


def read_job(run: Run) -> Job:
    """The job of a run folder. Raises `InputError` for one that is damaged or was changed since it was made."""
    if changed := altered(run.folder):
        fix = typed("localtune", "run", run.recipe)
        what = f"{', '.join(changed[:3])} changed since this run was made"
        raise InputError(Problem("run.changed", what, where=str(run.folder), fix=fix))
    recipe = load_recipe(run.resolved, environ={}, user_config=None).recipe
    model = resolve(recipe.model, run.folder, offline=True)
    prepared = load(run.data)
    plan = eased(read_plan(run), times_eased(run), longest_of(prepared.train))
    return Job(run, recipe, plan, model, Tokenizer(model.folder), prepared)


def read_plan(run: Run) -> Plan:
    """The plan of a run. Raises `InputError` for one that is damaged."""
    try:
        return from_json(read_json(run.plan))
    except (KeyError, TypeError) as error:
        raise InputError(Problem("run.unreadable", f"not a plan: {error}", where=str(run.plan))) from None


_PACKAGES = {"torch": ("torch", "transformers", "peft", "bitsandbytes"), "mlx": ("mlx", "mlx-lm", "transformers")}


def versions(backend: str) -> dict[str, str]:
    """What the figures of a run depend on, with its version here."""
    found = {"localtune": __version__, "python": platform.python_version()}
    for name in (*_PACKAGES[backend], "tokenizers", "numpy"):
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def changes_since(job: Job) -> list[str]:
    """What is not as it was when the run was made. Raises `InputError` when the model's files are not the same."""
    made = read_json(job.run.environment)
    before, here = made["versions"], versions(job.plan.device.backend)
    changed = [f"{name} was {before.get(name, 'not there')}, is {here.get(name, 'not there')}"
               for name in sorted({*before, *here}) if before.get(name) != here.get(name)]  # fmt: skip
    if fingerprint(job.model) != made["model"]["sha256"]:
        what = "the base model's files are not those this run began with"
        raise InputError(Problem("run.model-changed", what, where=job.model.name, fix="put the old files back"))
    return changed


def with_tests(job: Job, data: Path | None) -> Job:
    """The job with the test rows of another file; without one, its own. Raises `InputError` when there are none."""
    if data is not None:
        settings = job.recipe.data.model_copy(update={"train": str(data), "valid": "none", "test": str(data)})
        learn, seed, rows = job.recipe.train.learn, job.recipe.train.seed, job.model.config.vocabulary
        read = prepare(settings, job.tokenizer, learn=learn, seed=seed, base=data.parent, vocabulary=rows)
        return replace(job, prepared=replace(job.prepared, test=read.test))
    if not job.prepared.test:
        fix = f"localtune eval {job.run.name} --data test.jsonl"
        raise InputError(Problem("data.no-tests", "this run has no test rows", where=job.run.name, fix=fix))
    return job
