"""The model card of a run's adapter, fused model or GGUF files, and what of its data others may know."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from localtune.adapter import Full
from localtune.errors import InputError
from localtune.export.identity import DataSet
from localtune.job import Job, versions
from localtune.modelcard import Kind, model_card, stated_licence
from localtune.proof import Proof
from localtune.runs.files import read_json
from localtune.sizes import readable

METHODS = {"lora": "LoRA", "qlora": "QLoRA", "full": "training of every weight"}
LOSSES = {"base": "loss of the base", "tuned": "loss while training ended", "weights": "loss of this model"}
"""What is measured at the compared positions, by who says it."""
_SPLIT = re.compile(r"([\w.-]+/[\w.-]+):[\w.-]+/[\w.\[\]%:-]+")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def card_of(job: Job, proof: Proof | None, kind: Kind = "fused", *, checks: Mapping[str, Any] | None = None) -> str:
    """The card: counts of the data, settings, losses and versions; no rows, no paths.

    `checks` is the record beside a product (proof.json) where there is no `proof` at hand.
    """
    recipe, train = job.recipe, job.recipe.train
    settings = {
        "rows": job.plan.train_rows,
        "updates": job.plan.schedule.steps,
        "batch size": train.batch_size,
        "learning rate": job.plan.schedule.peak,
        "learned": train.learn,
        "adapter": f"rank {recipe.lora.rank}, alpha {recipe.lora.alpha:g}, {recipe.lora.targets}",
        "seed": train.seed,
    }
    full = isinstance(job.trainable, Full)
    record = proof.to_json() if proof else dict(checks or {})
    found, files = _compared(record)
    return model_card(
        name=recipe.name or "tuned",
        base=job.model.name,
        revision=job.model.revision,
        method=METHODS[train.method],
        licence=stated_licence(job.model.folder),
        recipe={key: value for key, value in settings.items() if not (full and key == "adapter")},
        measured=_evaluated(job) | _losses(record),
        versions=versions(job.plan.device.backend),
        kind=kind,
        data=_counts(job),
        datasets=[data.name for data in datasets_of(job) if data.hub],
        proof=found,
        files=files,
        tags=("sft", "localtune") if full else ("lora", "sft", "localtune"),
    )


def datasets_of(job: Job) -> tuple[DataSet, ...]:
    """The files and data sets of the hub that were read, each once; rows are told where all of them are of one."""
    report, found = job.prepared.report, dict[str, DataSet]()
    for name, revision in zip(report.files, report.hashes, strict=False):
        match = _SPLIT.fullmatch(name)
        if match and _COMMIT.fullmatch(revision):
            found.setdefault(match[1], DataSet(match[1], None, True, revision))
        else:
            found.setdefault(DataSet(name).title, DataSet(DataSet(name).title))
    if len(found) == 1:
        only = next(iter(found.values()))
        return (DataSet(only.name, job.plan.train_rows, only.hub, only.revision),)
    return tuple(found.values())


def _counts(job: Job) -> dict[str, object]:
    """Rows in use by what they are for, and the names of what was read."""
    report = job.prepared.report
    parts = {"training rows": report.train, "validation rows": report.valid, "test rows": report.test}
    counts: dict[str, object] = {name: part.rows for name, part in parts.items() if part.rows}
    return counts | {"tokens": report.train.tokens, "read from": [data.title for data in datasets_of(job)]}


def _evaluated(job: Job) -> dict[str, object]:
    """The last figures of base and tuned model on validation and test rows; empty where none were measured."""
    try:
        record = read_json(job.run.evaluation)
    except InputError:
        return {}
    found: dict[str, object] = {}
    for who in ("base", "tuned"):
        for figure in record.get(who, []):
            if figure.get("measure") == "loss" and figure.get("loss") is not None:
                found[f"{figure['split']} loss, {who}"] = figure["loss"]
            elif figure.get("measure") == "exact match" and not figure.get("group"):
                found[f"exact answers, {who}"] = f"{figure['exact']} of {figure['rows']}"
    return found


def _losses(record: Mapping[str, Any]) -> dict[str, object]:
    """What was measured at the compared positions, of a product or of every GGUF beside `record`."""
    found: dict[str, object] = {}
    for entry in (record, *_files(record).values()):
        for who, loss in entry.get("losses", {}).items():
            found[LOSSES.get(who, f"loss of the {who} file")] = loss
    return found


def _compared(record: Mapping[str, Any]) -> tuple[dict[str, object], dict[str, object]]:
    """The checks of a product, or of every GGUF beside `record`, and the sizes and verdicts of those files."""
    files: dict[str, object] = {}
    checks: dict[str, object] = {check["name"]: _said(check) for check in record.get("checks", [])}
    for name, entry in _files(record).items():
        files[name] = f"{readable(entry['size'])}, {_verdict(entry['passed'])}, sha256 {entry['sha256']}"
        checks |= {f"{check['name']} of {name}": _said(check) for check in entry.get("checks", [])}
    return checks, files


def _files(record: Mapping[str, Any]) -> dict[str, Any]:
    """Its files but those that failed their proof, which go to nobody."""
    return {name: entry for name, entry in record.get("files", {}).items() if entry["passed"] is not False}


def _said(check: Mapping[str, Any]) -> str:
    """The text of a check that failed may quote a row, which is nobody else's business."""
    verdict = _verdict(check["passed"])
    return verdict if check["passed"] is False else f"{verdict}: {check['text']}"


def _verdict(passed: bool | None) -> str:
    return {True: "passed", False: "failed", None: "not verified"}[passed]


def record_of(folder: Path, name: str) -> dict[str, Any]:
    """The record `name` in a product's folder; empty where it has none that is one."""
    try:
        record = read_json(folder / name)
        _compared(record), _losses(record)
    except (InputError, AttributeError, KeyError, TypeError):
        return {}
    return record
