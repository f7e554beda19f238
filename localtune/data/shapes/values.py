"""Values of a row, checked: whatever cannot be used is `Unusable`, with a stable code and a sentence."""

import json
from collections.abc import Mapping
from typing import Any, Never

from localtune.data.reading.strict import DEPTH
from localtune.data.rows import Row
from localtune.errors import Problem, safe
from localtune.model.json_object import is_deeper, unique

MEND = "mend or remove the row; --set data.on_error=skip passes over at most 1 % of such rows"


class Unusable(Exception):
    """A row cannot be used."""

    def __init__(self, code: str, what: str) -> None:
        super().__init__(what)
        self.code = code
        """Stable name such as "data.role"."""
        self.what = what
        """The sentence; values in it are safe to show."""


def problem(row: Row, code: str, what: str, fix: str = MEND) -> Problem:
    """The problem of `row`, with its beginning as evidence."""
    return Problem(code, what, str(row.place), beginning(row), fix)


def beginning(row: Row) -> str:
    """The first characters of a row."""
    return shown(row.value, 100)


def shown(value: object, limit: int = 60) -> str:
    """`value` for a message, shortened to `limit` characters."""
    if value is None:
        return "missing"
    try:
        return safe(repr(value), limit)
    except (RecursionError, ValueError):  # nested to the limit, or an integer with too many digits to print
        return f"a {type(value).__name__} that cannot be shown"


def column(row: Row, columns: Mapping[str, str], name: str) -> Any:
    """What the row keeps as `name`; None when it has no such column, or nothing in it."""
    return row.value.get(columns[name]) if name in columns else None


def key(columns: Mapping[str, str], name: str) -> str:
    """The key of `name`, quoted for a message."""
    return f'"{safe(columns.get(name, name), 40)}"'


def text(value: object, name: str, *, learned: bool = False) -> str:
    """`value`, which must be a string that is not blank; `learned`: it is an answer. Raises `Unusable`."""
    if isinstance(value, str):
        if value and not value.isspace():
            return value
    elif value is not None or not learned:
        raise Unusable("data.type", f"{name} must be a string, not {shown(value)}")
    if learned:
        raise Unusable("data.nothing-to-learn", f"{name} is empty, so nothing is learned")
    raise Unusable("data.empty-content", f"{name} is empty")


def optional_text(value: object, name: str) -> str:
    """`value` as a string; "" for null and for blanks. Raises `Unusable` for anything else."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Unusable("data.type", f"{name} must be a string, not {shown(value)}")
    return "" if not value or value.isspace() else value


def group(row: Row, columns: Mapping[str, str]) -> str:
    """The name of the group the row belongs to; "" for none. Raises `Unusable` for lists and objects."""
    value = column(row, columns, "group")
    if value is None or isinstance(value, str):
        return value or ""
    if not isinstance(value, int | float):
        raise Unusable("data.type", f"{key(columns, 'group')} must be a string or number, not {shown(value)}")
    return str(value)


def json_value(source: str, name: str) -> Any:
    """The value that the string `source` writes as JSON. Raises `Unusable`, also for NaN and half surrogate pairs."""
    try:
        value = json.loads(source, parse_constant=_no_constant, object_pairs_hook=unique)
        if is_deeper(value, DEPTH):
            raise RecursionError
        if "\\u" in source:
            json.dumps(value, ensure_ascii=False).encode()
            if _holds_nul(value):
                raise Unusable("data.json", f"{name} holds the NUL character \\u0000")
    except UnicodeEncodeError:
        raise Unusable("data.json", f"{name} holds half a surrogate pair") from None
    except RecursionError:
        raise Unusable("data.json", f"{name} is nested too deeply") from None
    except ValueError as error:
        raise Unusable("data.json", f"{name} is not JSON ({safe(str(error), 100)}): {shown(source)}") from None
    return value


def _holds_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" in value
    parts = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(map(_holds_nul, parts))


def _no_constant(name: str) -> Never:
    raise ValueError(f"{name} is no JSON number")
