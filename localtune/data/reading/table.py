"""CSV and TSV: the first record names the columns, every other record has as many cells, and all cells are text.

As RFC 4180 and Python's csv read them, strictly: quotes may hold delimiters and line ends, which stay as they are; a
record's line is the one it begins at. Names of columns lose the blanks around them, cells nothing. A record with more
or fewer cells than the header is a problem with both counts; one that misplaced quotes stretch over several lines
counts as a problem of each. What would misplace all that follows (a quote that is never closed) ends the reading.
"""

import csv
from collections.abc import Iterator
from dataclasses import replace
from typing import BinaryIO

from localtune.data.reading.file import LONGEST, File, opened
from localtune.data.reading.text import bad_byte, is_clean, lines_of, text_of, unmarked
from localtune.data.reading.window import window
from localtune.data.rows import BadRows, Place, Row
from localtune.errors import InputError, Problem, safe
from localtune.typed import typed

_DELIMITERS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a vertical bar"}
_MEND = "mend or remove this row"


def rows(file: File, number: int, bad: BadRows) -> Iterator[Row]:
    """Rows of `file`, the one with this `number`; unusable ones go to `bad`."""
    with opened(file) as stream:
        yield from rows_of(stream, file, number, bad)


def rows_of(stream: BinaryIO, file: File, number: int, bad: BadRows) -> Iterator[Row]:
    """The same for the bytes of `file`."""
    records = _Records(lines_of(text_of(stream, file.codec), file.shown), file.delimiter, file)
    header = records.header()
    while (cells := records.next(bad, number)) is not None:
        place = Place(file.shown, records.line, number)
        if problem := records.fault(cells, header, place):
            bad.add(problem)
        else:
            yield Row(place, dict(zip(header, cells, strict=True)))
    if records.read == 1:
        names = safe(", ".join(header), 200)
        what = f"holds one line and no rows; the first line names the columns: {names}"
        raise InputError(Problem("data.empty", what, file.shown, fix="if it is a row, put a line with names above it"))


def delimiter_of(file: File) -> str:
    """What separates the cells of the header: that of , ; tab | which gives the most; a comma where none does."""
    if file.kind == "tsv":
        return "\t"
    with opened(file) as stream:
        begin = list(_first_lines(lines_of(text_of(stream, file.codec), file.shown)))
    counts = {mark: _cells(begin, mark) for mark in _DELIMITERS}
    return max(counts, key=lambda mark: counts[mark])


def name_of(delimiter: str) -> str:
    """The delimiter in words."""
    return _DELIMITERS[delimiter]


def check_header(file: File) -> None:
    """Raise `InputError` unless the first record of `file` can name the columns."""
    with opened(file) as stream:
        _Records(lines_of(text_of(stream, file.codec), file.shown), file.delimiter, file).header()


def _first_lines(lines: Iterator[str]) -> Iterator[str]:
    """The first line that is not blank, and up to 20 more for line ends inside its quotes."""
    for _, line in zip(range(21), (line for line in lines if line.strip()), strict=False):
        yield line


def _cells(begin: list[str], delimiter: str) -> int:
    try:
        return len(next(csv.reader(begin, delimiter=delimiter, strict=True), []))
    except csv.Error:
        return 0


class _Records:
    """Records, and the lines they stand on."""

    def __init__(self, lines: Iterator[str], delimiter: str, file: File) -> None:
        csv.field_size_limit(LONGEST)
        self._file = file
        self._lines = lines
        self._reader = csv.reader(self._watched(), delimiter=delimiter, strict=True)
        self._unsound: tuple[int, str] | None = None
        self._last = ""
        self.read = 0
        """Records that are not blank, the header among them."""
        self.line = 1
        """At which the record begins that `next` gave."""

    def header(self) -> list[str]:
        """The names of the columns."""
        bad = BadRows("skip")
        cells = self.next(bad, 0)
        place = Place(self._file.shown, self.line)
        if bad.first:
            raise InputError(bad.first[0])
        if cells is None:
            what = "holds only blank lines; the first line must name the columns"
            raise InputError(Problem("data.empty", what, self._file.shown, fix="name a file with rows"))
        if self._unsound:
            raise InputError(self._unsound_line(place))
        names = [cell.strip() for cell in cells]
        fault = _header_fault(names)
        if fault:
            what = f"the first line must name the columns, {fault}"
            shown = window(self._file.delimiter.join(cells))
            raise InputError(Problem("data.header", what, str(place), shown, "give each column a name of its own"))
        return names

    def next(self, bad: BadRows, number: int) -> list[str] | None:
        """The cells of the next record that is not blank; None at the end."""
        while True:
            self.line, self._unsound, self._last = self._reader.line_num + 1, None, ""
            try:
                cells = next(self._reader)
            except StopIteration:
                return None
            except csv.Error as error:
                self.read += 1
                problem = self._broken(error, Place(self._file.shown, self.line, number))
                for line in range(self.line, self._reader.line_num + 1):
                    bad.add(replace(problem, where=f"{self._file.shown}:{line}"))
                continue
            if cells:
                self.read += 1
                return cells

    def fault(self, cells: list[str], header: list[str], place: Place) -> Problem | None:
        """What is wrong with a record."""
        if self._unsound:
            return self._unsound_line(place)
        if len(cells) == len(header):
            return None
        wanted = f"{len(header)} column{'s' * (len(header) != 1)}"
        lines = f" (lines {self.line} to {self._reader.line_num})" if self._reader.line_num > self.line else ""
        what = f"has {len(cells)} cell{'s' * (len(cells) != 1)}{lines}, the header {wanted}"
        fix = 'quote cells that hold the delimiter: "a, b"' if len(cells) > len(header) else _MEND
        return Problem("data.ragged", what, str(place), window(self._file.delimiter.join(cells)), fix)

    def _watched(self) -> Iterator[str]:
        """The lines; the first unsound one of a record is remembered."""
        for number, line in enumerate(self._lines, start=1):
            self._last = line
            if self._unsound is None and ("\0" in line or not is_clean(line)):
                self._unsound = (number, line)
            yield line

    def _unsound_line(self, place: Place) -> Problem:
        number, line = self._unsound or (place.line, "")
        at = line.find("\0")
        if at < 0:
            return bad_byte(line, Place(place.file, number), self._file.codec)
        fix = f"tr -d '\\000' < {typed(place.file)} > clean.csv"
        where = f"{place.file}:{number}:{at + 1}"
        return Problem("data.nul", "holds a NUL character", where, window(unmarked(line), at), fix)

    def _broken(self, error: csv.Error, place: Place) -> Problem:
        """The problem of one record; raises where what follows cannot be told from it."""
        text = str(error)
        if "unexpected end" in text or "field limit" in text:
            what = "a quote opens in this record and is never closed, so where the next record begins is not known"
            fix = 'close it, and write a quote inside a cell twice: "say ""yes"""'
            raise InputError(Problem("data.quote", what, str(place), window(unmarked(self._last)), fix)) from None
        lines = f", and lines {place.line} to {self._reader.line_num} are lost" * (self._reader.line_num > place.line)
        what = f"quotes are misplaced: {safe(text)}{lines}"
        fix = 'write a quote inside a cell twice: "say ""yes"""'
        return Problem("data.quote", what, str(place), window(unmarked(self._last)), fix)


def _header_fault(names: list[str]) -> str:
    if "" in names:
        return f"column {names.index('') + 1} of {len(names)} has no name"
    twice = next((name for at, name in enumerate(names) if name in names[:at]), None)
    return "" if twice is None else f"{safe(twice, 80)!r} is there twice"
