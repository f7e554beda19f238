"""Arguments that several verbs share: a recipe or a data file, a model, and settings."""

import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from localtune import recipe
from localtune.errors import InputError, Problem
from localtune.model import Download
from localtune.recipe.shipped import shipped
from localtune.settings import is_hub_data

Command = TypeVar("Command", bound=Callable[..., Any])
_PATTERN = re.compile(r"[*?[]")


def recipe_arguments(*, required: bool = True) -> Callable[[Command], Command]:
    """SOURCE, -m, --set and --backend."""

    def decorate(command: Command) -> Command:
        for option in (
            click.option("--backend", help="What computes: auto, torch or mlx."),
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
    path = _recipe_file(source)
    if path is not None:
        flags += [f"model={json.dumps(model)}"] if model else []
        return recipe.load(path, [*overrides, *flags], os.environ, recipe.user_config())
    return recipe.from_data(source, model, [*overrides, *flags], os.environ, recipe.user_config())


def _recipe_file(source: str) -> Path | None:
    """The recipe that is meant, None for data; what is there wins over a shipped recipe of that name."""
    path = Path(os.path.expanduser(source))
    if path.suffix.lower() in (".yaml", ".yml") and os.path.isfile(path):
        return path
    if os.path.isfile(path / "recipe.yaml"):
        return path / "recipe.yaml"
    names = shipped()
    if source in names and not os.path.isfile(path):
        return names[source].path
    if os.path.exists(path) or _PATTERN.search(source) or is_hub_data(source):
        return None
    fix = "localtune recipes  lists those; localtune init DATA -m MODEL  writes one"
    what = "there is no such file or folder, and no recipe of that name comes with localtune"
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
