"""`localtune plan`: what a run would do, need and write."""

import click

from localtune.cli.options import confirm_download, read_recipe, recipe_arguments, to_json
from localtune.cli.show import plan_lines, report_lines
from localtune.launch import check, make_ready


@click.command()
@recipe_arguments()
@click.option("--json", "as_json", is_flag=True, help="The plan as JSON.")
def plan(source: str, model: str | None, overrides: tuple[str, ...], backend: str | None, as_json: bool) -> None:
    """Say what a run would do, need and write; exit 4 if it does not fit."""
    loaded = read_recipe(source, model, overrides, backend)
    ready = make_ready(loaded, confirm_download)
    if as_json:
        click.echo(to_json(ready.plan.to_json()))
    else:
        for line in [*report_lines(ready.prepared.report), *plan_lines(ready.plan, loaded.recipe)]:
            click.echo(line)
    check(ready)
