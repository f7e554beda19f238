"""What is wrong with a recipe's values, in plain words: the value, what was expected, and where it stands.

One sentence per value, whichever bound or type it breaks: "train.epochs is 'three'; expected a number above 0".
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import reduce
from itertools import islice
from typing import Any, Protocol

from pydantic import ValidationError

from localtune.errors import Problem
from localtune.recipe.words import Setting, fields, words

FIX = "all keys: localtune schema recipe"
LIMIT = 20
"""Problems shown; the rest are counted."""

Keys = tuple[str | int, ...]


class Placed(Protocol):
    """A value that knows where it stands."""

    @property
    def value(self) -> Any:
        """As written."""
        ...

    def where(self, inner: Keys = (), *, key: bool = False) -> str:
        """Its place, or that of a part of it."""
        ...


def in_words(error: ValidationError, given: Mapping[str, Placed], file: str) -> Iterator[Problem]:
    """One problem per wrong value of `error`, in the order of the declarations."""
    settings = {setting.key: setting for setting in fields()}
    wrong: dict[tuple[str, Keys], bool] = {}
    for detail in error.errors(include_url=False, include_context=False):
        setting, rest = _setting(detail["loc"], settings)
        inner = _inner(given[setting.key].value, rest) if setting.key in given else ()
        wrong.setdefault((setting.key, inner), rest[-1:] == ("[key]",))
    for (key, inner), is_key in wrong.items():
        if key not in given:
            yield _missing(settings[key], file)
        elif inner or not any(other == key and part for other, part in wrong):
            yield _problem(settings[key], given[key], inner, is_key=is_key)


def first_problems(problems: Iterable[Problem]) -> Iterator[Problem]:
    """The first twenty, and whether there are more."""
    rest = iter(problems)
    yield from islice(rest, LIMIT)
    if next(rest, None) is not None:
        yield Problem("recipe.more", f"and more; the first {LIMIT} are shown")


def shown(value: object, limit: int = 60) -> str:
    """A value for a sentence: text in quotes, null as empty, lists and mappings by name."""
    if isinstance(value, str):
        line = value[:limit].replace("\n", "\\n").replace("\t", "\\t")
        return f"'{line if len(line) <= limit and len(value) <= limit else line[: limit - 1] + '…'}'"
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return str(value).lower()
    return "a list" if isinstance(value, list) else "a mapping" if isinstance(value, dict) else str(value)


def _missing(setting: Setting, file: str) -> Problem:
    what = f"{setting.key} is missing: {setting.sentence[0].lower()}{setting.sentence[1:]}"
    return Problem("recipe.missing", what, file, fix=f"--set {setting.key}=…, or a line in the recipe")


def _setting(place: tuple[int | str, ...], settings: Mapping[str, Setting]) -> tuple[Setting, tuple[int | str, ...]]:
    for end in range(1, len(place) + 1):
        key = ".".join(map(str, place[:end]))
        if key in settings:
            return settings[key], place[end:]
    raise KeyError(place)


def _inner(value: Any, rest: tuple[int | str, ...]) -> Keys:
    """The part of pydantic's location that leads through the value itself, without its names of union branches."""
    path: Keys = ()
    for step in rest:
        if (isinstance(value, list) and isinstance(step, int)) or (isinstance(value, dict) and step in value):
            path = (*path, step)
            value = _part(value, (step,))
    return path


def _problem(setting: Setting, given: Placed, inner: Keys, *, is_key: bool) -> Problem:
    value, label, expected = _part(given.value, inner), setting.key, setting.expected
    for step in inner:
        label = f"entry {step + 1} of {label}" if isinstance(step, int) else f"{label}.{step}"
        expected = _entry(setting)
    if is_key:
        expected = ", ".join(setting.schema["propertyNames"]["enum"])
        what = f"{label} is not known; expected one of {expected}"
        return Problem("recipe.unknown-key", what, given.where(inner, key=True))
    entries = f" of {len(value)}" if isinstance(value, list) else ""
    what = f"{label} is {shown(value)}{entries}; expected {expected}"
    return Problem("recipe.type", what, given.where(inner))


def _part(value: Any, inner: Keys) -> Any:
    return reduce(lambda whole, step: whole[step], inner, value)


def _entry(setting: Setting) -> str:
    found = [branch.get("items") or branch.get("additionalProperties") for branch in _branches(setting.schema)]
    return words(next(schema for schema in found if schema))


def _branches(schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield schema
    for branch in schema.get("anyOf", ()):
        yield from _branches(branch)
