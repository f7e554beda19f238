"""The adapter of a run in the base's own weights: a complete model folder, compared with what was trained."""

import time
from collections.abc import Generator
from pathlib import Path

from localtune import __version__
from localtune.adapter import WEIGHTS_FILE, Full
from localtune.errors import InputError, Problem
from localtune.events import Event, Phase, Product, Warn
from localtune.fuse import fuse
from localtune.job import Job, changes_since, unfinished, versions
from localtune.model import ModelFiles, resolve
from localtune.modelcard import model_card, stated_licence
from localtune.products import PROOF, event_of, failure, set_aside, shown
from localtune.products.source import reference_of, with_weights
from localtune.proof import Proof, prove_weights
from localtune.reference import FILE, write
from localtune.runs.files import folder_size, is_complete, new_folder, read_json, sha256, write_json


def fused(job: Job, folder: Path | None = None, *, check: bool = True) -> Generator[Event, None, Path]:
    """The folder of the fused model; one that is there and passed is kept.

    Raises `InputError` when there is nothing to fuse or the base is not the one that was trained on, `RunFailed` when
    the result does not say what the trained model said.
    """
    target = folder or job.run.fused
    _can_be_fused(job)
    if _is_current(job, target):
        return target
    if target.exists() and not (target / PROOF).is_file():
        raise InputError(Problem("fuse.exists", "is there already and is no fused model", str(target), fix="-o OTHER"))
    changes_since(job)
    yield Phase("fusing", f"the adapter of {job.run.name} into {job.model.name}")
    reference = yield from reference_of(job)
    began, proof = time.monotonic(), None
    with new_folder(target) as temporary:
        made = fuse(job.model, job.run.adapter, temporary)
        seconds, size = time.monotonic() - began, folder_size(temporary)
        if check:
            yield Phase("proving", f"the fused weights at {len(reference.places.row)} positions")
            began = time.monotonic()
            model = resolve(str(temporary), temporary, offline=True)
            reference = yield from with_weights(reference, model, job.plan.device.backend)
            if "weights" in reference.said:
                write(reference, temporary / FILE)
                proof = prove_weights(target.name, reference, began)
        (temporary / "README.md").write_text(_card(job, proof), encoding="utf-8")
        proven = proof.to_json() if proof else {"passed": None}
        write_json(temporary / PROOF, {"adapter": _adapter(job), "modules": made.modules} | proven)
    if proof is not None and not proof.passed:
        aside = target.with_name(f"{target.name}.failed")
        set_aside(target, aside)
        yield event_of(proof)
        raise failure(proof, aside, aside / PROOF)
    yield Product("fused", shown(target, job.run), size, seconds)
    if proof is not None:
        yield event_of(proof)
    return target


def fused_adapter(adapter: Path, model: ModelFiles, folder: Path) -> Generator[Event, None, Path]:
    """Any PEFT adapter in the weights of `model`; nothing is known of what it said when it was trained.

    Raises `InputError` when the two do not belong together or `folder` is there already.
    """
    if folder.exists():
        raise InputError(Problem("fuse.exists", "is there already", str(folder), fix="-o OTHER"))
    began = time.monotonic()
    yield Phase("fusing", f"{adapter.name} into {model.name}")
    with new_folder(folder) as temporary:
        made = fuse(model, adapter, temporary)
        settings = {"adapted modules": len(made.modules), "largest relative change": made.largest_change}
        card = model_card(
            name=folder.name,
            base=model.name,
            revision=model.revision,
            method="LoRA",
            licence=stated_licence(model.folder),
            recipe=settings,
            measured={},
            versions={"localtune": __version__},
        )
        (temporary / "README.md").write_text(card, encoding="utf-8")
        size = folder_size(temporary)
    yield Product("fused", str(folder), size, time.monotonic() - began)
    yield Warn("proof.unknown", "not compared with its training, of which nothing is known here")
    return folder


def _can_be_fused(job: Job) -> None:
    if isinstance(job.trainable, Full):
        fix = f"localtune export {job.run.name} --gguf Q8_0"
        what = "every weight was trained: there is no adapter to fuse, the product is whole"
        raise InputError(Problem("fuse.full", what, str(job.run.model), fix=fix))
    if not is_complete(job.run.adapter, verify=True):
        raise unfinished(job.run)


def _is_current(job: Job, target: Path) -> bool:
    """Whether `target` was made from the adapter as it is now, and passed."""
    if not is_complete(target, verify=True) or not (target / PROOF).is_file():
        return False
    made = read_json(target / PROOF)
    return made.get("adapter") == _adapter(job) and made.get("passed") is True


def _card(job: Job, proof: Proof | None) -> str:
    recipe, train = job.recipe, job.recipe.train
    lora = f"rank {recipe.lora.rank}, alpha {recipe.lora.alpha:g}, {recipe.lora.targets}"
    settings = {
        "rows": job.plan.train_rows,
        "updates": job.plan.schedule.steps,
        "batch size": train.batch_size,
        "learning rate": job.plan.schedule.peak,
        "learned": train.learn,
        "adapter": lora,
        "seed": train.seed,
    }
    losses = {f"loss of the {who} model": value for who, value in proof.losses.items()} if proof else {}
    return model_card(
        name=recipe.name or "tuned",
        base=job.model.name,
        revision=job.model.revision,
        method={"lora": "LoRA", "qlora": "QLoRA", "full": "full fine-tuning"}[train.method],
        licence=stated_licence(job.model.folder),
        recipe=settings,
        measured=losses,
        versions=versions(job.plan.device.backend),
    )


def _adapter(job: Job) -> str:
    return sha256(job.run.adapter / WEIGHTS_FILE)
