"""What became of the data, in numbers and sentences; `to_json` and `from_json` are inverse to each other.

All counts are exact. Tokens and targets are those of the segments after cutting; percentiles are of segment lengths.
Reports that were written before a figure existed are read with that figure at its default.
"""

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from localtune.batch import Segment
from localtune.data.fit import Fitted
from localtune.data.segments import Longs, lengths, targets
from localtune.errors import InputError, Problem, safe

FORMAT = 1
KEPT_LINES = 5
"""Rows that are named."""
_LINE_BITS = 40
"""Of a source: the line; the number of its file stands above."""


@dataclass(frozen=True)
class Part:
    """Training, validation or test rows."""

    file: str
    rows: int
    """Rows in use."""
    segments: int
    tokens: int
    targets: int
    """Tokens that are learned, or scored."""
    cut: int
    """Rows of which only the first max_tokens tokens are used."""
    neutralised: int
    """Rows that hold strings of control tokens as text."""
    neutralised_places: tuple[str, ...]
    """The first of them, as file:line."""
    length_p50: int
    """Tokens of a segment: median."""
    length_p95: int
    longest: int
    longest_place: str
    """The row it comes from, as file:line; "" when there is none."""
    cut_tokens: int = 0
    """Tokens of these rows that are not used because they lie behind max_tokens."""
    cut_targets: int = 0
    """Those of them that would have been learned."""
    cut_answers: int = 0
    """Rows of which a part of what is to be learned is cut away."""
    split: int = 0
    """Rows that are several pieces, nothing cut away."""
    split_firsts: int = 0
    """First tokens of pieces after the first: nothing precedes them, so they are not learned."""


@dataclass(frozen=True)
class Losses:
    """Rows of a file, or of files read as one, that are not in use."""

    file: str
    skipped: int
    """Unusable rows."""
    skipped_first: tuple[str, ...]
    """Place and reason of the first."""
    dropped: int
    """Too long, and dropped as asked."""
    dropped_first: tuple[str, ...]
    """The first of them, as file:line."""
    answers_cut: int = 0
    """Unusable rows whose whole answer lies behind max_tokens."""


@dataclass(frozen=True)
class Report:
    """What a run's data is."""

    shape: str
    why: str
    """The shape and what decided it."""
    end_of_turn: str
    """The token that ends an answer; "" when the template writes none and eos is appended."""
    tokenizer: str
    """Fingerprint of its files."""
    train: Part
    valid: Part
    test: Part
    losses: tuple[Losses, ...]
    """One per name that was read."""
    notes: tuple[str, ...]
    """What a person should know, in sentences."""
    files: tuple[str, ...] = ()
    """All files that were read, as shown; the number in a segment's source counts them."""
    hashes: tuple[str, ...] = ()
    """SHA-256 of each of them; the commit of a data set of the hub."""

    def to_json(self) -> dict[str, Any]:
        """Plain values, with the format's version."""
        return {"format": FORMAT} | asdict(self)


class RowFigures:
    """The figures of rows, one by one, without the rows: 48 bytes each."""

    def __init__(self) -> None:
        self._columns = [array("q") for _ in range(6)]

    def __len__(self) -> int:
        return len(self._columns[0])

    def add(self, row: Fitted) -> None:
        """One row in use."""
        figures = (row.row.place.id, row.cut, row.cut_tokens, row.cut_targets, row.pieces, row.row.held > 0)
        for column, figure in zip(self._columns, figures, strict=True):
            column.append(int(figure))

    def part(self, file: str, segments: Sequence[Segment], files: Sequence[str], rows: Longs | None = None) -> Part:
        """The numbers of the rows with the indices `rows` (None = all), whose segments are `segments`.

        `files`: names by number, for places.
        """
        chosen = slice(None) if rows is None else rows
        sources, cut, tokens, lost, pieces, held = (np.array(column, np.int64)[chosen] for column in self._columns)
        sizes = lengths(segments) if len(segments) else np.zeros(1, np.int64)
        longest = segments[int(sizes.argmax())].source if len(segments) else None
        return Part(
            file=file,
            rows=len(sources),
            segments=len(segments),
            tokens=int(sizes.sum()),
            targets=int(targets(segments).sum()),
            cut=int(cut.sum()),
            neutralised=int(held.sum()),
            neutralised_places=tuple(_place(files, int(source)) for source in sources[held > 0][:KEPT_LINES]),
            length_p50=int(np.percentile(sizes, 50, method="higher")),
            length_p95=int(np.percentile(sizes, 95, method="higher")),
            longest=int(sizes.max()),
            longest_place="" if longest is None else _place(files, longest),
            cut_tokens=int(tokens.sum()),
            cut_targets=int(lost.sum()),
            cut_answers=int(np.count_nonzero(lost)),
            split=int(np.count_nonzero(pieces)),
            split_firsts=int(pieces.sum()),
        )


def part(file: str, rows: Iterable[Fitted]) -> Part:
    """The numbers of `rows`, all of them in use and in memory."""
    figures, segments, files = RowFigures(), list[Segment](), dict[int, str]()
    for row in rows:
        figures.add(row)
        segments += row.row.segments
        files[row.row.place.number] = row.row.place.file
    return figures.part(file, segments, [files.get(number, file) for number in range(max(files, default=0) + 1)])


def place(report: Report, source: int) -> str:
    """Where the row with the id `source` stands, as file:line."""
    return _place(report.files or (report.train.file,), source)


def _place(files: Sequence[str], source: int) -> str:
    number, line = source >> _LINE_BITS, source & ((1 << _LINE_BITS) - 1)
    return f"{files[number] if number < len(files) else f'file {number + 1}'}:{line}"


def from_json(value: dict[str, Any], where: str = "report.json") -> Report:
    """The report `to_json` was asked for. Raises `InputError` (run.unreadable, at `where`) for anything else."""
    try:
        fields = {name: entry for name, entry in checked_format(value).items() if name != "format"}
        fields |= {name: Part(**_with_places(value[name])) for name in ("train", "valid", "test")}
        fields["losses"] = tuple(Losses(**_with_places(entry)) for entry in value["losses"])
        return Report(**_tupled(fields))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise unreadable(where, error) from None


def checked_format(value: dict[str, Any]) -> dict[str, Any]:
    """`value`, once it is known to have our format. Raises `ValueError`."""
    if value.get("format") != FORMAT:
        raise ValueError(f"format {safe(repr(value.get('format')), 40)} is not known")
    return value


def unreadable(where: str, error: Exception) -> InputError:
    """What to tell of a file of prepared data that is missing, torn or foreign."""
    reason = f"{error} is missing" if isinstance(error, KeyError) else getattr(error, "strerror", None) or str(error)
    what = f"cannot be read as the data of a run: {safe(reason, 200)}"
    return InputError(Problem("run.unreadable", what, where, fix="start a new run"))


def _with_places(entry: dict[str, Any]) -> dict[str, Any]:
    """The fields of a part or of losses; reports of one file used to hold lines alone."""
    fields = _tupled(entry)
    for old, new in (("neutralised_lines", "neutralised_places"), ("dropped_lines", "dropped_first")):
        if old in fields:
            fields[new] = tuple(f"{fields['file']}:{line}" for line in fields.pop(old))
    if "longest_line" in fields:
        line = fields.pop("longest_line")
        fields["longest_place"] = f"{fields['file']}:{line}" if line else ""
    return fields


def _tupled(value: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(entry) if isinstance(entry, list) else entry for key, entry in value.items()}
