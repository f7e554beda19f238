"""Settings as a file, the environment or one `--set` gives them; unknown names are refused with the nearest known.

A layer is flat: dotted key -> value and place. Layers are laid over each other, later ones winning, and only then
checked against the declarations.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from localtune.errors import InputError, Problem
from localtune.recipe.problems import FIX, first_problems, shown
from localtune.recipe.words import fields, sections
from localtune.recipe.yaml import LIMIT, Document, read, read_value
from localtune.recipe.yaml import Path as Keys
from localtune.settings import NOT_PATHS, PATH_SETTINGS, is_hub_data

ENVIRONMENT = "LOCALTUNE_"


@dataclass(frozen=True)
class Given:
    """A value somebody wrote, and where."""

    value: Any
    source: str | Document
    """The document that holds it, or the words for what else does."""
    base: Path
    """Folder that a relative path counts from."""
    path: Keys = ()
    """In the document."""

    def where(self, inner: Keys = (), *, key: bool = False) -> str:
        """`file:line:column` of the value, or of what lies at `inner` within it."""
        return self.source if isinstance(self.source, str) else self.source.where((*self.path, *inner), key=key)

    def seen_from(self, folder: Path, key: str) -> Any:
        """The value; of a path `~` is expanded, and it is made absolute unless it already counts from `folder`."""
        if key not in PATH_SETTINGS:
            return self.value
        if isinstance(self.value, list):
            return [self._path(entry, folder, key) for entry in self.value]
        return self._path(self.value, folder, key)

    def _path(self, value: Any, folder: Path, key: str) -> Any:
        if not isinstance(value, str) or value in ("", *NOT_PATHS):
            return value
        path = _from_home(value)
        if self.base.absolute() == folder or os.path.isabs(path):
            return path
        moved = str(self.base.absolute() / path)
        hub_id = not path.startswith(".") if key == "model" else is_hub_data(path)
        return path if hub_id and not os.path.exists(moved) else moved


@dataclass(frozen=True)
class Layer:
    """What one source gives."""

    given: dict[str, Given]
    problems: tuple[Problem, ...] = ()
    text: str = ""
    """The file's content."""


def from_file(path: Path) -> Layer:
    """The settings of a YAML file. Raises `InputError` when it cannot be read at all."""
    content = _content(path)
    return _layer(read(content, path.name), path.parent, content.decode("utf-8-sig"))


def from_environment(environ: Mapping[str, str]) -> Layer:
    """Every setting with a `LOCALTUNE_<SECTION>_<KEY>`; empty ones count as unset, other names are not settings."""
    names = {_variable(setting.key): setting.key for setting in fields()}
    starts = tuple(_variable(section) + "_" for section in sections())
    given: dict[str, Given] = {}
    problems: list[Problem] = []
    for name, text in environ.items():
        if name in names and text:
            try:
                value = read_value(text, name).value
            except InputError as error:
                problems += error.problems
            else:
                given[names[name]] = Given(value, name, Path.cwd())
        elif name.startswith(starts) and name not in names:
            near = get_close_matches(name, names, 1)
            fix = f"did you mean {near[0]}?" if near else FIX
            problems.append(Problem("recipe.unknown-key", "is not a setting", name, fix=fix))
    return Layer(given, tuple(problems))


def from_flag(override: str) -> Layer:
    """The settings of one KEY=VALUE; VALUE is a scalar, or a list or mapping in flow style."""
    key, equals, text = override.partition("=")
    name = f"--set {shown(override)[1:-1]}"
    if not equals or not key.strip():
        fix = "write it as KEY=VALUE, such as  --set train.epochs=1"
        return Layer({}, (Problem("recipe.set", "has no value", name, fix=fix),))
    try:
        value = read_value(text, name).value
    except InputError as error:
        return Layer({}, error.problems)
    for part in reversed(key.strip().split(".")[:16]):
        value = {part: value}
    return _layer(Document(name, value), Path.cwd())


def _from_home(path: str) -> str:
    """`path` without its `~` or `~user`; as it stands where there is no such user."""
    try:
        return os.path.expanduser(path)
    except ValueError:  # a NUL, which the check of the setting refuses by name
        return path


def _content(path: Path) -> bytes:
    if not path.is_file():
        what = "is not a file" if path.exists() else "there is no such recipe"
        raise InputError(Problem("recipe.not-found", what, str(path), fix="localtune init DATA -m MODEL  writes one"))
    try:
        with path.open("rb") as file:
            return file.read(LIMIT + 1)
    except OSError as error:
        raise InputError(Problem("recipe.unreadable", error.strerror or "cannot be read", str(path))) from None


def _layer(document: Document, base: Path, text: str = "") -> Layer:
    given: dict[str, Given] = {}
    problems = list(first_problems(_flatten(document, base, given)))
    return Layer(given, (*document.problems, *problems), text)


def _flatten(document: Document, base: Path, given: dict[str, Given]) -> Iterator[Problem]:
    """Fill `given`, and yield what is not a setting."""
    if document.value is None:
        return
    if not isinstance(document.value, dict):
        what = f"is {shown(document.value)}; expected settings such as  model: Qwen/Qwen3-1.7B"
        yield Problem("recipe.type", what, document.where(()), fix="localtune init DATA -m MODEL  writes a recipe")
        return
    yield from _flatten_section(document, base, document.value, (), given)


def _flatten_section(
    document: Document, base: Path, section: Mapping[str, Any], path: Keys, given: dict[str, Given]
) -> Iterator[Problem]:
    known = {setting.key for setting in fields()}
    for name, value in section.items():
        inner = (*path, name)
        key = ".".join(map(str, inner))
        if key in known and "." not in name:
            given[key] = Given(value, document, base, inner)
        elif key not in sections() or "." in name:
            what = f"{shown(key)[1:-1]} is not a setting"
            yield Problem("recipe.unknown-key", what, document.where(inner, key=True), fix=_nearest(key))
        elif isinstance(value, dict):
            yield from _flatten_section(document, base, value, inner, given)
        elif value is not None:
            what = f"{key} is {shown(value)}; expected a group of settings such as  {key}: {{{_example(key)}: …}}"
            yield Problem("recipe.type", what, document.where(inner))


def _example(section: str) -> str:
    return next(s.key for s in fields() if s.key.startswith(section + ".")).removeprefix(section + ".")


def _nearest(key: str) -> str:
    """The fix for an unknown key: the nearest in its section, or the one of that name elsewhere."""
    section, _, name = key[:100].rpartition(".")
    every = [*(setting.key for setting in fields()), *sections()]
    beside = [known.rpartition(".")[2] for known in every if known.rpartition(".")[0] == section]
    close = get_close_matches(name, beside, 1, 0.7)
    elsewhere = [known for known in every if get_close_matches(known.rpartition(".")[2], [name], 1, 0.8)]
    near = close or elsewhere
    return f"did you mean {near[0]}?   {FIX}" if near else FIX


def _variable(key: str) -> str:
    return ENVIRONMENT + key.replace(".", "_").upper()
