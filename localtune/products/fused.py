"""The adapter of a run in the base's own weights: a complete model folder, compared with what was trained."""

import shutil
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path

from localtune import __version__
from localtune.adapter import WEIGHTS_FILE, Full
from localtune.durable import clear
from localtune.errors import InputError, Problem
from localtune.events import Event, Phase, Product, Warn
from localtune.events import Proof as Proved
from localtune.fitting import other_revision, refuse_other_base
from localtune.fuse import Fused, fuse
from localtune.job import Job, changes_since, unfinished
from localtune.model import ModelFiles, TensorInfo, resolve
from localtune.model.plain import plain_tensors, refuse_quantized
from localtune.modelcard import CARD, model_card, stated_licence
from localtune.products import RECORD, event_of, failure, making, name_in, set_aside, writing
from localtune.products.card import card_of
from localtune.products.source import reference_of, with_expected, with_weights
from localtune.proof import Proof, prove_weights
from localtune.reference import Reference, write
from localtune.requantise import requantise
from localtune.runs.files import (
    MANIFEST,
    folder_size,
    is_complete,
    new_folder,
    read_json,
    sha256,
    sweep,
    write_bytes,
    write_json,
)
from localtune.score import nothing_asked
from localtune.typed import typed

KEPT, KEPT_LEAST = 0.95, 0.5
"""Share of the intended change that must survive rounding to the base's type, in all and in each module; float32 is
written otherwise."""


def fuse_run(job: Job, folder: Path | None = None, *, check: bool = True) -> Generator[Event, None, Path]:
    """`fused` for one who does nothing else with the run meanwhile."""
    with making(job.run):
        return (yield from fused(job, folder, check=check))


def fused(
    job: Job, folder: Path | None = None, *, check: bool = True, heed: Callable[[], None] = nothing_asked
) -> Generator[Event, None, Path]:
    """The folder of the fused model; one that is there, is of this adapter and passed is kept.

    Raises `InputError` when there is nothing to fuse, the base is not the one that was trained on, or the folder holds
    something else; `RunFailed` when the result does not say what the trained model said. `heed` may raise in between.
    """
    target = folder or job.run.fused
    _can_be_fused(job)
    clear(target)
    if _is_current(job, target, check):
        yield from _kept(job, target)
        return target
    yield from _make_room(job, target)
    changes_since(job)
    reference = None
    if check:
        reference = yield from with_expected((yield from reference_of(job, heed)), job, heed)
    with writing(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        sweep(target.parent)
        began, proof = time.monotonic(), None
        with new_folder(target) as temporary:
            yield Phase("fusing", f"the adapter of {job.run.name} into {job.model.name}")
            made = fuse(job.model, job.run.adapter, temporary)
            if rounded := _is_rounded(plain_tensors(job.model)):
                made, rounded = yield from _without_loss(job, temporary, made)
            if reference is not None:
                proof = yield from _proven(job, target, temporary, reference, heed)
            if proof is not None and not proof.passed and rounded:
                yield _rounding(job, "changes too much of what the model says")
                made = _in_float32(job, temporary)
                proof = yield from _proven(job, target, temporary, reference, heed)
            if proof is not None:
                yield event_of(proof)
            _describe(job, temporary, made, proof, own=target == job.run.fused)
            if proof is not None and not proof.passed:
                aside = set_aside(temporary, target.with_name(f"{target.name}.failed"))
                raise failure(proof, aside, aside / RECORD)
    yield Product("fused", name_in(target, job.run), folder_size(target), time.monotonic() - began)
    return target


def _without_loss(job: Job, folder: Path, made: Fused) -> Generator[Event, None, tuple[Fused, bool]]:
    """`made`, or one in float32 where the base's type rounds too much of the change away; whether it is rounded."""
    if abs(made.kept - 1) <= 1 - KEPT and made.kept_least[1] >= KEPT_LEAST:
        return made, True
    yield _rounding(job, f"would keep {made.kept:.0%} of what training changed")
    return _in_float32(job, folder), False


def _is_rounded(tensors: Sequence[TensorInfo]) -> bool:
    """Whether weights of these types hold less than float32 does."""
    return any(tensor.dtype in ("BF16", "F16") for tensor in tensors)


def _rounding(job: Job, what: str) -> Warn:
    return Warn("fuse.rounding", f"{job.model.config.dtype} {what}: written in float32")


def _in_float32(job: Job, folder: Path) -> Fused:
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return fuse(job.model, job.run.adapter, folder, dtype="float32")


def _proven(
    job: Job, target: Path, folder: Path, reference: Reference | None, heed: Callable[[], None]
) -> Generator[Event, None, Proof | None]:
    """The proof, and in the run's folder what the weights say; None where nothing here computes them."""
    if reference is None:
        return None
    yield Phase("proving", f"the fused weights at {len(reference.places.row)} positions")
    began, backend = time.monotonic(), job.plan.device.backend
    model = resolve(str(folder), folder, offline=True)
    reference = yield from with_weights(reference, model, backend, heed)
    if "weights" not in reference.said:
        return None
    if target == job.run.fused:
        write(reference, job.run.weights)
    return prove_weights(target.name, reference, began, rounded=_is_rounded(model.tensors))


def _describe(job: Job, folder: Path, made: Fused, proof: Proof | None, *, own: bool) -> None:
    """Write the card and the record into the folder."""
    write_bytes(folder / CARD, card_of(job, proof).encode())
    known = sha256(job.run.weights) if own and proof is not None else ""
    whence = {"run": job.run.name, "adapter": _adapter(job), "reference": known}
    found = {"kept": made.kept, "modules": list(made.modules)}
    write_json(folder / RECORD, whence | found | (proof.to_json() if proof else {"passed": None}))


def _kept(job: Job, target: Path) -> Iterator[Event]:
    """What is said of a product that is there already."""
    record = read_json(target / RECORD)
    yield Product("fused", name_in(target, job.run), folder_size(target), 0.0)
    if record.get("passed") is not None:
        checks = [{key: check[key] for key in ("name", "passed", "text")} for check in record["checks"]]
        yield Proved(record["product"], record["passed"], checks, record["losses"], record["seconds"])


def _make_room(job: Job, target: Path) -> Iterator[Event]:
    """See that `target` may be written: what a fusion did not write is refused, in the run's own folder set aside."""
    try:
        _refuse_foreign(target, job.run.name)
    except InputError as error:
        if target != job.run.fused:
            raise
        aside = set_aside(target, target.with_name(f"{target.name}.changed"))
        yield Warn("fuse.changed", f"{target.name} {error.problems[0].what}: it is kept as {aside.name}")


def fused_adapter(
    adapter: Path, model: ModelFiles, folder: Path, *, force: bool = False
) -> Generator[Event, None, Path]:
    """Any PEFT adapter in the weights of `model`; nothing is known of what it said when it was trained.

    Raises `InputError` when the two do not belong together or `folder` is there already. With `force` the adapter may
    name another base.
    """
    if not force:
        refuse_other_base(adapter, model)
    if folder.exists():
        raise _exists(folder, "is there already")
    if trained := other_revision(adapter, model):
        text = f"{adapter.name} was trained on revision {trained} of its base; this is {model.revision}"
        yield Warn("fuse.revision", f"{text}: right where its weights are the same")
    began = time.monotonic()
    yield Phase("fusing", f"{adapter.name} into {model.name}")
    with writing(folder.parent), new_folder(folder) as temporary:
        made = fuse(model, adapter, temporary)
        card = model_card(
            name=folder.name,
            base=model.name,
            revision=model.revision,
            method="LoRA",
            licence=stated_licence(model.folder),
            recipe={"adapted modules": len(made.modules), "largest relative change": made.largest_change},
            measured={},
            versions={"localtune": __version__},
        )
        write_bytes(temporary / CARD, card.encode())
    if made.kept < KEPT:
        text = f"{model.config.dtype} kept {made.kept:.0%} of what the adapter changes: take a float32 copy of the base"
        yield Warn("fuse.rounding", text)
    yield Product("fused", str(folder), folder_size(folder), time.monotonic() - began)
    yield Warn("proof.unknown", "not compared with its training, of which nothing is known here")
    return folder


def requantised(job: Job, folder: Path | None = None) -> Generator[Event, None, Path]:
    """The folder of the fused model on the grid the run trained on; every layer keeps its change, or it is refused.

    Raises what `requantise` raises, and `InputError` when there is nothing to fuse or the folder is there already.
    """
    target = folder or job.run.fused.with_name("requantised")
    _can_be_fused(job)
    if target.exists():
        raise _exists(target, "is there already")
    began, precision = time.monotonic(), job.plan.precision
    with making(job.run), writing(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        sweep(target.parent)
        with new_folder(target) as temporary:
            yield Phase("fusing", f"the adapter of {job.run.name} into {job.model.name}, on its grid")
            made = requantise(job.model, job.run.adapter, temporary, precision.storage, precision.compute)
            write_bytes(temporary / CARD, card_of(job, None).encode())
            whence = {"run": job.run.name, "adapter": _adapter(job), "correlations": dict(made.correlations)}
            write_json(temporary / RECORD, whence | {"passed": None})
    yield Product("requantised", name_in(target, job.run), folder_size(target), time.monotonic() - began)
    least = min(made.correlations, key=lambda module: made.correlations[module])
    text = f"layer by layer only: {least} keeps least of its change, a correlation of {made.correlations[least]:.3f}"
    yield Warn("proof.layers", text)
    return target


def _can_be_fused(job: Job) -> None:
    if isinstance(job.trainable, Full):
        fix = f"localtune export {job.run.name} --gguf Q8_0"
        what = "every weight was trained: there is no adapter to fuse, the product is whole"
        raise InputError(Problem("fuse.full", what, str(job.run.model), fix=fix))
    original = f"localtune fuse {typed(job.run.adapter)} -m ORIGINAL_16_BIT_MODEL -o FUSED --force"
    refuse_quantized(job.model, f"localtune chat {job.run.name}   or   {original}")
    if not is_complete(job.run.adapter, verify=True):
        raise unfinished(job.run)


def _is_current(job: Job, target: Path, check: bool) -> bool:
    """Whether `target` is as it was made from the adapter as it is now, and passed, or need not have."""
    if not is_complete(target, verify=True) or not (target / RECORD).is_file():
        return False
    made = read_json(target / RECORD)
    return made.get("adapter") == _adapter(job) and (made.get("passed") is True or not check)


def _refuse_foreign(target: Path, run: str) -> None:
    """Raise `InputError` where `target` holds anything that was not written there by a fusion of `run`."""
    if not target.exists() and not target.is_symlink():
        return
    if not is_complete(target, verify=True) or not (target / RECORD).is_file():
        raise _exists(target, "is there and is not, or no longer, what a fusion wrote")
    files = set(read_json(target / MANIFEST)["files"])
    more = sorted({path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()} - files)
    if read_json(target / RECORD).get("run") != run or [name for name in more if name != MANIFEST]:
        raise _exists(target, "holds what no fusion of this run wrote")


def _exists(target: Path, what: str) -> InputError:
    return InputError(Problem("fuse.exists", what, str(target), fix=f"move it away, or  -o {typed(f'{target}-2')}"))


def _adapter(job: Job) -> str:
    return sha256(job.run.adapter / WEIGHTS_FILE)
