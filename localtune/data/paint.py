"""The tokens of a segment as text that can be shown: pieces that, joined, are exactly what the tokens decode to.

A character that several tokens make together is one piece of all of them, and so is a token that writes nothing by
itself with the one that follows it.
"""

from dataclasses import dataclass

from localtune.batch import Segment
from localtune.data.tokenizer import Tokenizer

_HALF = "\ufffd"
_MOST = 64
"""Tokens in one piece, where the text does hold that character."""


@dataclass(frozen=True)
class Piece:
    """Neighbouring tokens that have a text together."""

    ids: tuple[int, ...]
    text: str
    weight: float
    """The largest weight of its tokens; 0 = nothing of it is learned."""


def paint(tokenizer: Tokenizer, segment: Segment) -> list[Piece]:
    """The pieces of `segment`, in order."""
    ids, weights = segment.tokens.tolist(), segment.weights.tolist()
    pieces: list[Piece] = []
    before: list[int] = []
    known, start = "", 0
    for end in range(1, len(ids) + 1):
        text = tokenizer.decode([*before, *ids[start:end]], skip_special=False)
        unfinished = text == known or text.endswith(_HALF) or not text.startswith(known)
        if unfinished and end < len(ids) and end - start < _MOST:
            continue
        pieces.append(Piece(tuple(ids[start:end]), text.removeprefix(known), max(weights[start:end])))
        before = ids[start:end]
        known, start = tokenizer.decode(before, skip_special=False), end
    whole = tokenizer.decode(ids, skip_special=False)
    return pieces if "".join(piece.text for piece in pieces) == whole else _slowly(tokenizer, ids, weights)


def _slowly(tokenizer: Tokenizer, ids: list[int], weights: list[float]) -> list[Piece]:
    """The same with the whole text before each token, for decoders that look far back."""
    whole = tokenizer.decode(ids, skip_special=False)
    pieces: list[Piece] = []
    known, start = "", 0
    for end in range(1, len(ids) + 1):
        text = whole if end == len(ids) else tokenizer.decode(ids[:end], skip_special=False)
        if end == len(ids) or (text != known and whole.startswith(text)):
            pieces.append(Piece(tuple(ids[start:end]), text.removeprefix(known), max(weights[start:end])))
            known, start = text, end
    return pieces
