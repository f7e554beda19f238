"""`localtune run`: check, plan, start, follow."""

import sys

import click

from localtune.cli.follow import Viewer, ask_on_interrupt, exit_code, viewer
from localtune.cli.making import made
from localtune.cli.options import confirm_download, read_recipe, recipe_arguments, to_json
from localtune.cli.show import plan_lines, report_lines
from localtune.errors import InputError, Problem
from localtune.launch import check, create_run, make_ready, start
from localtune.runs import checkpoints
from localtune.runs.folder import ALIVE, Run
from localtune.runs.lock import owned
from localtune.runs.store import find_run
from localtune.typed import typed


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
        if any((source, model, overrides, backend, name)):
            what = "a resumed run keeps its recipe, model, settings and name"
            raise InputError(Problem("run.resume", what, fix=f"localtune run --resume {resume}"))
        chosen, offset = _resumable(find_run(resume))
    else:
        chosen, offset = _new(source, model, overrides, backend, name), 0
    start(chosen)
    if detach:
        click.echo(to_json({"run": chosen.name, "folder": str(chosen.folder)}) if as_json else chosen.name)
        return
    _follow(chosen, viewer(chosen, as_json=as_json, offset=offset), as_json)


def _new(
    source: str | None, model: str | None, overrides: tuple[str, ...], backend: str | None, name: str | None
) -> Run:
    ready = make_ready(read_recipe(source, model, overrides, backend, name), confirm_download)
    for line in [*report_lines(ready.prepared.report), *plan_lines(ready.plan, ready.loaded.recipe)]:
        _say(line)
    check(ready)
    return create_run(ready)


def _resumable(chosen: Run) -> tuple[Run, int]:
    state = chosen.status().state
    if state == "done":
        fix = f"localtune runs show {chosen.name}"
        raise InputError(Problem("run.done", "this run is done", where=chosen.name, fix=fix))
    if state in ALIVE:
        raise InputError(owned(chosen.folder, "a process"))
    found = checkpoints.newest(chosen)
    said = f"going on after update {found[0].step}" if found else "no checkpoint yet: starting again"
    _say(f"{chosen.name}: {said}")
    return chosen, found[0].events_offset if found else 0


def _follow(chosen: Run, shown: Viewer, as_json: bool) -> None:
    try:
        status = shown.to_the_end()
    except KeyboardInterrupt:
        if not ask_on_interrupt(chosen):
            return
        status = shown.to_the_end()
    if status.state == "done" and not as_json:
        _next(chosen)
    if status.state == "stopped":
        saved = checkpoints.steps(chosen)
        kept = f"with a checkpoint of update {saved[-1]}" if saved else "before its first checkpoint"
        _say(f"stopped {kept}; go on with  localtune run --resume {chosen.name}")
    sys.exit(exit_code(status))


def _next(chosen: Run) -> None:
    """Every product with its size, and what can be typed now."""
    products = chosen.products()
    for product in products:
        click.echo(made(product))
    files = [path for path in products if path.suffix == ".gguf" and not path.stem.endswith("-LoRA")]
    compare = f"localtune chat {chosen.name} --compare"
    further = typed("localtune", "chat", files[-1]) if files else f"localtune export {chosen.name} --gguf Q8_0"
    _say(f"next: {compare}   or   {further}")


def _say(text: str) -> None:
    click.echo(text, err=True)
