"""Weights of tokens from spans of characters.

Exact: a token has the weight of the span in which its first character lies; a token that straddles the beginning of a
span belongs to what is before it.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence

import numpy as np
import tokenizers

from localtune.batch import Floats, Segment
from localtune.data.rows import Place
from localtune.data.turns import Span


def weigh(encoding: tokenizers.Encoding, spans: Iterable[Span]) -> tuple[Floats, bool]:
    """float32 [tokens], and whether a token straddles the beginning of a span that counts."""
    count, straddled = len(encoding), False
    weights = np.zeros(count, np.float32)
    for start, end, weight in spans:
        first = _first(encoding, count, start)
        weights[first : _first(encoding, count, end)] = weight
        straddled |= first > 0 and _token(encoding, first - 1)[1] > start
    return weights, straddled


def finish(place: Place, ids: Sequence[int], weights: Floats, end: Sequence[int], weight: float = 1.0) -> Segment:
    """A segment of `ids` and the learned tokens `end`; its first token is never learned."""
    tokens = np.array([*ids, *end] if end else ids, np.int32)
    if end:
        weights = np.concatenate([weights, np.full(len(end), weight, np.float32)])
    weights[:1] = 0.0
    return Segment(tokens, weights, place.id)


def _first(encoding: tokenizers.Encoding, count: int, at: int) -> int:
    """The first token that begins at `at` or later. The list of all offsets is costly, so it is looked at last."""
    found = encoding.char_to_token(at)
    if found is None:
        if not count or _token(encoding, count - 1)[0] < at:
            return count
        return bisect_left(encoding.offsets, (at, 0))
    while found < count and _token(encoding, found)[0] < at:
        found += 1
    while found and _token(encoding, found - 1)[0] >= at:
        found -= 1
    return int(found)


def _token(encoding: tokenizers.Encoding, number: int) -> tuple[int, int]:
    start, end = encoding.offsets[number] if (span := encoding.token_to_chars(number)) is None else span
    return start, end
