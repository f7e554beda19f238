"""A clean copy of the data: rows that are in the way are left out, each with its reason in a file beside the copy.

A second pass in the order of the first, so memory stays bounded. A row that is kept is the very object of the file;
only `nfc` changes text. Where the files hold conversations in different shapes, which one file must not, every row is
written in the canonical form (`shapes.to_messages`). Of rows that are the same the first is kept; of rows that leak the
held-out ones are kept, and the training rows go. Rows that cannot be read have no object to copy and are always left
out; of their text what the problem shows is kept.
"""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from localtune.data.check.near import MOST, NearIndex
from localtune.data.check.same import Indices, Keys, leaked, origins
from localtune.data.check.turns import EMPTY_CODES, is_empty
from localtune.data.check.written import text_of
from localtune.data.conversations import Example
from localtune.data.jsonl import Write
from localtune.data.opened import Opened
from localtune.data.rows import Row
from localtune.data.shapes import to_messages
from localtune.errors import InputError, Problem
from localtune.typed import typed

Kind = Literal["bad", "empty", "leak", "dup", "near", "nfc"]
KINDS: tuple[Kind, ...] = ("bad", "empty", "leak", "dup", "near", "nfc")
MENDED: dict[Kind, tuple[str, ...]] = {
    "bad": ("unusable", "mixed"),
    "empty": ("empty", "no-target"),
    "leak": ("leak",),
    "dup": ("duplicate",),
    "near": ("near-duplicate",),
    "nfc": ("not-nfc",),
}
"""Kind -> codes of the findings it ends."""


@dataclass
class Fixed:
    """What became of the rows."""

    kept: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    """Reason -> rows."""
    changed: int = 0
    """Kept rows whose text was brought into NFC."""
    canonical: bool = False
    """Whether the rows had different shapes and were all written in the canonical form."""


def write_clean(
    opened: Opened,
    kinds: frozenset[Kind],
    keys: Keys,
    held_out: Mapping[str, Keys],
    write: Write,
    drop: Write,
    *,
    near: int = MOST,
) -> Fixed:
    """Write the rows of `opened` that are left once `kinds` are mended, and the others with their reasons to `drop`.

    `keys`: of all usable rows, as the check collected them. Raises `InputError` when near duplicates are to be
    dropped and datasketch is not installed.
    """
    reasons = _Reasons(kinds, keys, held_out, near)
    fixed = Fixed(canonical=not opened.is_alike())

    def leave_out(where: str, reason: str, why: str, value: dict[str, Any] | str | None) -> None:
        fixed.dropped[reason] = fixed.dropped.get(reason, 0) + 1
        file, line = _split(where)
        drop({"file": file, "line": line, "reason": reason, "why": why, "row": value})

    def unread(problem: Problem) -> None:
        leave_out(problem.where, "unreadable", problem.what, problem.evidence.partition("\n")[0] or None)

    for row, outcome in opened.rows(unread):
        reason, why = reasons.of(row, outcome)
        if fixed.canonical and not reason and isinstance(outcome, Problem):
            reason, why = "unusable", outcome.what  # it has no canonical form
        if reason:
            leave_out(str(row.place), reason, why, row.value)
            continue
        as_it_was = to_messages(outcome) if fixed.canonical and not isinstance(outcome, Problem) else row.value
        value = normalised(as_it_was) if "nfc" in kinds else as_it_was
        fixed.changed += value != as_it_was
        fixed.kept += 1
        write(value)
    return fixed


class _Reasons:
    """Why a row is left out; asked for every row once, in order."""

    def __init__(self, kinds: frozenset[Kind], keys: Keys, held_out: Mapping[str, Keys], near: int) -> None:
        self._kinds, self._keys, self._held_out = kinds, keys, held_out
        self._origin = origins(keys.whole) if "dup" in kinds else None
        self._leaks: dict[str, Indices] = {}
        if "leak" in kinds:
            self._leaks = {part: leaked(keys, other) for part, other in held_out.items()}
        self._near = _near_index(near) if "near" in kinds else None
        self._index = -1

    def of(self, row: Row, outcome: Example | Problem) -> tuple[str, str]:
        """Reason and explanation; ("", "") for a row that stays."""
        if "empty" in self._kinds and is_empty(outcome):
            self._index += not isinstance(outcome, Problem)
            return "empty", outcome.what if isinstance(outcome, Problem) else "a turn or a side is empty"
        if isinstance(outcome, Problem):
            bad = "bad" in self._kinds and outcome.code not in EMPTY_CODES
            return ("unusable", outcome.what) if bad else ("", "")
        self._index += 1
        return self._leak() or self._duplicate() or self._nearly(row, outcome) or ("", "")

    def _leak(self) -> tuple[str, str] | None:
        for part, found in self._leaks.items():
            if (at := int(found[self._index])) >= 0:
                return "leak", f"the {part} row {self._held_out[part].place(at)} asks or says the same"
        return None

    def _duplicate(self) -> tuple[str, str] | None:
        if self._origin is None or self._origin[self._index] == self._index:
            return None
        return "duplicate", f"the same as {self._keys.place(int(self._origin[self._index]))}"

    def _nearly(self, row: Row, example: Example) -> tuple[str, str] | None:
        if self._near is None:
            return None
        text = text_of(example)
        other = self._near.resembles(row.place, unicodedata.normalize("NFC", text) if "nfc" in self._kinds else text)
        return ("near-duplicate", f"nearly the same as {other}") if other else None


def normalised(value: Any) -> Any:
    """`value` with every string in it, but for keys, in Unicode's NFC."""
    if isinstance(value, str):
        return unicodedata.normalize("NFC", value)
    if isinstance(value, list):
        return [normalised(inner) for inner in value]
    return {key: normalised(inner) for key, inner in value.items()} if isinstance(value, dict) else value


def _near_index(most: int) -> NearIndex:
    try:
        return NearIndex(most)
    except ImportError:
        what = "near duplicates are found with the package datasketch, which is not installed"
        raise InputError(Problem("data.datasketch", what, fix=typed("pip", "install", "localtune[data]"))) from None


def _split(where: str) -> tuple[str, int]:
    """File and line of "file:line" or "file:line:column"."""
    parts = where.split(":")
    while len(parts) > 2 and parts[-1].isdecimal() and parts[-2].isdecimal():
        parts.pop()
    return (":".join(parts[:-1]), int(parts[-1])) if parts[-1].isdecimal() else (where, 0)
