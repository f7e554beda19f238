"""What can be exported: the product of a run, or any model folder, with what is known of what it says."""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from localtune import __version__
from localtune.adapter import CONFIG_FILE, WEIGHTS_FILE, Full, Nothing
from localtune.backend import BACKENDS, MemorySpec, Precision, load_backend
from localtune.batch import Segment
from localtune.data.conversations import Message
from localtune.data.render import Renderer
from localtune.data.tokenizer import Tokenizer
from localtune.errors import InputError, MachineError, Problem, ResourceError
from localtune.events import Event, Phase, Warn
from localtune.export.identity import Identity, identify
from localtune.job import Job
from localtune.model import ModelFiles, resolve
from localtune.outlay import ANSWER
from localtune.places import places_in
from localtune.products import RECORD
from localtune.proof.strings import PASSAGES
from localtune.reference import Prompt, Reference, ask, listen, read, record
from localtune.runs.files import read_json, sha256
from localtune.runs.folder import Run
from localtune.score import nothing_asked


@dataclass(frozen=True)
class Source:
    """Something that can be exported."""

    model: ModelFiles
    tokenizer: Tokenizer
    reference: Reference | None
    """What "tuned", "base" and "weights" say, as far as there are any; None where nothing is to be compared."""
    identity: Identity
    folder: Path
    """Where its GGUF files go."""
    run: Run | None = None


def of_run(
    job: Job, weights: Path, folder: Path | None, *, check: bool, heed: Callable[[], None] = nothing_asked
) -> Generator[Event, None, Source]:
    """The run's product in the folder `weights`; its files go to `folder`, or into the run's own."""
    model = resolve(str(weights), weights.parent, offline=True)
    reference = None
    if check:
        reference = _known(job, weights) or (yield from reference_of(job, heed))
    if reference is not None and "weights" not in reference.said:
        reference = yield from with_weights(reference, model, job.plan.device.backend, heed)
    identity = identify(
        job.model,
        finetune=job.recipe.name or "tuned",
        base=job.model.name,
        revision=job.model.revision,
        lineage=_lineage(job),
    )
    return Source(model, Tokenizer(weights), reference, identity, folder or job.run.export, job.run)


def of_folder(name: str, folder: Path, *, check: bool = True) -> Generator[Event, None, Source]:
    """A model's folder, compared at built-in passages."""
    model = resolve(name, Path.cwd())
    if (model.folder / CONFIG_FILE).is_file():
        what, fix = "is an adapter; what is exported is a whole model", f"localtune fuse {name} -m MODEL -o FUSED"
        raise InputError(Problem("export.adapter", what, name, fix=fix))
    tokenizer, reference = Tokenizer(model.folder), None
    if check:
        yield Phase("recording", "what the weights say at built-in passages")
        reference = yield from with_weights(_unknown(model, tokenizer), model, next(iter(BACKENDS)), nothing_asked)
        reference = reference if reference.said else None
    identity = identify(model, finetune="", base=None, revision=None, lineage={"version": __version__})
    return Source(model, tokenizer, reference, identity, folder)


def reference_of(job: Job, heed: Callable[[], None]) -> Generator[Event, None, Reference]:
    """What the run's worker wrote down; done now where it could not, or where it was damaged since."""
    if job.run.reference.is_file():
        try:
            reference = read(job.run.reference)
            if {"tuned", "base"} <= reference.said.keys():
                return reference
        except InputError as error:
            yield Warn("reference.damaged", f"{error.problems[0].what}: recorded again")
    yield Phase("recording", "what tuned and base model say at held-out positions")
    with job.open_product(load_backend(job.plan.device.backend)) as session:
        return record(job, session, job.run.reference, heed)


def with_weights(
    reference: Reference, model: ModelFiles, backend: str, heed: Callable[[], None]
) -> Generator[Event, None, Reference]:
    """`reference` with what the weights of `model` say, in float32 where the memory suffices.

    Where they cannot be computed it stays as it is, and a warning says so.
    """
    return (yield from _with(reference, "weights", model, backend, heed))


def with_original(
    reference: Reference, base: ModelFiles, backend: str, heed: Callable[[], None]
) -> Generator[Event, None, Reference]:
    """`reference` with what the base's own weights say, where the base was quantised to train."""
    return (yield from _with(reference, "original", base, backend, heed))


def _with(
    reference: Reference, who: str, model: ModelFiles, backend: str, heed: Callable[[], None]
) -> Generator[Event, None, Reference]:
    try:
        chosen = load_backend(backend)
        limit = int(chosen.probe().memory_limit * 0.9)
        precision = _exact(model, limit)
        memory = MemorySpec(limit)
        with chosen.open(
            model, Nothing(), None, precision=precision, objective=None, optimizer=None, memory=memory, seed=0
        ) as session:
            said = listen(session, reference.places, check=heed)
            answers = ask(session, reference, check=heed) if who == "weights" else ()
    except (MachineError, ResourceError) as error:
        yield Warn("proof.not-computed", f"what the {who} say is not computed here: {error.problems[0].what}")
        return reference
    return reference.also(who, said, precision.compute, answers)


def _known(job: Job, weights: Path) -> Reference | None:
    """What is already known of the fused weights in the run's own folder."""
    if weights != job.run.fused or not job.run.weights.is_file():
        return None
    if read_json(weights / RECORD).get("reference") != sha256(job.run.weights):
        return None
    return read(job.run.weights)


def _exact(model: ModelFiles, limit: int) -> Precision:
    """float32, or the weights' own type where that would not fit."""
    kind = "float32" if 4 * model.parameters < 0.8 * limit else model.config.dtype
    return Precision(kind, kind)  # type: ignore[arg-type]


def _unknown(model: ModelFiles, tokenizer: Tokenizer) -> Reference:
    ids = [np.array(tokenizer.encode(text, special=True), np.int32) for text in PASSAGES]
    segments = [Segment(tokens, np.ones(len(tokens), np.float32), 0) for tokens in ids]
    renderer = Renderer(tokenizer, learn="answers")
    if renderer.turns is None:
        prompts = [Prompt(tokenizer.decode(tokens.tolist(), skip_special=True), tokens) for tokens in (ids[0][:16],)]
    else:
        question = "Hello! Who are you?"
        prompts = [Prompt(question, np.array(renderer.conversation_ids([Message("user", question)]), np.int32))]
    fitting = tuple(prompt for prompt in prompts if len(prompt.tokens) <= model.config.context - ANSWER)
    return Reference(places_in(segments, model.config.context), fitting, model.stop_ids, "built-in", {}, {}, {})


def _lineage(job: Job) -> dict[str, str]:
    """What the file should say of where it is from."""
    full = isinstance(job.trainable, Full)
    product = job.run.model if full else job.run.adapter
    merge = "every weight trained" if full else "adapter into the base's 16-bit weights, in float32, rounded once"
    found = {
        "version": __version__,
        "run": job.run.name,
        "recipe.sha256": sha256(job.run.resolved),
        "merge": merge,
    }
    if not full:
        found["adapter.sha256"] = sha256(product / WEIGHTS_FILE)
    return found
