"""`localtune plan`: what a run would do, need and write."""

from collections.abc import Callable
from typing import Any

import click

from localtune.cli.options import confirm_download, read_recipe, recipe_arguments, to_json
from localtune.cli.show import plan_lines, report_lines
from localtune.errors import InputError, safe
from localtune.launch import Ready, check, compare_backends, free_disk, make_ready
from localtune.model import Download
from localtune.portability import comparison, portability_lines
from localtune.recipe import Loaded
from localtune.runs.store import free_path


@click.command()
@recipe_arguments()
@click.option("--no-download", is_flag=True, help="Where the model is not here, say what it would take and exit 3.")
@click.option("--json", "as_json", is_flag=True, help="The plan as JSON, with the model, the data and free disk.")
@click.option("--explain-backends", is_flag=True, help="Instead: what differs between the backends for this recipe.")
def plan(
    source: str,
    model: str | None,
    overrides: tuple[str, ...],
    backend: str | None,
    no_download: bool,
    as_json: bool,
    explain_backends: bool,
) -> None:
    """Say what a run would do, need and write; exit 4 if it does not fit."""
    loaded = read_recipe(source, model, overrides, backend)
    confirm = _decline if no_download else confirm_download
    if explain_backends:
        _explain(loaded, confirm, as_json)
        return
    ready = make_ready(loaded, confirm)
    if as_json:
        click.echo(to_json(_as_json(ready)))
    else:
        for line in [*report_lines(ready.prepared.report), *plan_lines(ready.plan, loaded.recipe)]:
            click.echo(line)
    check(ready)


def _decline(download: Download) -> bool:
    """Download nothing; the error that follows names the size."""
    return False


def _as_json(ready: Ready) -> dict[str, Any]:
    """The plan as `plan.json` holds it, and beside it what of the model, the data and this machine it rests on."""
    model, report = ready.model, ready.prepared.report
    return ready.plan.to_json() | {
        "name": ready.loaded.name,
        "model": {"name": model.name, "revision": model.revision, "size": model.size},
        "report": report.to_json(),
        "run": str(free_path(ready.loaded.name)),
        "disk_free": free_disk(),
    }


def _explain(loaded: Loaded, confirm: Callable[[Download], bool], as_json: bool) -> None:
    """Everything about the backends, then what no backend mends."""
    compared = compare_backends(loaded, confirm)
    if as_json:
        click.echo(to_json(comparison(loaded.recipe, compared.model, compared.sides)))
    else:
        for line in portability_lines(loaded.recipe, compared.model, compared.sides):
            click.echo(safe(line))
    if compared.problems:
        raise InputError(*compared.problems)
