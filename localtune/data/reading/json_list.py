"""JSON files: a list of objects, or an object whose one list holds them, such as {"data": [...]}; one row at a time.
An object that is a row by itself is one row.

A row's place is its number, counted from 1; a problem names the line and column of the file where the row or the fault
stands. The file is never in memory as a whole: a window of text grows only as long as one value does. What breaks the
list (a fault of syntax, text after its end) ends the reading, because the next row cannot be found; what is wrong
inside a row is that row's problem.
"""

import json
from collections.abc import Iterator
from typing import Any, BinaryIO, Never, TextIO

from localtune.data.reading.file import LONGEST, File, opened
from localtune.data.reading.strict import (
    LENIENT,
    STRICT,
    TOO_DEEP,
    TOO_MANY,
    Fault,
    bad_text,
    explained,
    not_an_object,
    too_deep,
    too_many,
)
from localtune.data.reading.text import bad_byte, first_mark, is_clean, text_of, unmarked
from localtune.data.reading.window import window
from localtune.data.rows import BadRows, Place, Row
from localtune.errors import InputError, Problem, safe
from localtune.typed import typed

_CHUNK = 2**20
_BLANK = " \t\r\n"
_UNSURE = 16
"""Characters before the end of the window within which a fault may be the window's and not the file's."""
_TURNS = ("messages", "conversations", "conversation", "dialog", "dialogue", "chosen", "rejected")
"""Keys whose list belongs to one row."""
_MEND = "mend or remove this row"


def rows(file: File, number: int, bad: BadRows) -> Iterator[Row]:
    """Rows of `file`, the one with this `number`; unusable ones go to `bad`."""
    with opened(file) as stream:
        yield from rows_of(stream, file, number, bad)


def rows_of(stream: BinaryIO, file: File, number: int, bad: BadRows) -> Iterator[Row]:
    """The same for the bytes of `file`."""
    text = _Window(text_of(stream, file.codec, "\n"), file)
    for row, value in enumerate(_values(text), start=1):
        place = Place(file.shown, row, number)
        if isinstance(value, dict):
            yield Row(place, value)
        else:
            bad.add(value if isinstance(value, Problem) else text.problem(not_an_object(value), row=row))
    if text.peek():
        text.refuse("there is text after the end of the list", f"{typed('jq', '-c', '.[]', file.shown)} > x.jsonl")


def is_one_row(value: Any) -> bool:
    """Whether an object is a row by itself: it holds turns, or neither lists nor objects."""
    if not isinstance(value, dict) or not value:
        return False
    return any(key in _TURNS for key in value) or not any(isinstance(inner, list | dict) for inner in value.values())


def _values(text: "_Window") -> Iterator[Any]:
    match text.peek():
        case "[":
            text.step()
            yield from _elements(text)
        case "{" if text.holds_one_row():
            yield text.value(1)
        case "{":
            text.step()
            yield from _only_list(text)
        case "":
            text.refuse("holds only blanks", "name a file with rows")
        case _:
            text.refuse("a .json file is a list of objects: [{…}, {…}]", f"check it:  jq type {typed(text.shown)}")


def _elements(text: "_Window") -> Iterator[Any]:
    """What stands in the list whose bracket was read, up to the closing one."""
    if text.peek() == "]":
        text.step()
        return
    row = 0
    while True:
        row += 1
        yield text.value(row)
        found = text.peek()
        if found not in (",", "]"):
            torn = "the file ends in the middle of the list" if not found else "not JSON: expecting ',' or ']'"
            text.refuse(f"{torn} (after row {row:,})")
        text.step()
        if found == "]":
            return


def _only_list(text: "_Window") -> Iterator[Any]:
    """The elements of the one list in the object whose brace was read."""
    key_of_list = None
    found = text.peek()
    while found != "}":
        key = text.key()
        if text.peek() == "[":
            _check_key(text, key, key_of_list)
            key_of_list = key
            text.step()
            if text.peek() not in ("{", "]"):
                text.refuse(f"the list under {key!r} holds no objects; a file of columns is not read", _OF_COLUMNS)
            yield from _elements(text)
        elif text.peek() == "{":
            text.refuse(
                "an object of objects; a .json file is a list of rows",
                f"{typed('jq', '-c', '.[]', text.shown)} > x.jsonl",
            )
        else:
            text.value(0)
        found = text.peek()
        if found not in (",", "}"):
            text.refuse("not JSON: expecting ',' or '}'" if found else "the file ends in the middle of the object")
        if found == ",":
            text.step()
    text.step()
    if key_of_list is None:
        text.refuse("one object and no list of rows", f"jq -c . {typed(text.shown)} > x.jsonl    # if it is one row")


_OF_COLUMNS = "write one object a row: [{…}, {…}]"


def _check_key(text: "_Window", key: str, earlier: str | None) -> None:
    if key in _TURNS:
        text.refuse(f"one row, with its {safe(key)}, and no list of rows", f"jq -c . {typed(text.shown)} > x.jsonl")
    if earlier is not None:
        what = f"two lists, under {safe(earlier, 80)!r} and {safe(key, 80)!r}; which holds the rows is not known"
        text.refuse(what, f"{typed('jq', '-c', f'.[{json.dumps(key)}][]', text.shown)} > x.jsonl")


def _decoded(text: str, at: int) -> tuple[Any | Fault, int]:
    """The value or what is wrong with it, and where it ends. Raises `JSONDecodeError` and `RecursionError`."""
    try:
        value, end = STRICT.raw_decode(text, at)
    except json.JSONDecodeError:
        raise
    except ValueError as error:
        _, end = LENIENT.raw_decode(text, at)
        return explained(error, text[at:end]), end
    return value, end


class _Window:
    """The part of the text that is in memory."""

    def __init__(self, stream: TextIO, file: File) -> None:
        self._stream, self._file = stream, file
        self.shown = file.shown
        self._text, self._at, self._ended = "", 0, False
        self._line, self._column = 1, 1
        self._begin = 0
        self._clean = True

    def peek(self) -> str:
        """The next character that is not blank; "" at the end."""
        while True:
            text, at, end = self._text, self._at, len(self._text)
            while at < end and text[at] in _BLANK:
                at += 1
            self._at = at
            if at < end:
                return text[at]
            if not self._more():
                return ""

    def step(self) -> None:
        """Pass over the character that `peek` gave."""
        self._at += 1

    def holds_one_row(self) -> bool:
        """Whether the object that stands here ends in the window, and is a row by itself."""
        try:
            return is_one_row(_decoded(self._text, self._at)[0])
        except (json.JSONDecodeError, RecursionError):
            return False

    def key(self) -> str:
        """The key that stands here, and its colon passed over."""
        if self.peek() != '"':
            self.refuse("not JSON: expecting a key in double quotes")
        key = self.value(0)
        if not isinstance(key, str) or self.peek() != ":":
            self.refuse("not JSON: expecting ':' after a key")
        self.step()
        return key

    def value(self, row: int) -> Any | Problem:
        """The value that stands here; a problem where it is JSON that is not read. Raises `InputError` for no JSON."""
        self.peek()
        while True:
            try:
                value, end = _decoded(self._text, self._at)
            except RecursionError:
                self.refuse(TOO_DEEP)
            except json.JSONDecodeError as error:
                if not self._may_go_on(error) or self._ended:
                    self.refuse(f"not JSON: {error.msg.lower().removesuffix(' at')}", at=error.pos)
                if too_many(self._text[self._at :]):
                    self.refuse(TOO_MANY)
                self._more()
                continue
            if end < len(self._text) or self._ended:
                return self._checked(value, end, row)
            self._more()

    def problem(self, what: str, row: int) -> Problem:
        """A problem of the value that was read last."""
        return Problem("data.json", f"{what} (row {row:,})", self._where(self._begin), fix=_MEND)

    def refuse(self, what: str, fix: str = "", at: int | None = None) -> Never:
        """Raise `InputError` for what stands here or at index `at` of the window."""
        at = self._at if at is None else at
        start = max(0, at - 100)
        shown = window(unmarked(self._text[start : at + 100]).replace("\n", " "), at - start)
        fix = fix or f"check it:  python3 -m json.tool {typed(self.shown)} > /dev/null"
        raise InputError(Problem("data.json", what, self._where(at), shown, fix))

    def _checked(self, value: Any, end: int, row: int) -> Any | Problem:
        fault = value if isinstance(value, Fault) else None
        begin, self._begin, self._at = self._at, self._at, end
        if not self._clean and not is_clean(text := self._text[begin:end]):
            first = first_mark(text)
            line = text[text.rfind("\n", 0, first) + 1 :].partition("\n")[0]
            return bad_byte(line, Place(self.shown, self._place(begin + first)[0]), self._file.codec)
        if fault is None and self._text.find("\\u", begin, end) >= 0 and (what := bad_text(value)):
            fault = Fault(what)
        if fault is None and too_deep(self._text[begin:end], value):
            fault = Fault(TOO_DEEP)
        if fault is None:
            return value
        shown = window(self._text[begin:end].replace("\n", " "), fault.at)
        return Problem("data.json", f"{fault.what} (row {row:,})", self._where(begin + (fault.at or 0)), shown, _MEND)

    def _may_go_on(self, error: json.JSONDecodeError) -> bool:
        """Whether the fault may be that the window ends here."""
        near_end = error.pos >= len(self._text) - _UNSURE or error.msg.startswith("Unterminated string")
        return near_end and len(self._text) - self._at < LONGEST

    def _more(self) -> bool:
        """Drop what was read and read on, twice as much as is kept; False at the end of the text."""
        if self._ended:
            return False
        self._line, self._column = self._place(self._at)
        kept = self._text[self._at :]
        piece = self._stream.read(max(_CHUNK, len(kept)))
        self._ended = not piece
        self._clean = is_clean(piece) and (self._clean or is_clean(kept))
        self._text, self._at, self._begin = kept + piece, 0, 0
        return not self._ended

    def _place(self, at: int) -> tuple[int, int]:
        """Line and column of index `at` of the window."""
        lines = self._text.count("\n", 0, at)
        column = at - self._text.rfind("\n", 0, at) if lines else self._column + at
        return self._line + lines, column

    def _where(self, at: int) -> str:
        line, column = self._place(at)
        return f"{self.shown}:{line}:{column}"
