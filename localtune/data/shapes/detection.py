"""What the rows of a file are: decided by the first row that holds anything, and said in a sentence."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from localtune.data.rows import Row
from localtune.data.shapes.layout import LAYOUTS, Columns, Layout, layout
from localtune.data.shapes.turns import KNOWN, as_list
from localtune.data.shapes.values import Unusable, problem
from localtune.errors import InputError, Problem, safe
from localtune.settings import DataSettings, Shape
from localtune.typed import typed

_BARE = re.compile(r"[^\W\d][\w-]*")
_BARE_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}
_ASIDE = {"id", "idx", "index", "uuid", "source", "url", "label", "category", "type", "lang", "language", "title"}
"""Columns that are seldom a prompt."""
_SHOWN_COLUMNS = 20


@dataclass(frozen=True)
class Format:
    """Shape of the rows of a file, where they keep what, and why it was chosen."""

    shape: Shape
    why: str
    """The sentence: "alpaca, because every row has the keys instruction and output"."""
    columns: Columns
    """What a row keeps (messages, prompt, completion, …) -> under which key, in the first row."""
    first: Row
    """The row that decided."""
    given: bool
    """The recipe named the shape."""
    named: Columns
    """What `data.columns` says."""
    unused: tuple[str, ...]
    """Columns of the first row, and keys of its turns ("messages.id"), that nothing is made of."""
    held: tuple[str, ...]
    """Keys of the first row that hold something: rows with the same keys are read the same way."""


def detect(row: Row, settings: DataSettings) -> Format:
    """The format of the file whose first usable row is `row`.

    Raises `InputError` listing the columns it has, with what can be typed to say where prompt and answer are.
    """
    named = {str(name): key for name, key in settings.columns.items()}
    given: Shape | None = None if settings.format == "auto" else settings.format
    _check_named(row, named, given)
    found = match(row.value, named, given) or (None if given else _match_keys(row.value, named))
    if found is None:
        raise InputError(columns_problem(row, named, given))
    known, columns = found
    why = f"{known.shape}, because {_reason(known, row.value, columns, named, given)}"
    return Format(
        known.shape, why, columns, row, given is not None, named, _unused(row.value, columns), held(row.value)
    )


def match(value: Mapping[str, Any], named: Columns, given: Shape | None) -> tuple[Layout, Columns] | None:
    """The first layout that a row fits, or the given one, with its columns; None when there is none."""
    for known in (layout(given),) if given else LAYOUTS:
        columns = known.columns(value, named, sure=given is not None, null=given is not None)
        if columns is not None:
            return known, columns
    return None


def _match_keys(value: Mapping[str, Any], named: Columns) -> tuple[Layout, Columns] | None:
    """The first layout whose keys a row has, whatever they hold."""
    found = ((known, known.columns(value, named, null=True)) for known in LAYOUTS)
    return next(((known, columns) for known, columns in found if columns is not None), None)


def held(value: Mapping[str, Any]) -> tuple[str, ...]:
    """Keys of a row that hold something."""
    return tuple([key for key, part in value.items() if part is not None])


def columns_problem(row: Row, named: Columns, shape: Shape | None) -> Problem:
    """What is wrong with a row that has not the columns of `shape`, or of any shape."""
    has = ", ".join(safe(key, 40) for key in list(row.value)[:_SHOWN_COLUMNS]) or "none"
    has += ", …" if len(row.value) > _SHOWN_COLUMNS else ""
    if shape:
        wanted = {name: named.get(name, key) for name, key in layout(shape).needed[0].items()}
        what = f"{shape} rows need {_listed(list(wanted.values()))}; this row has the columns {has}"
    else:
        what = f"the columns {has} do not tell which is the prompt and which the answer"
    empty = [key for key in row.value if row.value[key] is None]
    what += f" ({_listed(empty[:5])} empty)" if empty else ""
    return problem(row, "data.columns", what, _proposal(row.value, shape))


def _check_named(row: Row, named: Columns, given: Shape | None) -> None:
    """Raise `InputError` for a column that the row lacks, and for one that the shape has no use for."""
    for name, key in named.items():
        if key not in row.value:
            has = ", ".join(safe(key, 40) for key in list(row.value)[:_SHOWN_COLUMNS]) or "none"
            what = f"data.columns says that {name} is in {safe(key, 40)}; the row has the columns {has}"
            raise InputError(problem(row, "data.columns", what, _proposal(row.value, given)))
        if given and name not in layout(given).names():
            names = _listed(sorted(layout(given).names()))
            what = f"data.columns names {name}, and {given} rows have none; they have {names}"
            raise InputError(Problem("data.columns", what, str(row.place), fix=f"remove {name} from data.columns"))


def _reason(known: Layout, value: Mapping[str, Any], columns: Columns, named: Columns, given: Shape | None) -> str:
    if given:
        return "data.format says so"
    needed = next(a for a in known.needed if all(columns.get(n) == named.get(n, k) for n, k in a.items()))
    keys = [columns[name] for name in needed]
    said = f"every row has the key{'s' if len(keys) > 1 else ''} {_listed(keys)}"
    if known.shape == "sharegpt":
        return f"{said}, turns with from and value"
    return f"{said}, turns with role and content" if keys[0] != "messages" and known.shape == "messages" else said


def _unused(value: Mapping[str, Any], columns: Columns) -> tuple[str, ...]:
    used = {*columns.values(), "group"}
    unused = [key for key in value if key not in used]
    key = columns.get("messages")
    if key is not None:
        try:
            turns = as_list(value.get(key), key) or []
        except Unusable:
            turns = []
        inner = {part: None for turn in turns if isinstance(turn, dict) for part in turn if part not in KNOWN}
        unused += [f"{key}.{part}" for part in inner]
    return tuple(safe(key, 60) for key in unused)


def _proposal(value: Mapping[str, Any], shape: Shape | None = None) -> str:
    texts = [key for key, part in value.items() if isinstance(part, str)]
    likely = [key for key in texts if key.casefold() not in _ASIDE]
    names = likely if len(likely) > 1 else texts
    if not names:
        return 'write each row as {"messages": [{"role": "user", "content": …}, {"role": "assistant", "content": …}]}'
    if len(names) == 1 or shape == "text":
        return f"--set data.columns={typed(f'{{text: {_word(names[0])}}}')}"
    return f"--set data.columns={typed(f'{{prompt: {_word(names[0])}, completion: {_word(names[1])}}}')}"


def _word(key: str) -> str:
    """`key` as YAML."""
    shown = safe(key, 60)
    plain = _BARE.fullmatch(shown) and shown.casefold() not in _BARE_WORDS
    return shown if plain else '"' + shown.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _listed(words: list[str]) -> str:
    shown = [safe(word, 40) for word in words]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
