"""Examples longer than a row: cut, dropped, refused, or split into consecutive pieces.

A cut keeps the first tokens, and what it takes away is counted; a row of which nothing learned is left is a problem. A
split loses no token: the pieces follow each other, overlap 0, and together are the text. The first token of each piece
has nothing before it and is not learned (one target fewer per piece after the first, counted as well).
"""

import itertools
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from localtune.batch import Segment
from localtune.data.parts import Tokenised
from localtune.errors import Problem
from localtune.settings import Shape

TooLong = Literal["cut", "drop", "error", "split"]


@dataclass(frozen=True, eq=False)
class Fitted:
    """A row whose segments fit."""

    row: Tokenised
    """Without segments when the row was dropped."""
    cut: bool = False
    cut_tokens: int = 0
    """Tokens behind max_tokens, which are not used."""
    cut_targets: int = 0
    """Those of them that would have been learned."""
    pieces: int = 0
    """Pieces after the first of its segment: each has a first token that is not learned."""

    @property
    def dropped(self) -> bool:
        """Too long, and left out as asked."""
        return not self.row.segments


def resolved(too_long: Literal["auto"] | TooLong, shape: Shape) -> TooLong:
    """What "auto" means for rows of `shape`: text is split, as any piece of it can be learned; all else is cut."""
    if too_long != "auto":
        return too_long
    return "split" if shape == "text" else "cut"


def fit(row: Tokenised, max_tokens: int, too_long: TooLong, *, together: bool = False) -> Fitted | Problem:
    """`row` with segments of at most `max_tokens` tokens, each with something to learn, or why that cannot be.

    `together`: the segments are compared with each other (a preference), so none may be lost.
    """
    longest = max(len(segment.tokens) for segment in row.segments)
    if longest <= max_tokens and all(segment.weights[0] == 0 and segment.weights.any() for segment in row.segments):
        return Fitted(row)
    if longest > max_tokens and too_long == "error":
        what = f"the row has {longest:,} tokens, data.max_tokens is {max_tokens:,}"
        return Problem("data.too-long", what, str(row.place), fix=f"--set data.max_tokens={longest}")
    if longest > max_tokens and too_long == "drop":
        return Fitted(replace(row, segments=()))
    parts = [_pieces(segment, max_tokens, too_long) for segment in row.segments]
    kept = tuple(piece for pieces in parts for piece in pieces if piece.targets)
    lost = [s for s, pieces in zip(row.segments, parts, strict=True) if not any(piece.targets for piece in pieces)]
    if not kept or (together and lost):
        return _nothing_left(row, lost, max_tokens)
    cut = longest > max_tokens and too_long == "cut"
    unused = sum(len(segment.tokens) for segment in row.segments) - sum(len(piece.tokens) for piece in kept)
    targets = sum(np.count_nonzero(segment.weights[max_tokens:]) for segment in row.segments) if cut else 0
    return Fitted(replace(row, segments=kept), cut, unused, int(targets), sum(len(pieces) - 1 for pieces in parts))


def _pieces(segment: Segment, max_tokens: int, too_long: TooLong) -> list[Segment]:
    count = len(segment.tokens)
    if too_long != "split" or count <= max_tokens:
        return [_piece(segment, 0, min(count, max_tokens))]
    bounds = [*range(0, count, max_tokens), count]
    bounds[-2] -= count - bounds[-2] == 1  # a piece of one token would teach nothing
    return [_piece(segment, start, stop) for start, stop in itertools.pairwise(bounds)]


def _piece(segment: Segment, start: int, stop: int) -> Segment:
    weights = segment.weights[start:stop].copy()
    weights[0] = 0.0
    return Segment(segment.tokens[start:stop].copy(), weights, segment.source)


def _nothing_left(row: Tokenised, lost: list[Segment], max_tokens: int) -> Problem:
    learned = [segment for segment in lost if segment.weights[1:].any()]
    if not learned:
        what = "nothing in the row is learned: it has one token, which nothing precedes, or no answer"
        return Problem("data.nothing-to-learn", what, str(row.place), fix="remove the row")
    longest = max(len(segment.tokens) for segment in learned)
    begins = min(int(segment.weights.nonzero()[0][0]) for segment in learned)
    what = (
        f"the whole answer is cut away: the row has {longest:,} tokens, its answer begins behind token {begins:,}, "
        f"data.max_tokens is {max_tokens:,}"
    )
    fix = f"--set data.max_tokens={longest} or --set data.too_long=drop"
    return Problem("data.answer-cut", what, str(row.place), fix=fix)
