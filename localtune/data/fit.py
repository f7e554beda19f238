"""Examples longer than a row: cut, dropped, refused, or split into consecutive pieces.

A cut keeps the first tokens. A split loses no token: the pieces follow each other and together are the text, but the
first token of each piece has nothing before it and is not learned (one target fewer per piece after the first).
"""

import itertools
from dataclasses import dataclass, replace
from typing import Literal

from localtune.batch import Segment
from localtune.data.render import Tokenised
from localtune.errors import Problem

TooLong = Literal["cut", "drop", "error", "split"]


@dataclass(frozen=True, eq=False)
class Fitted:
    """A row whose segments fit."""

    row: Tokenised
    """Without segments when the row was dropped."""
    cut: bool = False

    @property
    def dropped(self) -> bool:
        """Too long, and left out as asked."""
        return not self.row.segments


def fit(row: Tokenised, max_tokens: int, too_long: TooLong) -> Fitted | Problem:
    """`row` with segments of at most `max_tokens` tokens, each with something to learn, or why that cannot be."""
    longest = max(len(segment.tokens) for segment in row.segments)
    if longest > max_tokens and too_long == "error":
        what = f"the row has {longest:,} tokens, data.max_tokens is {max_tokens:,}"
        return Problem("data.too-long", what, str(row.place), fix=f"--set data.max_tokens={longest}")
    if longest > max_tokens and too_long == "drop":
        return Fitted(replace(row, segments=()))
    pieces = [piece for segment in row.segments for piece in _pieces(segment, max_tokens, too_long)]
    kept = tuple(piece for piece in pieces if piece.targets)
    if not kept:
        return _nothing_left(row, longest, max_tokens)
    return Fitted(replace(row, segments=kept), cut=longest > max_tokens and too_long == "cut")


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


def _nothing_left(row: Tokenised, longest: int, max_tokens: int) -> Problem:
    if longest <= max_tokens:
        what = "the row has one token, and nothing precedes it, so nothing is learned"
        return Problem("data.nothing-to-learn", what, str(row.place), fix="--set data.on_error=skip")
    begins = min(int(segment.weights.nonzero()[0][0]) for segment in row.segments)
    what = (
        f"the whole answer is cut away: the row has {longest:,} tokens, its answer begins behind token {begins:,}, "
        f"data.max_tokens is {max_tokens:,}"
    )
    fix = f"--set data.max_tokens={longest} or --set data.too_long=drop"
    return Problem("data.answer-cut", what, str(row.place), fix=fix)
