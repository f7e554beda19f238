"""The segments of one update as few padded rows, and as the batches a backend computes at once.

Best-fit decreasing: within 11/9 of the fewest rows plus one (Johnson 1974). Deterministic, nothing is lost or split.
Packing and micro-batches never change the result of an update, only memory and speed.
"""

from bisect import bisect_left, insort
from collections.abc import Sequence

from localtune.batch import Batch, Segment, collate


def pack(segments: Sequence[Segment], max_tokens: int, packed: bool) -> list[list[Segment]]:
    """Rows of at most `max_tokens` tokens, longest first; one segment a row when not `packed`.

    Raises `ValueError` for a longer segment: lengths are settled before.
    """
    lengths = [len(segment.tokens) for segment in segments]
    if max(lengths, default=0) > max_tokens:
        raise ValueError(f"a segment of {max(lengths)} tokens does not fit in a row of {max_tokens}")
    longest_first = sorted(range(len(segments)), key=lambda i: (-lengths[i], i))
    rows = _best_fit(longest_first, lengths, max_tokens) if packed else [[i] for i in longest_first]
    rows.sort(key=lambda row: (-sum(lengths[i] for i in row), row[0]))
    return [[segments[i] for i in row] for row in rows]


def micro_batches(segments: Sequence[Segment], max_tokens: int, rows: int, packed: bool) -> list[Batch]:
    """The update of `segments` as batches of at most `rows` packed rows of similar length."""
    packs = pack(segments, max_tokens, packed)
    return [collate(packs[start : start + rows]) for start in range(0, len(packs), rows)]


def _best_fit(longest_first: list[int], lengths: list[int], room: int) -> list[list[int]]:
    rows: list[list[int]] = []
    free: list[tuple[int, int]] = []  # (tokens left, row), sorted: the first that suffices is the tightest
    for i in longest_first:
        at = bisect_left(free, (lengths[i], 0))
        if at == len(free):
            left, row = room, len(rows)
            rows.append([])
        else:
            left, row = free.pop(at)
        rows[row].append(i)
        insort(free, (left - lengths[i], row))
    return rows
