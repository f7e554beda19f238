"""Text files: documents, whole. Nothing is lost but the separators, and documents of blanks only.

CR LF becomes a newline. A document's line is the one it begins at. With a separator the memory in use is that of the
largest document; without one the file is one document.
"""

from collections.abc import Iterator
from typing import BinaryIO, TextIO

from localtune.data.reading.file import File, opened
from localtune.data.reading.text import bad_byte, first_mark, is_clean, text_of, unmarked
from localtune.data.reading.window import window
from localtune.data.rows import BadRows, Place, Row
from localtune.errors import Problem
from localtune.typed import typed

_CHUNK = 2**20


def rows(file: File, number: int, bad: BadRows, separator: str | None) -> Iterator[Row]:
    """Documents of `file`, the one with this `number`, as rows {"text": …}; unusable ones go to `bad`."""
    with opened(file) as stream:
        yield from rows_of(stream, file, number, bad, separator)


def rows_of(stream: BinaryIO, file: File, number: int, bad: BadRows, separator: str | None) -> Iterator[Row]:
    """The same for the bytes of `file`."""
    line, column = 1, 0
    for text, ended in _documents(_chunks(text_of(stream, file.codec)), separator):
        blank = len(text) - len(text.lstrip())
        if blank < len(text):
            if problem := _fault(text, Place(file.shown, line), column, file.codec):
                bad.add(problem)
            else:
                yield Row(Place(file.shown, line + text.count("\n", 0, blank), number), {"text": text})
        for passed in (text, ended):
            begin = passed.rfind("\n") + 1
            line, column = line + passed.count("\n"), len(passed) - begin + (0 if begin else column)


def holds(file: File, separator: str, most: int) -> bool:
    """Whether `separator` is in the first `most` characters of `file`."""
    with opened(file) as stream:
        looked, rest = 0, ""
        for chunk in _chunks(text_of(stream, file.codec)):
            if separator in rest + chunk:
                return True
            looked, rest = looked + len(chunk), (rest + chunk)[-len(separator) :]
            if looked >= most:
                return False
    return False


def _chunks(text: TextIO) -> Iterator[str]:
    """The text with CR LF as newlines; a CR at the end of a piece waits for what follows."""
    held = ""
    while piece := text.read(_CHUNK):
        piece = held + piece
        held = "\r" if piece.endswith("\r") else ""
        yield piece.removesuffix("\r").replace("\r\n", "\n")
    yield held


def _documents(chunks: Iterator[str], separator: str | None) -> Iterator[tuple[str, str]]:
    """Documents, each with the separator that ends it; the last with ""."""
    if separator is None:
        yield "".join(chunks), ""
        return
    rest: list[str] = []
    tail = ""
    for chunk in chunks:
        *whole, last = (tail + chunk).split(separator)
        for piece in whole:
            yield "".join(rest) + piece, separator
            rest = []
        cut = max(0, len(last) - len(separator) + 1)
        rest.append(last[:cut])
        tail = last[cut:]
    yield "".join(rest) + tail, ""


def _fault(text: str, place: Place, column: int, codec: str) -> Problem | None:
    """What is wrong with a document that begins at `place` after `column` characters of the line."""
    clean, at = is_clean(text), text.find("\0")
    if at < 0 and clean:
        return None
    at = at if clean else first_mark(text)
    begin, end = text.rfind("\n", 0, at) + 1, text.find("\n", at)
    shown, there = text[begin : end if end >= 0 else None], Place(place.file, place.line + text.count("\n", 0, at))
    before = 0 if begin else column
    if not clean:
        return bad_byte(shown, there, codec, before)
    what = "the document holds NUL characters, so it is no text"
    fix = f"tr -d '\\000' < {typed(place.file)} > clean.txt"
    return Problem("data.nul", what, f"{there}:{before + at - begin + 1}", window(unmarked(shown), at - begin), fix)
