"""`localtune recipes`, `init` and `schema`: where a recipe comes from."""

from collections.abc import Iterator
from importlib.resources import as_file, files
from pathlib import Path

import click

from localtune import recipe
from localtune.cli.options import to_json
from localtune.errors import InputError, Problem
from localtune.runs.files import write_bytes


def folder() -> Path:
    """The shipped recipes: in the package when installed, beside it in a checkout."""
    with as_file(files("localtune") / "recipes") as packaged:
        return packaged if packaged.is_dir() else Path(__file__).parents[2] / "recipes"


def shipped() -> Iterator[tuple[str, Path]]:
    """Name and path of each recipe; quickstart/recipe.yaml is called quickstart."""
    for path in sorted(folder().rglob("*.yaml")):
        parts = path.relative_to(folder()).with_suffix("").parts
        yield "/".join(parts).removesuffix("/recipe"), path


@click.group(invoke_without_command=True)
@click.pass_context
def recipes(ctx: click.Context) -> None:
    """List and show the recipes that come with localtune."""
    if ctx.invoked_subcommand is None:
        for name, path in shipped():
            first = path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
            click.echo(f"{name:<18} {first}\n{'':<18} localtune run {path}")


@recipes.command()
@click.argument("name")
def show(name: str) -> None:
    """Print a recipe."""
    click.echo(_find(name).read_text(encoding="utf-8"), nl=False)


@recipes.command()
@click.argument("name")
def path(name: str) -> None:
    """Print where a recipe lies, to run it."""
    click.echo(_find(name))


def _find(name: str) -> Path:
    found = dict(shipped())
    if name not in found:
        fix = f"one of {', '.join(found)}"
        raise InputError(Problem("recipe.unknown", f"no recipe is called {name!r}", fix=fix))
    return found[name]


@click.command()
@click.argument("data", type=click.Path(path_type=Path))
@click.option("-m", "--model", required=True, help="Hub id or folder.")
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("recipe.yaml"), help="File to write.")
def init(data: Path, model: str, output: Path) -> None:
    """Write a commented recipe for a file of examples, and the schema that editors check it with."""
    if output.exists():
        raise InputError(Problem("recipe.exists", "is there already", where=str(output), fix="-o another.yaml"))
    schema_file = output.with_name("localtune.schema.json")
    write_bytes(output, recipe.starter(str(data), model).encode("utf-8"))
    write_bytes(schema_file, (to_json(recipe.schema()) + "\n").encode("utf-8"))
    click.echo(f"wrote {output}, and {schema_file.name} for editors; next: localtune plan {output}", err=True)


@click.command()
@click.argument("what", type=click.Choice(["recipe"]), default="recipe")
def schema(what: str) -> None:
    """JSON Schema of a recipe, for editors."""
    click.echo(to_json(recipe.schema()))
