"""`localtune runs diff`: what two runs were told differently, and what came of each."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import click

from localtune.cli.options import to_json
from localtune.errors import LocaltuneError, safe
from localtune.events import Evaluation, Step
from localtune.recipe import load
from localtune.runs.files import folder_size, read_json
from localtune.runs.folder import Run
from localtune.runs.store import find_run
from localtune.sizes import readable
from localtune.words import duration
from localtune.worked import seconds_worked

NONE = "—"


@dataclass(frozen=True)
class Difference:
    """One thing in which two runs differ."""

    key: str
    """Dotted setting, or the name of a figure."""
    first: Any
    second: Any
    first_text: str
    second_text: str


@click.command("diff")
@click.argument("first", metavar="RUN")
@click.argument("second", metavar="RUN")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def diff(first: str, second: str, as_json: bool) -> None:
    """Settings in which two runs differ, and what came of each."""
    runs = find_run(first), find_run(second)
    settings, figures, data = list(_settings(*runs)), list(_figures(*runs)), _data(*runs)
    if as_json:
        body = {"settings": [asdict(row) for row in settings], "figures": [asdict(row) for row in figures]}
        click.echo(to_json({"runs": [run.name for run in runs]} | body | {"data": data}))
        return
    rows = [("", runs[0].name, runs[1].name)]
    rows += [(row.key, row.first_text, row.second_text) for row in (*settings, *figures)]
    widths = [min(40, max(len(safe(row[column], 60)) for row in rows)) for column in (0, 1)]
    for key, left, right in rows:
        click.echo(f"{key:<{widths[0]}}  {safe(left, 60):<{widths[1]}}  {safe(right, 60)}".rstrip())
    click.echo(data if settings else f"the same recipe; {data}")


def _settings(first: Run, second: Run) -> Iterator[Difference]:
    left, right = (
        dict(_flat(load(run.resolved, environ={}, user_config=None).recipe.model_dump())) for run in (first, second)
    )
    for key in left | right:
        if key != "name" and left.get(key) != right.get(key):
            one, two = left.get(key), right.get(key)
            yield Difference(key, one, two, _text(one), _text(two))


def _flat(value: dict[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for key, inner in value.items():
        if isinstance(inner, dict) and inner:
            yield from _flat(inner, f"{before}{key}.")
        else:
            yield f"{before}{key}", inner


def _text(value: Any) -> str:
    if value is None:
        return NONE
    return f"{value:g}" if isinstance(value, float) else str(value)


def _figures(first: Run, second: Run) -> Iterator[Difference]:
    """What was measured, whether it differs or not."""
    for (name, one), (_, two) in zip(_measured(first), _measured(second), strict=True):
        yield Difference(name, one[0], two[0], one[1], two[1])


def _measured(run: Run) -> Iterator[tuple[str, tuple[Any, str]]]:
    """Name -> (value, text), the same names for every run."""
    best: Evaluation | None = None
    last: Step | None = None
    peak = 0
    for event, _ in run.read_events():
        if isinstance(event, Step):
            last, peak = event, max(peak, event.peak_bytes)
        elif isinstance(event, Evaluation) and event.split == "valid" and (best is None or event.loss < best.loss):
            best = event
    state = run.status().state
    yield "state", (state, state)
    yield "updates", (last.step, f"{last.step:,} of {last.steps:,}") if last else (None, NONE)
    yield "best val loss", (best.loss, f"{best.loss:.4g} at step {best.step:,}") if best else (None, NONE)
    took = seconds_worked(run.events)
    yield "time", (took, duration(took)) if took else (None, NONE)
    yield "memory peak", (peak, readable(peak)) if peak else (None, NONE)
    size = sum(folder_size(product) for product in run.products())
    yield "products", (size, readable(size)) if size else (None, NONE)


def _data(first: Run, second: Run) -> str:
    """Whether they learned from the same files, byte for byte."""
    try:
        one, two = (read_json(run.environment)["data"]["files"] for run in (first, second))
    except (LocaltuneError, KeyError, TypeError):
        return "which data they learned from is not known"
    if one == two:
        return "same data, byte for byte"
    if sorted(one.values()) == sorted(two.values()):
        return "same data under other names"
    return "other data"
