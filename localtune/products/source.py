"""What can be exported: the product of a run, or any model folder, with what is known of what it says."""

import hashlib
import json
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from localtune import __version__
from localtune.adapter import CONFIG_FILE, WEIGHTS_FILE, Full, Lora, Nothing, Trainable, base_of
from localtune.answering import usable_memory, willing
from localtune.backend import Device, MemorySpec, Precision, Session, Settings, load_backend
from localtune.batch import Segment
from localtune.data.conversations import Message
from localtune.data.rendering import Rendering
from localtune.data.tokenizer import Tokenizer
from localtune.errors import InputError, LocaltuneError, MachineError, Problem, ResourceError
from localtune.events import Event, Phase, Warn
from localtune.export.identity import Identity, identify
from localtune.job import Job
from localtune.model import ModelFiles, fingerprint, resolve
from localtune.model.plain import refuse_quantized
from localtune.outlay import ANSWER
from localtune.places import places_in
from localtune.products import RECORD
from localtune.products.card import datasets_of
from localtune.proof.strings import PASSAGES
from localtune.reference import Prompt, Reference, ask, listen, read, record
from localtune.runs.files import read_json, sha256
from localtune.runs.folder import Run
from localtune.score import nothing_asked
from localtune.typed import typed


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
    rounds_away: bool = False
    """bfloat16 would not keep what training changed."""


def of_run(
    job: Job, weights: Path, folder: Path | None, *, check: bool, heed: Callable[[], None] = nothing_asked
) -> Generator[Event, None, Source]:
    """The run's product in the folder `weights`; its files go to `folder`, or into the run's own."""
    model = resolve(str(weights), weights.parent, offline=True)
    reference = None
    if check:
        reference = _known(job, weights)
        if reference is None:
            reference = yield from with_expected((yield from reference_of(job, heed)), job, heed)
            reference = yield from with_weights(reference, model, job.plan.device.backend, heed)
    identity = _identity(job, _lineage(job, model))
    wider = (
        job.model.config.dtype == "bfloat16" and model.config.dtype == "float32" and not isinstance(job.trainable, Full)
    )
    return Source(model, Tokenizer(weights), reference, identity, folder or job.run.export, job.run, wider)


def of_adapter(job: Job, folder: Path | None, *, check: bool) -> Generator[Event, None, Source]:
    """The run's adapter, to be compared over its base: what base and adapter say side by side is what it must say."""
    reference = None
    if check:
        reference = yield from with_expected((yield from reference_of(job, nothing_asked)), job, nothing_asked)
        if "expected" in reference.said:
            reference = reference.also("weights", reference.said["expected"], reference.computed["expected"])
    lineage = _lineage(job, job.model) | {"merge": "none: the adapter alone"}
    return Source(job.model, job.tokenizer, reference, _identity(job, lineage), folder or job.run.export, job.run)


def of_folder(name: str, folder: Path, *, check: bool = True) -> Generator[Event, None, Source]:
    """A model's folder, compared at built-in passages by the first backend here that computes it as it is."""
    if (Path(name) / CONFIG_FILE).is_file():
        what, base = "is an adapter; what is exported is a whole model", base_of(Path(name)) or "MODEL"
        fix = f"{typed('localtune', 'fuse', name, '-m', base, '-o', 'FUSED')}   then   localtune export FUSED"
        raise InputError(Problem("export.adapter", what, name, fix=fix))
    model = resolve(name, Path.cwd())
    refuse_quantized(model, "export the original 16-bit model")
    tokenizer, reference = Tokenizer(model.folder), None
    if check:
        yield Phase("recording", "what the weights say at built-in passages")
        reference = yield from _first_heard(_unknown(model, tokenizer), model)
    lineage = {"version": __version__, "model.sha256": _digest(model)}
    identity = identify(model, finetune="", base=None, revision=None, lineage=lineage)
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


def _first_heard(reference: Reference, model: ModelFiles) -> Generator[Event, None, Reference | None]:
    """`reference` with what the weights say, by the first backend that does not refuse the model; None without any."""
    longest = max((len(tokens) for tokens in reference.places.rows), default=1)
    tokens = max([longest, *(len(prompt.tokens) + ANSWER for prompt in reference.prompts)])

    def wanted(device: Device) -> list[Settings]:
        memory = MemorySpec(usable_memory(device))
        precision = Precision("checkpoint" if model.config.quantized else "float32", "float32")
        return [Settings(Nothing(), precision, None, None, memory, tokens, packed=False)]

    try:
        device, _ = willing(model, wanted)
    except (InputError, MachineError) as error:
        yield _not_computed("the weights", error)
        return None
    reference = yield from with_weights(reference, model, device.backend, nothing_asked)
    return reference if reference.said else None


def with_weights(
    reference: Reference, model: ModelFiles, backend: str, heed: Callable[[], None]
) -> Generator[Event, None, Reference]:
    """`reference` with what the weights of `model` say, in float32 where the memory suffices.

    Where they cannot be computed it stays as it is, and a warning says so.
    """
    try:
        with _computing(model, Nothing(), None, backend) as (session, computed):
            said = listen(session, reference.places, check=heed)
            return reference.also("weights", said, computed, ask(session, reference, check=heed))
    except (MachineError, ResourceError) as error:
        yield _not_computed("the weights", error)
        return reference


def with_expected(reference: Reference, job: Job, heed: Callable[[], None]) -> Generator[Event, None, Reference]:
    """`reference` with what adapter and base say side by side, in the base's own weights and in the same arithmetic.

    However the base was stored to train, this is what fused weights must say: "expected", and "original" without the
    adapter. Nothing is added for a full fine-tune, or where it cannot be computed.
    """
    if not isinstance(job.trainable, Lora) or {"expected", "original"} <= reference.said.keys():
        return reference
    try:
        with _computing(job.model, job.trainable, job.run.adapter, job.plan.device.backend) as (session, computed):
            for who, adapter in (("expected", True), ("original", False)):
                said = listen(session, reference.places, adapter=adapter, check=heed)
                reference = reference.also(who, said, computed)
    except (MachineError, ResourceError) as error:
        yield _not_computed("adapter and base", error)
    return reference


@contextmanager
def _computing(
    model: ModelFiles, trainable: Trainable, adapter: Path | None, backend: str
) -> Iterator[tuple[Session, str]]:
    """A session that answers, and the type it computes in."""
    chosen = load_backend(backend)
    limit = int(chosen.probe().memory_limit * 0.9)
    precision, memory = _exact(model, limit), MemorySpec(limit)
    with chosen.open(
        model, trainable, adapter, precision=precision, objective=None, optimizer=None, memory=memory, seed=0
    ) as session:
        yield session, precision.compute


def _not_computed(who: str, error: LocaltuneError) -> Warn:
    return Warn("proof.not-computed", f"what {who} say is not computed here: {error.problems[0].what}")


def _known(job: Job, weights: Path) -> Reference | None:
    """What is already known of the fused weights in the run's own folder."""
    if weights != job.run.fused or not job.run.weights.is_file():
        return None
    if read_json(weights / RECORD).get("reference") != sha256(job.run.weights):
        return None
    return read(job.run.weights)


def _exact(model: ModelFiles, limit: int) -> Precision:
    """float32, or the weights' own type where that would not fit; weights that are quantised stay so."""
    kind = "float32" if 4 * model.parameters < 0.8 * limit else model.config.dtype
    return Precision("checkpoint" if model.config.quantized else kind, kind)  # type: ignore[arg-type]


def _unknown(model: ModelFiles, tokenizer: Tokenizer) -> Reference:
    ids = [np.array(tokenizer.encode(text, special=True), np.int32) for text in PASSAGES]
    segments = [Segment(tokens, np.ones(len(tokens), np.float32), 0) for tokens in ids]
    if tokenizer.template is None:
        prompts = [Prompt(tokenizer.decode(tokens.tolist(), skip_special=True), tokens) for tokens in (ids[0][:16],)]
    else:
        question = "Hello! Who are you?"
        with Rendering(tokenizer, learn="answers", workers=1) as rendering:
            asked = rendering.conversation_ids([Message("user", question)])
        prompts = [Prompt(question, np.array(asked, np.int32))]
    fitting = tuple(prompt for prompt in prompts if len(prompt.tokens) <= model.config.context - ANSWER)
    return Reference(places_in(segments, model.config.context), fitting, model.stop_ids, "built-in", {}, {}, {})


def _digest(model: ModelFiles) -> str:
    """One hash of every file that decides what the model says."""
    return hashlib.sha256(json.dumps(fingerprint(model), sort_keys=True).encode()).hexdigest()


def _identity(job: Job, lineage: dict[str, str]) -> Identity:
    return identify(
        job.model,
        finetune=job.recipe.name or "tuned",
        base=job.model.name,
        revision=job.model.revision,
        lineage=lineage,
        datasets=datasets_of(job),
    )


def _lineage(job: Job, weights: ModelFiles) -> dict[str, str]:
    """What the file should say of where it is from."""
    full = isinstance(job.trainable, Full)
    product = job.run.model if full else job.run.adapter
    fused = f"adapter into the base's {job.model.config.dtype} weights, in float32, written in {weights.config.dtype}"
    merge = "every weight trained" if full else fused
    found = {
        "version": __version__,
        "run": job.run.name,
        "recipe.sha256": sha256(job.run.resolved),
        "rows": str(job.plan.train_rows),
        "merge": merge,
    }
    if not full:
        found["adapter.sha256"] = sha256(product / WEIGHTS_FILE)
    return found
