"""A run that is being put together: what the New screen holds, as plain values, and every way it leaves the screen.

The same draft is a command line (`arguments`, `command`), a recipe in memory (`load`) and a recipe file (`text`); all
three mean the same run. Nothing here opens a model or rows.
"""

import io
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from localtune import recipe
from localtune.errors import InputError
from localtune.recipe.yaml import read_value, write_value
from localtune.settings import NOT_PATHS, PATH_SETTINGS, is_hub_data
from localtune.typed import typed
from localtune_tui.presets import DEFAULT, PRESETS


@dataclass(frozen=True)
class Draft:
    """Data, model and settings of a run that has not begun."""

    file: Path | None = None
    """The recipe that was opened; everything else changes it. None where there is none."""
    data: str = ""
    """As typed; with a recipe only where it is another than the recipe's."""
    model: str = ""
    """As `data`."""
    preset: str = DEFAULT
    """Of `PRESETS`; with a recipe "", unless one was chosen over it."""
    changes: Mapping[str, str] = field(default_factory=dict)
    """Dotted key -> value as typed, in YAML; wins over the preset."""

    @classmethod
    def of(cls, path: Path) -> "Draft":
        """The recipe in `path` as it is."""
        return cls(file=path.absolute(), preset="")

    @property
    def missing(self) -> str:
        """What still has to be chosen, as a sentence; empty where nothing has."""
        if self.file is None and not self.data:
            return "choose a data file"
        return "choose a model" if self.file is None and not self.model else ""

    @property
    def settings(self) -> dict[str, str]:
        """What differs from the recipe's or the defaults."""
        chosen = PRESETS[self.preset].settings if self.preset else {}
        return dict(chosen) | dict(self.changes)

    @property
    def unsaved(self) -> bool:
        """Whether a recipe file would hold more than the one that was opened does."""
        return self.file is None or bool(self.settings or self.data or self.model)

    @property
    def would_be_lost(self) -> bool:
        """Whether something would be lost with this draft: chosen or typed, and in no file."""
        return self.unsaved and self != Draft()

    def with_setting(self, key: str, text: str | None) -> "Draft":
        """The draft with the setting `key` at `text`; None = as it would be untouched."""
        kept = {name: value for name, value in self.changes.items() if name != key}
        return replace(self, changes=kept if text is None else kept | {key: text})

    def arguments(self, *, model: bool = True) -> list[str]:
        """What follows the verb of a command line that is about this draft; without its model where `model` is no."""
        source = str(self.file) if self.file else self.data
        found = [f"./{source}" if source.startswith("-") else source]
        found += ["-m", self.model] if self.model and model else []
        for key, text in self._overrides().items():
            found += ["--set", f"{key}={text}"]
        return found

    def command(self, verb: str = "run") -> str:
        """The line that could be typed instead."""
        arguments = self.arguments()
        if self.file:
            arguments[0] = _near(self.file)
        return typed("localtune", *verb.split(), *arguments)

    def load(self) -> recipe.Loaded:
        """Every setting, checked. Raises `InputError` with all that is wrong."""
        overrides = [f"{key}={text}" for key, text in self._overrides().items()]
        if self.file is None:
            return recipe.from_data(self.data, self.model or None, overrides, os.environ, recipe.user_config())
        overrides += [f"model={write_value(self.model)}"] if self.model else []
        return recipe.load(self.file, overrides, os.environ, recipe.user_config())

    def text(self, folder: Path) -> str:
        """The recipe file that says the same from `folder`; comments of the one that was opened are kept.

        Raises `InputError` where a setting or the opened file cannot be read.
        """
        given = dict(self._overrides()) | ({"model": write_value(self.model)} if self.model else {})
        if self.file is None:
            given = {"data.train": write_value(self.data)} | given
        values = {key: _moved(key, read_value(text, key).value, Path.cwd(), folder) for key, text in given.items()}
        if self.file is not None:
            return _changed(self.file, values, folder)
        values = {"name": self.load().name} | values if self.model else values
        return _written(values)

    def _overrides(self) -> dict[str, str]:
        other = {"data.train": write_value(self.data)} if self.file and self.data else {}
        return other | self.settings


def _near(path: Path) -> str:
    """`path` from here, where it lies below."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _moved(key: str, value: Any, start: Path, folder: Path) -> Any:
    """`value`, and where it names a file that counts from `start`: the same file as `folder` sees it."""
    if isinstance(value, list) and key in PATH_SETTINGS:
        return [_moved(key, entry, start, folder) for entry in value]
    if key not in PATH_SETTINGS or not isinstance(value, str) or value in ("", *NOT_PATHS):
        return value
    path = start / os.path.expanduser(value)
    if not path.exists() and (is_hub_data(value) or key == "model"):
        return value
    try:
        seen = Path(os.path.relpath(path.absolute(), folder.absolute())).as_posix()
    except ValueError:  # another drive
        return path.absolute().as_posix()
    return seen if seen.startswith(".") else f"./{seen}"


def _written(values: Mapping[str, Any]) -> str:
    """A recipe of these settings alone, each with its sentence."""
    lines, open_groups = ["version: 1"], list[str]()
    for setting in recipe.fields():
        if setting.key not in values:
            continue
        *groups, name = setting.key.split(".")
        for depth, group in enumerate(groups):
            if open_groups[: depth + 1] != groups[: depth + 1]:
                lines.append(f"{'  ' * depth}{group}:")
        open_groups = groups
        indent = "  " * len(groups)
        line = f"{indent}{name}: {write_value(values[setting.key])}"
        beside = f"{line:<32}  # {setting.sentence}"
        lines += [beside] if len(beside) <= 120 else [f"{indent}# {setting.sentence}", line]
    return "\n".join(lines) + "\n"


def _changed(path: Path, values: Mapping[str, Any], folder: Path) -> str:
    """The file `path` with `values` in it, its comments and order kept, and its paths as `folder` sees them."""
    recipe.load(path, (), {}, None)  # says what is wrong with it better than what follows could
    yaml = YAML(typ="rt")
    yaml.preserve_quotes, yaml.width = True, 1000
    try:
        tree = yaml.load(path.read_text(encoding="utf-8-sig"))
    except (YAMLError, OSError, ValueError):
        raise InputError(*_unreadable(path)) from None
    if path.parent.absolute() != folder.absolute():
        for key in PATH_SETTINGS:
            found = _get(tree, key)
            if found is not None and key not in values:
                _put(tree, key, _moved(key, found, path.parent, folder))
    for key, value in values.items():
        _put(tree, key, value)
    out = io.StringIO()
    yaml.dump(tree, out)
    return out.getvalue()


def _unreadable(path: Path) -> tuple[Any, ...]:
    from localtune.errors import Problem

    return (Problem("recipe.unreadable", "cannot be read", str(path)),)


def _get(tree: Any, key: str) -> Any:
    for part in key.split("."):
        tree = tree.get(part) if isinstance(tree, Mapping) else None
    return tree


def _put(tree: Any, key: str, value: Any) -> None:
    *groups, name = key.split(".")
    for group in groups:
        if not isinstance(tree.get(group), dict):
            tree[group] = {}
        tree = tree[group]
    tree[name] = value
