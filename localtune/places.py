"""Where models are compared: up to 64 positions of each of up to 8 held-out rows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from localtune.batch import Ints, Segment
from localtune.data.prepared import Prepared
from localtune.data.segments import lengths

ROWS, POSITIONS, LONGEST = 8, 64, 512
"""Rows, positions of a row, tokens of a row."""


@dataclass(frozen=True, eq=False)
class Places:
    """P positions in R rows."""

    rows: tuple[Ints, ...]
    """Tokens of each row."""
    row: Ints
    """int32 [P]: index into `rows`."""
    at: Ints
    """int32 [P]: the position whose next token is asked for."""
    learned: Ints
    """int32 [P]: 1 where the next token is one that training learns."""

    def at_indices(self, kept: npt.NDArray[np.int64]) -> "Places":
        """Only the positions with these indices."""
        return Places(self.rows, self.row[kept], self.at[kept], self.learned[kept])

    @property
    def following(self) -> Ints:
        """int32 [P]: the token after each position."""
        return np.array([self.rows[r][a + 1] for r, a in zip(self.row, self.at, strict=True)], np.int32)


def rows_to_compare(prepared: Prepared) -> tuple[str, Sequence[Segment]]:
    """Rows that were not learned, and which they are; training rows where nothing was held out."""
    tests = [item.segment for item in prepared.test]
    named = (("validation", prepared.valid), ("test", tests), ("training", prepared.train))
    return next((name, rows) for name, rows in named if rows)


def places_in(segments: Sequence[Segment], context: int) -> Places:
    """Positions spread evenly over up to `ROWS` of the segments: the longest that need not be cut, else cut ones.

    `context`: the most tokens the model was made for.
    """
    longest = min(LONGEST, context)
    sizes = lengths(segments)
    long_first = np.argsort(-sizes, kind="stable")
    whole = long_first[(sizes[long_first] >= 2) & (sizes[long_first] <= longest)]
    chosen = [segments[int(i)] for i in [*whole[:ROWS], *np.flatnonzero(sizes > longest)[:ROWS]][:ROWS]]
    rows = [segment.tokens[:longest] for segment in chosen]
    spread = [np.unique(np.linspace(0, len(tokens) - 2, POSITIONS).round().astype(np.int32)) for tokens in rows]
    learned = [s.weights[at + 1] > 0 for s, at in zip(chosen, spread, strict=True)]
    none = np.zeros(0, np.int32)
    return Places(
        tuple(rows),
        np.concatenate([none, *(np.full(len(at), i, np.int32) for i, at in enumerate(spread))]),
        np.concatenate([none, *spread]),
        np.concatenate([none, *(marks.astype(np.int32) for marks in learned)]),
    )
