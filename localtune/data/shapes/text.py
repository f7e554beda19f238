"""Rows that are text as it stands: a passage, or code with a hole."""

from collections.abc import Mapping

from localtune.data.conversations import Infill, Passage
from localtune.data.rows import Row
from localtune.data.shapes.values import Unusable, group, key, shown, text


def from_text(row: Row, columns: Mapping[str, str], system: str | None) -> Passage:
    """A row of the shape text. Raises `Unusable`."""
    del system  # text has no turns
    given = text(row.value.get(columns["text"]), key(columns, "text"), learned=True)
    return Passage(row.place, given, group(row, columns))


def from_infill(row: Row, columns: Mapping[str, str], system: str | None) -> Infill:
    """A row of the shape fim; the hole may be at either end. Raises `Unusable`."""
    del system  # code has no turns
    prefix, suffix, middle = (_code(row, columns, name) for name in ("prefix", "suffix", "middle"))
    if not middle:
        raise Unusable("data.nothing-to-learn", f"{key(columns, 'middle')} is empty, so nothing is learned")
    return Infill(row.place, prefix, suffix, middle, group(row, columns))


def _code(row: Row, columns: Mapping[str, str], name: str) -> str:
    value = row.value.get(columns[name])
    if not isinstance(value, str):
        raise Unusable("data.type", f"{key(columns, name)} must be a string, not {shown(value)}")
    return value
