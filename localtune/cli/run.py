"""`localtune run`: check, plan, start, follow."""

import sys

import click

from localtune.cli.follow import ask_on_interrupt, exit_code, follow
from localtune.cli.options import confirm_download, read_recipe, recipe_arguments
from localtune.cli.show import plan_lines, report_lines
from localtune.errors import InputError, Problem
from localtune.launch import Ready, check, create_run, make_ready, start
from localtune.runs import checkpoints
from localtune.runs.folder import Run
from localtune.runs.store import find_run


@click.command()
@recipe_arguments(required=False)
@click.option("--name", help="Name of the run.")
@click.option("--resume", metavar="RUN", help="Go on with a run that stopped: its name, the beginning of it, or last.")
@click.option("--detach", is_flag=True, help="Return when the run is under way.")
@click.option("--json", "as_json", is_flag=True, help="Events as JSON lines on stdout.")
def run(
    source: str | None,
    model: str | None,
    overrides: tuple[str, ...],
    backend: str | None,
    name: str | None,
    resume: str | None,
    detach: bool,
    as_json: bool,
) -> None:
    """Train from a RECIPE, or from a file of examples and a model."""
    if resume is not None:
        if source or overrides or model:
            fix = f"localtune run --resume {resume}"
            raise InputError(Problem("run.resume", "a resumed run keeps its recipe, model and settings", fix=fix))
        chosen, offset = _resumable(find_run(resume))
    else:
        chosen, offset = _new(source, model, overrides, backend, name), 0
    start(chosen)
    if detach:
        click.echo(chosen.name if not as_json else f'{{"run": "{chosen.name}", "folder": "{chosen.folder}"}}')
        return
    _follow_to_the_end(chosen, as_json, offset)


def _new(
    source: str | None, model: str | None, overrides: tuple[str, ...], backend: str | None, name: str | None
) -> Run:
    loaded = read_recipe(source, model, overrides, backend, name)
    ready = make_ready(loaded, confirm_download)
    _tell(ready)
    check(ready)
    return create_run(ready)


def _resumable(chosen: Run) -> tuple[Run, int]:
    state = chosen.status().state
    if state == "done":
        fix = f"localtune runs show {chosen.name}"
        raise InputError(Problem("run.done", "this run is done", where=chosen.name, fix=fix))
    found = checkpoints.latest(chosen)
    said = f"going on after update {found[0].step}" if found else "no checkpoint yet: starting again"
    _say(f"{chosen.name}: {said}")
    return chosen, found[0].events_offset if found else 0


def _follow_to_the_end(chosen: Run, as_json: bool, offset: int) -> None:
    try:
        status = follow(chosen, as_json=as_json, offset=offset)
    except KeyboardInterrupt:
        if not ask_on_interrupt(chosen):
            return
        status = follow(chosen, as_json=as_json, offset=chosen.events.stat().st_size)
    if status.state == "done" and not as_json:
        _next(chosen)
    if status.state == "stopped":
        _say(f"stopped with a checkpoint; go on with  localtune run --resume {chosen.name}")
    sys.exit(exit_code(status))


def _tell(ready: Ready) -> None:
    for line in [*report_lines(ready.prepared.report), *plan_lines(ready.plan, ready.loaded.recipe)]:
        _say(line)


def _next(chosen: Run) -> None:
    product = chosen.adapter if chosen.adapter.exists() else chosen.model
    size = sum(path.stat().st_size for path in product.iterdir())
    click.echo(f"{product}  {size / 1e6:.1f} MB")
    _say(f"next: localtune runs show {chosen.name}")


def _say(text: str) -> None:
    click.echo(text, err=True)
