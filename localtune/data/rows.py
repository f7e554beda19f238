"""Rows of the user's data and where they stand, and what becomes of those that cannot be used."""

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from localtune.errors import InputError, Problem
from localtune.typed import typed

BAD_SHARE = 100
"""With `on_error: skip`, at most one row in this many may be unusable."""
KEPT_PROBLEMS = 5
SKIP = "--set data.on_error=skip"
_MEND = "mend or remove this row"


@dataclass(frozen=True)
class Place:
    """Where a row stands."""

    file: str
    line: int
    """Counted from 1, where the row begins. In JSON lists, Parquet and hub data sets: the row's number."""
    number: int = 0
    """Of the file among those that are read."""

    @property
    def id(self) -> int:
        """File and line in one number; the line itself for the first file."""
        return self.number << 40 | self.line

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class Row:
    """One row of a file."""

    place: Place
    value: dict[str, Any]


@dataclass
class BadRows:
    """Rows that cannot be used: the first one stops, or they are counted."""

    on_error: Literal["stop", "skip"]
    count: int = 0
    first: list[Problem] = field(default_factory=list)
    """At most five."""

    def add(self, problem: Problem) -> None:
        """Raise `InputError` with the problem and the setting that passes over it, or count it."""
        if self.on_error == "stop":
            mend = "" if problem.fix in ("", SKIP) else f"{problem.fix}, or pass over it:  "
            raise InputError(replace(problem, fix=f"{mend}{SKIP}"))
        self.count += 1
        if len(self.first) < KEPT_PROBLEMS:
            self.first.append(replace(problem, fix=_MEND) if problem.fix == SKIP else problem)

    def check(self, rows: int, file: str) -> None:
        """Raise `InputError` when more than 1 % of all `rows`, bad ones included, could not be used.

        It holds the first five problems and, last, how many there were.
        """
        if self.count * BAD_SHARE <= rows:
            return
        share = 100 * self.count / max(rows, 1)
        what = f"{self.count:,} of {rows:,} rows cannot be used ({share:.1f} %, at most 1 % are skipped)"
        fix = f"mend these rows, or leave them out:  localtune data check {typed(file)} --fix bad -o clean.jsonl"
        raise InputError(*self.first, Problem("data.too-many-bad", what, file, fix=fix))
