"""Arguments that several verbs share: a recipe or a data file, a model, and settings."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from localtune import recipe
from localtune.errors import InputError, Problem
from localtune.model import Download
from localtune.recipe.shipped import shipped

Command = TypeVar("Command", bound=Callable[..., Any])


def recipe_arguments(*, required: bool = True) -> Callable[[Command], Command]:
    """SOURCE, -m, --set and --backend."""

    def decorate(command: Command) -> Command:
        for option in (
            click.option("--backend", help="What computes: auto or torch."),
            click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="A setting: train.epochs=1."),
            click.option("-m", "--model", help="Hub id or folder; wins over the recipe's."),
            click.argument("source", metavar="RECIPE|DATA", required=required),
        ):
            command = option(command)
        return command

    return decorate


def read_recipe(
    source: str | None, model: str | None, overrides: tuple[str, ...], backend: str | None, name: str | None = None
) -> recipe.Loaded:
    """The recipe a command line asks for: SOURCE is a recipe or its folder, a shipped one's name, or a data file."""
    if source is None:
        raise InputError(Problem("recipe.missing", "no recipe or data file was named", fix="localtune recipes"))
    flags = [f"{key}={json.dumps(value)}" for key, value in (("backend", backend), ("name", name)) if value]
    path = _find(source)
    if path.suffix.lower() in (".yaml", ".yml"):
        flags += [f"model={json.dumps(model)}"] if model else []
        return recipe.load(path, [*overrides, *flags], os.environ, recipe.user_config())
    return recipe.from_data(path, model, [*overrides, *flags], os.environ, recipe.user_config())


def _find(source: str) -> Path:
    """The file that is meant; one that is there wins over a shipped recipe of that name."""
    path = Path(os.path.expanduser(source))
    for file in (path, path / "recipe.yaml"):
        if os.path.isfile(file):
            return file
    names = shipped()
    if source in names:
        return names[source].path
    there = "is a folder without a recipe.yaml" if os.path.isdir(path) else "there is no such file or folder"
    fix = "localtune recipes  lists those; localtune init DATA -m MODEL  writes one"
    what = f"{there}, and no recipe of that name comes with localtune"
    raise InputError(Problem("recipe.not-found", what, source, fix=fix))


def to_json(value: object) -> str:
    """A result for a program."""
    return json.dumps(value, indent=2)


def confirm_download(download: Download) -> bool:
    """Say what would be downloaded; ask where there is somebody to ask, else go ahead."""
    what = f"{download.name} is not here yet: {download.files} files, {download.size / 1e9:.2f} GB to download"
    if not sys.stdin.isatty():
        click.echo(what, err=True)
        return True
    return click.confirm(f"{what}; download?", default=True, err=True)
