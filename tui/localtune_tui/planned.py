"""A plan as the New screen says it: lines with their weight, made of what `localtune plan --json` answers.

Counts and sizes are those of the plan; nothing is estimated here.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from localtune.settings import Recipe
from localtune.sizes import readable
from localtune_tui.amounts import bar

Weight = Literal["", "good", "bad", "caution", "quiet"]
METHODS = {"lora": "LoRA", "qlora": "QLoRA", "full": "every weight"}


@dataclass(frozen=True)
class Said:
    """One line, and the class it is painted with."""

    text: str
    weight: Weight = ""


def plan_said(plan: Mapping[str, Any], recipe: Recipe, *, ascii_only: bool = False) -> Iterator[Said]:
    """What a run would do, need and write."""
    yield Said(_trained(plan, recipe))
    times = "x" if ascii_only else "×"
    epochs = f"{plan['epochs']:.3g} epoch{'' if plan['epochs'] == 1 else 's'}"
    steps, rows = plan["schedule"]["steps"], plan["train_rows"]
    yield Said(
        f"{steps:,} step{'' if steps == 1 else 's'} = {epochs} {times} {rows:,} rows / batch {plan['batch_size']}"
    )
    tests = f", {plan['test_rows']:,} to test" if plan["test_rows"] else ""
    yield Said(f"held out {plan['valid_rows']:,} rows to validate{tests}")
    yield _memory(plan, ascii_only)
    room, free = plan["disk"], plan.get("disk_free")
    spare = f", {readable(free)} free" if free is not None else ""
    yield Said(f"disk    {readable(room)} at most{spare}", "bad" if free is not None and room > free else "")
    if plan["products"]:
        yield Said(f"then    {', '.join(item['name'] for item in plan['products'])}, and the proof of it")
    yield Said(f"on      {plan['device']['name']}, {plan['device']['backend']}")
    if "run" in plan:
        yield Said(f"writes  {from_home(plan['run'])}")
    yield from _cautions(plan)


def data_said(plan: Mapping[str, Any]) -> str:
    """The data on a line."""
    report = plan["report"]
    share = plan["learned"] / max(plan["tokens"], 1)
    return f"{plan['train_rows']:,} rows · {report['shape']} · {plan['tokens']:,} tokens, {share:.0%} learned"


def model_said(plan: Mapping[str, Any]) -> str:
    """The model on a line."""
    return f"{plan['parameters'] / 1e6:,.1f} M parameters · {readable(plan['model']['size'])}"


def from_home(path: str) -> str:
    """`path` with `~` for the home folder."""
    home = str(Path.home())
    return f"~{path[len(home) :]}" if path.startswith(home + os.sep) else path


def _trained(plan: Mapping[str, Any], recipe: Recipe) -> str:
    train, lora = recipe.train, recipe.lora
    rank = "" if train.method == "full" else f" · rank {lora.rank}"
    share = plan["trainable"] / max(plan["parameters"], 1)
    stored = f" {plan['precision']['storage']}" if train.method == "qlora" else ""
    return f"{METHODS[train.method]}{stored}{rank} · {plan['trainable']:,} weights train ({share:.1%})"


def _memory(plan: Mapping[str, Any], ascii_only: bool) -> Said:
    needed, limit = plan["memory_needed"], plan["memory_limit"]
    fits = needed <= limit
    share = bar(needed / max(limit, 1), 12, ascii_only=ascii_only)
    verdict = "fits" if fits else "DOES NOT FIT"
    return Said(f"memory  {share} {readable(needed)} of {readable(limit)}: {verdict}", "good" if fits else "bad")


def _cautions(plan: Mapping[str, Any]) -> Iterator[Said]:
    report = plan.get("report")
    if plan["cut"]:
        yield Said(f"! {plan['cut']:,} rows are too long and will be cut", "caution")
    if plan["dropped"]:
        yield Said(f"! {plan['dropped']:,} rows are too long and will be left out", "caution")
    if not report:
        return
    skipped = sum(loss["skipped"] for loss in report["losses"])
    if skipped:
        yield Said(f"! {skipped:,} rows cannot be used and will be skipped", "caution")
    for note in report["notes"]:
        yield Said(f"note: {note}", "quiet")
