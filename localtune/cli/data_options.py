"""What the verbs of `localtune data` share: names become rows, a model a renderer, and text fits a screen."""

import json
import locale
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from localtune import recipe
from localtune.cli.options import confirm_download
from localtune.data.opened import Opened, open_data
from localtune.data.rendering import Rendering
from localtune.data.tokenizer import Tokenizer
from localtune.errors import safe
from localtune.model import resolve
from localtune.recipe import Loaded
from localtune.settings import DataSettings
from localtune.typed import typed

CANONICAL = "the files hold different shapes, so every row was written as messages, without columns of no use"
Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True)
class Asked:
    """The data a command line names, under its settings."""

    loaded: Loaded
    names: tuple[str, ...]
    """As they were typed."""
    model: str | None
    overrides: tuple[str, ...]

    @property
    def settings(self) -> DataSettings:
        """The section data of the recipe."""
        return self.loaded.recipe.data

    @property
    def shown(self) -> str:
        """The data as a command names it, with its settings."""
        return typed(*self.names) + self.flags

    @property
    def flags(self) -> str:
        """The settings as a command names them, with a space before each."""
        return "".join(f" --set {typed(setting)}" for setting in self.overrides)

    def train(self) -> Opened:
        """The rows. Raises `InputError`."""
        return open_data(self.settings.train, self.settings, self.loaded.base)

    def rendering(self) -> AbstractContextManager[Rendering | None]:
        """Of the model that was named; None where there was none. Raises `InputError`, `MachineError`."""
        if self.model is None:
            return nullcontext()
        tokenizer = Tokenizer(_tokenizer_folder(self.model, self.loaded.base))
        return Rendering(tokenizer, learn=self.loaded.recipe.train.learn)


def data_arguments(*, several: bool = False) -> Callable[[Command], Command]:
    """NAME (or NAME...), -m and --set."""

    def decorate(command: Command) -> Command:
        for option in (
            click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="A setting: data.format=text."),
            click.option("-m", "--model", help="Hub id or folder: look with its tokenizer and template."),
            click.argument(
                "names", metavar="NAME..." if several else "NAME", nargs=-1 if several else 1, required=True
            ),
        ):
            command = option(command)
        return command

    return decorate


def asked(
    names: Sequence[str] | str,
    model: str | None,
    overrides: Sequence[str],
    parts: Mapping[str, str | None] | None = None,
) -> Asked:
    """What NAME, -m and --set say; one NAME may be a recipe, whose data, settings and model count then.

    `parts`: "valid" and "test" -> a name that was given beside. Raises `InputError`.
    """
    listed = (names,) if isinstance(names, str) else tuple(names)
    beside = [f"data.{part}={json.dumps(name)}" for part, name in (parts or {}).items() if name]
    own = [f"model={json.dumps(model)}"] if model is not None else []
    if len(listed) == 1 and (file := _recipe_file(listed[0])) is not None:
        loaded = recipe.load(file, [*overrides, *beside, *own], os.environ, recipe.user_config())
        return Asked(loaded, listed, loaded.recipe.model, tuple(overrides))
    train = [f"data.train={json.dumps(listed)}"] if len(listed) > 1 else []
    flags = [*train, *overrides, *beside]
    loaded = recipe.from_data(listed[0], model or "none", flags, os.environ, recipe.user_config())
    return Asked(loaded, listed, model, tuple(overrides))


def wrapped(text: str, indent: str, width: int | None = None) -> Iterator[str]:
    """`text` in lines of at most `width` columns (None: the terminal's; as it is where stdout is none), wide characters
    counted as two; words that are longer are cut."""
    from rich.console import Console
    from rich.text import Text

    width = width or _columns()
    if width is None:
        yield from (indent + line for line in text.splitlines())
        return
    columns = width - len(indent)
    console = Console(width=columns, file=sys.stderr, force_terminal=False)
    for line in Text(text).wrap(console, columns):
        yield indent + line.plain.rstrip()


def placed(place: str, text: str, indent: str, width: int | None = None) -> Iterator[str]:
    """`place` with `text` beside it, or below it where they do not fit a line together; a place is never split."""
    from rich.cells import cell_len

    shown, width = safe(place), width or _columns()
    line = f"{indent}{shown}  {safe(text)}".rstrip()
    if width is None or not text or cell_len(line) <= width:
        yield line
        return
    yield indent + shown
    yield from wrapped(safe(text), f"{indent}  ", width)


def say(text: str, *, err: bool = False, nl: bool = True) -> None:
    """Print `text`; colours only on a terminal, and not where NO_COLOR is set."""
    click.echo(text, err=err, nl=nl, color=False if os.environ.get("NO_COLOR") else None)


def colours() -> bool:
    """Whether stdout shows colours."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def bars(counts: Sequence[int]) -> str:
    """A histogram on one line; in ASCII where the terminal's encoding is not UTF-8."""
    marks = " ▁▂▃▄▅▆▇" if locale.getencoding().lower().replace("-", "") == "utf8" else " .:-=+*#"
    most = max(counts, default=0) or 1
    return "".join(marks[-(-7 * count // most)] for count in counts)


def _columns() -> int | None:
    """Of the terminal; None where stdout is none."""
    return max(40, os.get_terminal_size(sys.stdout.fileno()).columns) if sys.stdout.isatty() else None


def _recipe_file(name: str) -> Path | None:
    path = Path(os.path.expanduser(name))
    if path.suffix.lower() in (".yaml", ".yml"):
        return path
    return path / "recipe.yaml" if os.path.isfile(path / "recipe.yaml") else None


def _tokenizer_folder(model: str, base: Path) -> Path:
    """A folder with a tokenizer will do; whatever else a model has is not asked for."""
    folder = base / os.path.expanduser(model)
    if os.path.isfile(folder / "tokenizer.json"):
        return folder
    return resolve(model, base, confirm=confirm_download).folder
