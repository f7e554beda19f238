"""What became of the data, in numbers and sentences; `to_json` and `from_json` are inverse to each other.

All counts are exact. Tokens and targets are those of the segments after cutting; percentiles are of segment lengths.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from localtune.batch import Segment
from localtune.data.fit import Fitted
from localtune.errors import InputError, Problem, safe

FORMAT = 1
KEPT_LINES = 5


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
    neutralised_lines: tuple[int, ...]
    """The first of them, counted from 1."""
    length_p50: int
    """Tokens of a segment: median."""
    length_p95: int
    longest: int
    longest_line: int
    """0 when there is no row."""


@dataclass(frozen=True)
class Losses:
    """Rows of a file that are not in use."""

    file: str
    skipped: int
    """Unusable rows."""
    skipped_first: tuple[str, ...]
    """Place and reason of the first."""
    dropped: int
    """Too long, and dropped as asked."""
    dropped_lines: tuple[int, ...]


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
    """One per file that was read."""
    notes: tuple[str, ...]
    """What a person should know, in sentences."""

    def to_json(self) -> dict[str, Any]:
        """Plain values, with the format's version."""
        return {"format": FORMAT} | asdict(self)


def from_json(value: dict[str, Any], where: str = "report.json") -> Report:
    """The report `to_json` was asked for. Raises `InputError` (run.unreadable, at `where`) for anything else."""
    try:
        fields = {name: entry for name, entry in checked_format(value).items() if name != "format"}
        fields |= {name: Part(**_tupled(value[name])) for name in ("train", "valid", "test")}
        fields["losses"] = tuple(Losses(**_tupled(entry)) for entry in value["losses"])
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


def part(file: str, rows: Sequence[Fitted]) -> Part:
    """The numbers of `rows`, all of them in use."""
    segments = [segment for row in rows for segment in row.row.segments]
    lengths = np.array([len(segment.tokens) for segment in segments] or [0])
    longest: Segment | None = segments[int(lengths.argmax())] if segments else None
    held = [row.row.place.line for row in rows if row.row.held]
    return Part(
        file=file,
        rows=len(rows),
        segments=len(segments),
        tokens=int(lengths.sum()),
        targets=sum(segment.targets for segment in segments),
        cut=sum(row.cut for row in rows),
        neutralised=len(held),
        neutralised_lines=tuple(held[:KEPT_LINES]),
        length_p50=int(np.percentile(lengths, 50, method="higher")),
        length_p95=int(np.percentile(lengths, 95, method="higher")),
        longest=int(lengths.max()),
        longest_line=longest.source if longest else 0,
    )


def _tupled(value: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(entry) if isinstance(entry, list) else entry for key, entry in value.items()}
