"""`localtune plan`: what a run would do, need and write."""

import click

from localtune.cli.options import confirm_download, read_recipe, recipe_arguments, to_json
from localtune.cli.show import plan_lines, report_lines
from localtune.errors import InputError, safe
from localtune.launch import check, compare_backends, make_ready
from localtune.portability import comparison, portability_lines
from localtune.recipe import Loaded


@click.command()
@recipe_arguments()
@click.option("--json", "as_json", is_flag=True, help="The plan as JSON.")
@click.option("--explain-backends", is_flag=True, help="Instead: what differs between the backends for this recipe.")
def plan(
    source: str,
    model: str | None,
    overrides: tuple[str, ...],
    backend: str | None,
    as_json: bool,
    explain_backends: bool,
) -> None:
    """Say what a run would do, need and write; exit 4 if it does not fit."""
    loaded = read_recipe(source, model, overrides, backend)
    if explain_backends:
        _explain(loaded, as_json)
        return
    ready = make_ready(loaded, confirm_download)
    if as_json:
        click.echo(to_json(ready.plan.to_json()))
    else:
        for line in [*report_lines(ready.prepared.report), *plan_lines(ready.plan, loaded.recipe)]:
            click.echo(line)
    check(ready)


def _explain(loaded: Loaded, as_json: bool) -> None:
    """Everything about the backends, then what no backend mends."""
    compared = compare_backends(loaded, confirm_download)
    if as_json:
        click.echo(to_json(comparison(loaded.recipe, compared.model, compared.sides)))
    else:
        for line in portability_lines(loaded.recipe, compared.model, compared.sides):
            click.echo(safe(line))
    if compared.problems:
        raise InputError(*compared.problems)
