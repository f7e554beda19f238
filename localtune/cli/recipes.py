"""`localtune recipes`, `init` and `schema`: where a recipe comes from."""

import os
from pathlib import Path

import click

from localtune import recipe
from localtune.cli.options import to_json
from localtune.data.reading import find
from localtune.errors import InputError, Problem, safe
from localtune.recipe.shipped import shipped
from localtune.runs.files import write_bytes
from localtune.settings import is_hub_data
from localtune.typed import typed


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Name, path and title of each, as JSON.")
@click.pass_context
def recipes(ctx: click.Context, as_json: bool) -> None:
    """List and show the recipes that come with localtune."""
    if ctx.invoked_subcommand is not None:
        return
    if as_json:
        click.echo(to_json([{"name": r.name, "path": str(r.path), "title": r.title} for r in shipped().values()]))
        return
    for one in shipped().values():
        click.echo(f"{one.name:<18} {one.title}\n{'':<18} localtune run {one.name}")


@recipes.command()
@click.argument("name")
def show(name: str) -> None:
    """Print a recipe."""
    click.echo(_find(name).read_text(encoding="utf-8"), nl=False)


@recipes.command()
@click.argument("name")
def path(name: str) -> None:
    """Print where a recipe lies."""
    click.echo(_find(name))


def _find(name: str) -> Path:
    found = shipped()
    if name not in found:
        fix = f"one of {', '.join(found)}"
        raise InputError(Problem("recipe.unknown", f"no recipe is called {name!r}", fix=fix))
    return found[name].path


@click.command()
@click.argument("data")
@click.option("-m", "--model", required=True, help="Hub id or folder.")
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("recipe.yaml"), help="File to write.")
def init(data: str, model: str, output: Path) -> None:
    """Write a commented recipe for a file of examples, and the schema that editors check it with."""
    if output.exists():
        raise InputError(Problem("recipe.exists", "is there already", where=str(output), fix="-o another.yaml"))
    find(data, Path())
    rows = _seen_from(Path(data), output.parent) if os.path.exists(data) or not is_hub_data(data) else data
    named = _seen_from(Path(model), output.parent) if os.path.isdir(model) else model
    output.parent.mkdir(parents=True, exist_ok=True)
    schema_file = output.with_name("localtune.schema.json")
    fresh = (to_json(recipe.schema()) + "\n").encode("utf-8")
    if not schema_file.is_file() or schema_file.read_bytes() != fresh:
        write_bytes(schema_file, fresh)
    write_bytes(output, recipe.starter(rows, named).encode("utf-8"))  # last: it says that all is done
    further = typed("localtune", "plan", output)
    click.echo(f"wrote {safe(str(output))}, and {schema_file.name} for editors; next: {further}", err=True)


def _seen_from(path: Path, folder: Path) -> str:
    """`path` as a recipe in `folder` writes it: relative, or absolute where no way leads there (another drive)."""
    there = path.parent.resolve() / path.name
    try:
        written = Path(os.path.relpath(there, folder.resolve())).as_posix()
    except ValueError:
        return there.as_posix()
    return written if written.startswith(".") else f"./{written}"


@click.command()
@click.argument("what", type=click.Choice(["recipe"]), default="recipe")
def schema(what: str) -> None:
    """JSON Schema of a recipe, for editors."""
    click.echo(to_json(recipe.schema()))
