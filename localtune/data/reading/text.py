"""Bytes as text, a bad byte never lost and never passed on: it becomes a mark that no sound text holds.

The marks are the lone surrogates U+DC00 + byte, which strict UTF-8, UTF-16 and the older encodings never give. Lines
are exact: with `newline="\\n"` they end at the newline character only, with `newline=""` also at CR LF and CR, and
nothing is translated.
"""

import codecs
import io
import re
from collections.abc import Iterator
from functools import partial
from typing import BinaryIO

from localtune.data.reading.file import LONGEST
from localtune.data.reading.window import window
from localtune.data.rows import Place
from localtune.errors import InputError, Problem
from localtune.typed import typed

ERRORS = "localtune.marked"
_MARK = re.compile("[\udc00-\udcff]")


def text_of(stream: BinaryIO, codec: str, newline: str = "") -> io.TextIOWrapper:
    """`stream` as text; bad bytes are marks."""
    return io.TextIOWrapper(stream, encoding=codec, errors=ERRORS, newline=newline)


def lines_of(text: io.TextIOWrapper, shown: str) -> Iterator[str]:
    """Lines with their ends. Raises `InputError` for a line of more than `LONGEST` characters."""
    for number, line in enumerate(iter(partial(text.readline, LONGEST), ""), start=1):
        if len(line) >= LONGEST:
            raise too_long(Place(shown, number))
        yield line


def too_long(place: Place) -> InputError:
    """The error for a line that is longer than any row may be."""
    what = f"a line of more than {LONGEST // 2**20} MiB; a row is one line"
    return InputError(Problem("data.long-line", what, str(place), fix=f"head -c 300 {typed(place.file)}"))


def is_clean(text: str) -> bool:
    """Whether `text` holds no mark and no other lone surrogate."""
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def first_mark(text: str) -> int:
    """Index of the first mark in `text`; 0 where there is none."""
    match = _MARK.search(text)
    return match.start() if match else 0


def bad_byte(text: str, place: Place, codec: str, before: int = 0) -> Problem:
    """The problem for the first mark in `text`, which stands on the line of `place` after `before` characters."""
    at = first_mark(text)
    name = "UTF-8" if codec.startswith("utf-8") else codec.upper().replace("_", "-")
    what = f"not {name}: byte 0x{ord(text[at]) & 0xFF:02x}"
    return Problem(
        "data.encoding", what, f"{place}:{before + at + 1}", window(unmarked(text), at), "mend or remove this row"
    )


def unmarked(text: str) -> str:
    r"""`text` with the marks as \xNN."""
    return _MARK.sub(lambda found: f"\\x{ord(found.group()) & 0xFF:02x}", text)


def _mark(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "".join(chr(0xDC00 + byte) for byte in error.object[error.start : error.end]), error.end


codecs.register_error(ERRORS, _mark)
