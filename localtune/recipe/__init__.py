"""A recipe, loaded: every setting with its value and where it came from, or all that is wrong with it at once.

Precedence: `--set` > `LOCALTUNE_<SECTION>_<KEY>` > recipe file > user configuration > default. A relative path counts
from where it was written: the file's folder, or the working directory for flags and environment variables; one that
begins with `~` counts from a home folder.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from localtune.errors import InputError, Problem
from localtune.recipe.layers import Given, Layer, from_environment, from_file, from_flag
from localtune.recipe.problems import first_problems, in_words
from localtune.recipe.words import fields as fields
from localtune.recipe.words import schema as schema
from localtune.recipe.words import sections
from localtune.recipe.words import settings_table as settings_table
from localtune.recipe.yaml import write_value
from localtune.settings import Recipe as Recipe

COMMAND_LINE = "the command line"
_STEM = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Loaded:
    """A recipe and where it is from."""

    recipe: Recipe
    """Every setting; `name` is always given."""
    base: Path
    """Absolute folder that the recipe's relative paths count from."""
    text: str
    """The recipe as given."""
    sources: Mapping[str, str]
    """Dotted key -> "recipe.yaml:14:3", "--set train.epochs=1", "LOCALTUNE_MODEL" or "default", for every setting."""

    @property
    def name(self) -> str:
        """Of the run: as given, or made from the file's name."""
        return self.recipe.name or "run"


def load(
    path: Path,
    overrides: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
    user_config: Path | None = None,
) -> Loaded:
    """The recipe in the file `path`; `overrides` are KEY=VALUE, `environ` defaults to the process's.

    A `user_config` that does not exist is no error. Raises one `InputError` holding every problem found.
    """
    own = from_file(path)
    named = Layer({"name": Given(safe_name(path.stem), "the file's name", path.parent)})
    layers = [named, _own(user_config), own, from_environment(os.environ if environ is None else environ)]
    return _combine([*layers, *map(from_flag, overrides)], path.parent.absolute(), path.name, own.text)


def from_data(
    data: str,
    model: str | None = None,
    overrides: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
    user_config: Path | None = None,
) -> Loaded:
    """The recipe of `localtune run DATA -m MODEL`: everything else is default; named after the data.

    Raises `InputError` like `load`. Paths count from the working directory.
    """
    name = safe_name(Path(data).stem)
    flags = {"data.train": data} | ({"model": model} if model is not None else {})
    given = Layer({key: Given(value, COMMAND_LINE, Path.cwd()) for key, value in flags.items()})
    named = Layer({"name": Given(name, "the file's name", Path.cwd())})
    layers = [named, _own(user_config), from_environment(os.environ if environ is None else environ), given]
    text = _write({"name": name, **({"model": model} if model is not None else {}), "data": {"train": data}})
    return _combine([*layers, *map(from_flag, overrides)], Path.cwd(), COMMAND_LINE, text)


def dump(recipe: Recipe) -> str:
    """YAML with every setting; `load` reads it back to an equal recipe."""
    return _write(recipe.model_dump())


def starter(data: str, model: str) -> str:
    """The commented recipe of `localtune init`: every setting at its default, with its sentence."""
    given = {"data.train": data, "model": model, "name": safe_name(Path(data).stem)}
    lines = ["# yaml-language-server: $schema=./localtune.schema.json"]
    section = ""
    for setting in fields():
        group, _, name = setting.key.rpartition(".")
        if group != section:
            lines += [""] if "." not in group else []
            lines += _commented(f"{'  ' * group.count('.')}{group.rpartition('.')[2]}:", sections()[group])
            section = group
        choices = f"   {' | '.join(map(str, setting.schema['enum']))}" if "enum" in setting.schema else ""
        line = f"{'  ' * setting.key.count('.')}{name}: {write_value(given.get(setting.key, setting.default))}"
        lines += _commented(line, setting.sentence, choices)
    return "\n".join(lines) + "\n"


def user_config() -> Path:
    """Where this user's own defaults lie; the file need not exist."""
    from platformdirs import user_config_path

    return user_config_path("localtune", appauthor=False) / "config.yaml"


def safe_name(stem: str) -> str:
    """A run's name made of a file's: letters, digits, dot, dash and underscore, at most 64."""
    return _STEM.sub("-", stem).lstrip("._-")[:64].rstrip(".-") or "run"


def _own(user_config: Path | None) -> Layer:
    return from_file(user_config) if user_config is not None and user_config.exists() else Layer({})


def _combine(layers: Sequence[Layer], folder: Path, file: str, text: str) -> Loaded:
    """One recipe of all layers, lowest precedence first."""
    given: dict[str, Given] = {}
    problems: list[Problem] = []
    for layer in layers:
        given |= {key: value for key, value in layer.given.items() if key != "name" or value.value is not None}
        problems += layer.problems
    recipe = _validate(given, folder, file, problems)
    sources = {setting.key: given[setting.key].where() if setting.key in given else "default" for setting in fields()}
    return Loaded(recipe, folder, text, sources)


def _validate(given: Mapping[str, Given], folder: Path, file: str, found: list[Problem]) -> Recipe:
    tree: dict[str, Any] = {"data": {}}
    for key, value in given.items():
        *groups, name = key.split(".")
        node = tree
        for group in groups:
            node = node.setdefault(group, {})
        node[name] = value.seen_from(folder, key)
    try:
        recipe = Recipe.model_validate(tree)
    except ValidationError as error:
        found += in_words(error, given, file)
    if found:
        raise InputError(*first_problems(found))
    return recipe


def _commented(line: str, comment: str, choices: str = "") -> list[str]:
    """The comment beside the line, or above it where both are too long for one, choices below the comment then."""
    beside = f"{line:<32}  # {comment}{choices}"
    indent = line[: len(line) - len(line.lstrip())]
    above = [f"{indent}# {comment}{choices}"]
    if len(above[0]) > 120:
        above = [f"{indent}# {comment}", f"{indent}#{choices}"]
    return [beside] if len(beside) <= 120 else [*above, line]


def _write(tree: Mapping[str, Any]) -> str:
    return "".join(_lines(tree, ""))


def _lines(tree: Mapping[str, Any], prefix: str) -> Iterator[str]:
    indent = "  " * prefix.count(".")
    for name, value in tree.items():
        if prefix + name in sections():
            yield f"{indent}{name}:\n"
            yield from _lines(value, f"{prefix}{name}.")
        else:
            yield f"{indent}{name}: {write_value(value)}\n"
