"""JSON Lines: bytes split at the newline byte only, so a line separator inside a string stays inside it.

A byte order mark, CRLF and blank lines are accepted; every other line is one JSON object, exact, or a `Problem` with
file, line and, where there is one, column. The encoding is UTF-8 or UTF-16; RFC 8259 knows no other.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any, BinaryIO

from localtune.data.reading.file import LONGEST, File, opened
from localtune.data.reading.strict import Fault, not_an_object, parse
from localtune.data.reading.text import bad_byte, is_clean, lines_of, text_of, too_long
from localtune.data.reading.window import window
from localtune.data.rows import BadRows, Place, Row
from localtune.errors import Problem

MEND = "mend or remove this line"


def rows(file: File, number: int, bad: BadRows) -> Iterator[Row]:
    """Rows of `file`, the one with this `number`; unusable ones go to `bad`."""
    with opened(file) as stream:
        yield from rows_of(stream, file, number, bad)


def rows_of(stream: BinaryIO, file: File, number: int, bad: BadRows) -> Iterator[Row]:
    """The same for the bytes of `file`."""
    utf8 = file.codec in ("utf-8", "utf-8-sig")
    return _of_bytes(stream, file, number, bad) if utf8 else _of_text(stream, file, number, bad)


def parse_line(raw: bytes, place: Place) -> dict[str, Any] | Problem:
    """The JSON object of one line, or what is wrong with it."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode("utf-8")
        shown = before + raw[error.start :].decode("utf-8", "backslashreplace")
        what = f"not UTF-8: byte 0x{raw[error.start]:02x}, {error.reason}"
        return Problem("data.encoding", what, f"{place}:{len(before) + 1}", window(shown, len(before)), MEND)
    return _parsed(text, place)


def _of_bytes(stream: BinaryIO, file: File, number: int, bad: BadRows) -> Iterator[Row]:
    for line, raw in enumerate(iter(partial(stream.readline, LONGEST), b""), start=1):
        if line == 1:
            raw = raw.removeprefix(b"\xef\xbb\xbf")
        if raw.isspace() or not raw:
            continue
        place = Place(file.shown, line, number)
        if len(raw) >= LONGEST:
            raise too_long(place)
        value = parse_line(raw.removesuffix(b"\n").removesuffix(b"\r"), place)
        if isinstance(value, Problem):
            bad.add(value)
        else:
            yield Row(place, value)


def _of_text(stream: BinaryIO, file: File, number: int, bad: BadRows) -> Iterator[Row]:
    for line, text in enumerate(lines_of(text_of(stream, file.codec, "\n"), file.shown), start=1):
        if not text.strip():
            continue
        place = Place(file.shown, line, number)
        value = _parsed(text.rstrip("\r\n"), place) if is_clean(text) else bad_byte(text, place, file.codec)
        if isinstance(value, Problem):
            bad.add(value)
        else:
            yield Row(place, value)


def _parsed(text: str, place: Place) -> dict[str, Any] | Problem:
    value = parse(text)
    if isinstance(value, dict):
        return value
    fault = value if isinstance(value, Fault) else Fault(not_an_object(value))
    where = str(place) if fault.at is None else f"{place}:{fault.at + 1}"
    return Problem("data.json", fault.what, where, window(text, fault.at), MEND)
