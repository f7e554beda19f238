"""A row that is more than one conversation, taken apart before it is rendered and put together again after it.

A preference is its chosen and its rejected side. What both say in common is their prompt: earlier answers that are the
same on both sides count nothing, so what is learned begins where they differ.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from localtune.batch import Segment
from localtune.data.conversations import Conversation, Example, Infill, Labelled, Message, Pair, Passage, Preference
from localtune.data.rows import Place
from localtune.data.turns import Learn
from localtune.errors import Problem

Simple = Conversation | Pair | Passage | Infill


@dataclass(frozen=True, eq=False)
class Tokenised:
    """The segments of one row; usually one. A preference has two, the chosen one first."""

    place: Place
    segments: tuple[Segment, ...]
    held: int = 0
    """Strings in the row that look like control tokens and were kept from becoming some."""


def parts(example: Example, learn: Learn) -> tuple[Simple, ...]:
    """What of `example` is rendered."""
    if isinstance(example, Preference):
        chosen, rejected = example.chosen, example.rejected
        if isinstance(chosen, Conversation) and isinstance(rejected, Conversation) and learn != "all":
            shared = _shared(chosen.messages, rejected.messages)
            return _from(chosen, shared), _from(rejected, shared)
        return chosen, rejected
    return (example.example,) if isinstance(example, Labelled) else (example,)


def joined(example: Example, results: Sequence[Tokenised | Problem]) -> Tokenised | Problem:
    """The result of `example` from those of its parts."""
    if not isinstance(example, Preference | Labelled):
        return results[0]
    segments: list[Segment] = []
    held = 0
    for result in results:
        if isinstance(result, Problem):
            return result
        if len(result.segments) > 1:
            what = "the template writes earlier answers differently once the conversation goes on, and a row with a "
            what += "preference or a label is one text"
            return Problem("template.unmaskable", what, str(example.place), fix="--set train.learn=last")
        segments += [replace(segment, source=example.place.id) for segment in result.segments]
        held += result.held
    return Tokenised(example.place, tuple(segments), held)


def _shared(a: Sequence[Message], b: Sequence[Message]) -> int:
    """How many messages both begin with."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _from(talk: Conversation, shared: int) -> Conversation:
    turns = (replace(m, weight=0.0) if i < shared and m.role == "assistant" else m for i, m in enumerate(talk.messages))
    return replace(talk, messages=tuple(turns))
