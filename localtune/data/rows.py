"""Rows of a data file, read strictly and one at a time.

JSONL is bytes split on the newline byte only, so a line separator inside a string stays inside it; UTF-8 is strict, a
byte order mark and CRLF are accepted, blank lines are passed over. A `.txt` file is one document, its CRLF become
newlines. Every row is exact or a `Problem` with file, line and reason: NaN and Infinity, duplicate keys, NUL, lone
surrogates, numbers and nesting beyond what can be read, and whatever is not a JSON object. Nothing but
`LocaltuneError` is raised for the content of a file.
"""

import json
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Never

from localtune.errors import InputError, Problem, safe
from localtune.model.json_object import unique

BAD_SHARE = 100
"""With `on_error: skip`, at most one row in this many may be unusable."""
KEPT_PROBLEMS = 5
SKIP = "--set data.on_error=skip"
_WINDOW = 40


@dataclass(frozen=True)
class Place:
    """Where a row stands."""

    file: str
    line: int
    """Counted from 1; 1 for a document. In files without lines (JSON arrays, Parquet): the row's number."""
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
    """Rows of one file that cannot be used: the first one stops, or they are counted."""

    on_error: Literal["stop", "skip"]
    count: int = 0
    first: list[Problem] = field(default_factory=list)
    """At most five."""

    def add(self, problem: Problem) -> None:
        """Raise `InputError` with the problem, or count it."""
        if self.on_error == "stop":
            raise InputError(problem)
        self.count += 1
        if len(self.first) < KEPT_PROBLEMS:
            self.first.append(problem)

    def check(self, rows: int, file: str) -> None:
        """Raise `InputError` when more than 1 % of all `rows`, bad ones included, could not be used."""
        if self.count * BAD_SHARE <= rows:
            return
        share = 100 * self.count / max(rows, 1)
        what = f"{self.count:,} of {rows:,} rows cannot be used ({share:.1f} %, at most 1 % are skipped)"
        evidence = "\n".join(f"{problem.where}  {problem.what}" for problem in self.first)
        raise InputError(Problem("data.too-many-bad", what, file, evidence, fix="mend or remove these rows"))


def read_rows(path: Path, bad: BadRows, shown: str = "") -> Iterator[Row]:
    """Rows of the `.jsonl` or `.txt` file at `path`, lazily; unusable ones go to `bad`.

    `shown` is the file's name in messages. Raises `InputError` for a file that is missing, empty, a folder or of
    another kind, at once and not at the first row.
    """
    shown = shown or str(path)
    check_file(path, shown)
    return _document(path, shown, bad) if path.suffix.lower() == ".txt" else _lines(path, shown, bad)


def check_file(path: Path, shown: str) -> None:
    """Raise `InputError` unless `path` is a file of a kind that is read, and not empty."""
    kinds = "a .jsonl file (one JSON object a line) or a .txt file (one document)"
    if path.is_dir():
        inner = next((f for f in ("train.jsonl", "data.jsonl") if (path / f).is_file()), "FILE.jsonl")
        fix = f"name a file in it: {shown.rstrip('/')}/{inner}"
        raise InputError(Problem("data.folder", f"is a folder; name {kinds}", shown, fix=fix))
    if path.suffix.lower() not in (".jsonl", ".txt"):
        fix = "jq -c '.[]' data.json > data.jsonl" if path.suffix == ".json" else "save it as .jsonl or .txt"
        what = f"files of kind {path.suffix or '(no suffix)'} are not read; what works is {kinds}"
        raise InputError(Problem("data.suffix", what, shown, fix=fix))
    try:
        with path.open("rb") as file:
            empty = not file.read(4).removeprefix(b"\xef\xbb\xbf")
    except FileNotFoundError:
        fix = "check the path; in a recipe it counts from the recipe's folder"
        raise InputError(Problem("data.missing", "no such file", shown, fix=fix)) from None
    except OSError as error:
        raise InputError(Problem("data.unreadable", f"cannot be read: {error.strerror}", shown)) from None
    if empty:
        raise InputError(Problem("data.empty", "the file is empty", shown, fix="name a file with rows"))


def _document(path: Path, shown: str, bad: BadRows) -> Iterator[Row]:
    place = Place(shown, 1)
    raw = path.read_bytes().removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n")
    problem = None
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        problem = Problem("data.utf8", f"is not UTF-8: {error.reason}", f"{shown}:{line}", fix="save it as UTF-8")
    else:
        if "\0" in text:
            problem = Problem("data.nul", "holds NUL characters, so it is no text file", shown, fix="save it as UTF-8")
    if problem:
        bad.add(problem)
    elif text.strip():
        yield Row(place, {"text": text})
    else:
        raise InputError(Problem("data.empty", "the file holds only blanks", shown, fix="name a file with text"))


def _lines(path: Path, shown: str, bad: BadRows) -> Iterator[Row]:
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            if number == 1:
                raw = raw.removeprefix(b"\xef\xbb\xbf")
            if not raw.strip():
                continue
            value = parse_line(raw.removesuffix(b"\n").removesuffix(b"\r"), Place(shown, number))
            if isinstance(value, Problem):
                bad.add(value)
            else:
                yield Row(Place(shown, number), value)


def parse_line(raw: bytes, place: Place) -> dict[str, Any] | Problem:
    """The JSON object of one line, or what is wrong with it."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode("utf-8")
        shown = before + raw[error.start :].decode("utf-8", "backslashreplace")
        return _problem(place, "data.utf8", f"not UTF-8: {error.reason}", shown, len(before))
    try:
        value = json.loads(text, parse_constant=_no_constant, object_pairs_hook=unique)
        fault = _bad_text(value) if "\\u" in text else ""
    except json.JSONDecodeError as error:
        return _problem(place, "data.json", f"not JSON: {error.msg.lower()}", text, error.pos)
    except RecursionError:
        return _problem(place, "data.json", "nested too deeply", text)
    except ValueError as error:
        constant = str(error).partition(" ")[0]
        at = text.find(constant) if constant.lstrip("-") in ("NaN", "Infinity") else None
        return _problem(place, "data.json", f"not JSON that can be read: {error}", text, at)
    if fault:
        return _problem(place, "data.json", fault, text)
    if not isinstance(value, dict):
        kind = {list: "a list", str: "a string", type(None): "null"}.get(type(value), "a number or truth value")
        return _problem(place, "data.json", f"a row is a JSON object such as {{…}}, this is {kind}", text)
    return value


def _no_constant(name: str) -> Never:
    raise ValueError(f"{name} is no JSON number")


def _bad_text(value: Any) -> str:
    """What is wrong with a string anywhere in `value`, or ""."""
    if isinstance(value, str):
        if "\0" in value:
            return "a string holds the NUL character \\u0000"
        return "a string holds half a surrogate pair" if any("\ud800" <= c <= "\udfff" for c in value) else ""
    if isinstance(value, dict):
        return next((fault for pair in value.items() for part in pair if (fault := _bad_text(part))), "")
    if isinstance(value, list):
        return next((fault for part in value if (fault := _bad_text(part))), "")
    return ""


def _problem(place: Place, code: str, what: str, text: str, at: int | None = None) -> Problem:
    where = str(place) if at is None else f"{place}:{at + 1}"
    return Problem(code, what, where, _window(text, at), SKIP)


def _window(text: str, at: int | None) -> str:
    """The line around `at`, shortened, with a caret below; its beginning when there is no place."""
    if at is None:
        return safe(text[: 2 * _WINDOW]) + ("…" if len(text) > 2 * _WINDOW else "")
    start = max(0, at - _WINDOW)
    before = ("…" if start else "") + safe(text[start:at])
    after = safe(text[at : at + _WINDOW]) + ("…" if len(text) > at + _WINDOW else "")
    width = sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in before)
    return f"{before}{after}\n{' ' * width}^"
