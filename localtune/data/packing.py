"""The segments of one update as few padded rows, and as the batches a backend computes at once.

Best-fit decreasing decides how many rows there are: within 11/9 of the fewest plus one (Johnson 1974). A batch is as
long as its longest row, so the segments may be spread over that many rows evenly: by MULTIFIT (Coffman, Garey, Johnson
1978: the shortest rows of which best-fit still needs no more) or each into the emptiest row (Graham 1969). Rows of
similar length share a batch. Of an update's positions at most `WASTE` are padding for rows of unequal length, besides
rounding to a multiple; where it takes a batch more, there is one. Without packing the segments of an update are batched
by length, within `WASTE_ALONE`. Never more rows and never more padding than best-fit, or the segments by length, in
full batches.

Deterministic; nothing is lost or split. Packing and micro-batches never change the result of an update, only memory
and speed.
"""

import heapq
from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence

from localtune.batch import Batch, Segment, collate

WASTE = 0.025
"""Share of an update's positions that may be padding for rows of unequal length to share a batch."""
WASTE_ALONE = 0.1
"""The same without packing, where less would take many small batches."""
MULTIPLE = 8
"""Batches are padded to a multiple of this many tokens."""

Rows = list[list[int]]
"""Packed rows, each the indices of its segments."""


def micro_batches(segments: Sequence[Segment], max_tokens: int, rows: int, packed: bool) -> list[Batch]:
    """The update of `segments` as batches of at most `rows` rows of at most `max_tokens` tokens, longest first.

    One segment a row when not `packed`. Raises `ValueError` for a longer segment: lengths are settled before.
    """
    shares = arrange([len(segment.tokens) for segment in segments], max_tokens, rows, packed)
    return [collate([[segments[i] for i in row] for row in share], multiple=MULTIPLE) for share in shares]


def arrange(lengths: Sequence[int], max_tokens: int, rows: int, packed: bool) -> list[Rows]:
    """`micro_batches` as indices into `lengths`, the tokens of each segment."""
    if max(lengths, default=0) > max_tokens:
        raise ValueError(f"a segment of {max(lengths)} tokens does not fit in a row of {max_tokens}")
    longest_first = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    first = (
        _by_length(_best_fit(longest_first, lengths, max_tokens), lengths) if packed else [[i] for i in longest_first]
    )
    plain = _in_turn(first, rows)
    if rows == 1 or len(first) <= 1:  # a row alone is padded to the multiple and no more
        return plain
    others = _evened(longest_first, lengths, max_tokens, len(first)) if packed else ()
    waste = WASTE if packed else WASTE_ALONE
    found = [plain]
    for packs in (first, *(_by_length(packs, lengths) for packs in others)):
        found += [_in_turn(packs, rows), _alike(packs, lengths, rows, waste)]
    most = positions(plain, lengths)
    allowed = (shares for shares in found if positions(shares, lengths) <= most)
    return min(allowed, key=lambda shares: _worth(shares, lengths, waste))


def positions(shares: Sequence[Rows], lengths: Sequence[int]) -> int:
    """Positions that the batches of `shares` compute, padding included."""
    return sum(len(share) * max(_rounded(row, lengths) for row in share) for share in shares)


def _worth(shares: Sequence[Rows], lengths: Sequence[int], waste: float) -> tuple[bool, int, int]:
    """Less is better: padding within bounds, then few batches, then few positions."""
    total = positions(shares, lengths)
    needed = sum(_rounded(row, lengths) for share in shares for row in share)
    return total - needed > waste * total, len(shares), total


def _rounded(row: Sequence[int], lengths: Sequence[int]) -> int:
    return -(-sum(lengths[i] for i in row) // MULTIPLE) * MULTIPLE


def _by_length(packs: Rows, lengths: Sequence[int]) -> Rows:
    return sorted(packs, key=lambda row: (-sum(lengths[i] for i in row), row[0]))


def _in_turn(packs: Rows, rows: int) -> list[Rows]:
    return [packs[start : start + rows] for start in range(0, len(packs), rows)]


def _alike(packs: Rows, lengths: Sequence[int], rows: int, waste: float) -> list[Rows]:
    """Rows, longest first, in batches that end before their padding takes the update beyond the share `waste`."""
    shares: list[Rows] = []
    total, padding, longest = 0, 0, 0
    for row in packs:
        own = _rounded(row, lengths)
        more = longest - own
        if shares and len(shares[-1]) < rows and padding + more <= waste * (total + longest):
            shares[-1].append(row)
            padding += more
        else:
            shares.append([row])
            longest = own
        total += longest
    return shares


def _evened(longest_first: list[int], lengths: Sequence[int], room: int, count: int) -> Iterator[Rows]:
    """Other ways to fill at most `count` rows, none longer than it must be."""
    low, high = max(lengths[longest_first[0]], -(-sum(lengths) // count)), room
    packs: Rows = []
    while low < high:
        middle = (low + high) // 2
        tried = _best_fit(longest_first, lengths, middle)
        if len(tried) <= count:
            packs, high = tried, max(sum(lengths[i] for i in row) for row in tried)
        else:
            low = middle + 1
    if packs:
        yield packs
    packs = _emptiest_first(longest_first, lengths, count)
    if all(sum(lengths[i] for i in row) <= room for row in packs):
        yield packs


def _emptiest_first(longest_first: list[int], lengths: Sequence[int], count: int) -> Rows:
    rows: Rows = [[] for _ in range(count)]
    filled = [(0, row) for row in range(count)]
    for i in longest_first:
        tokens, row = filled[0]
        rows[row].append(i)
        heapq.heapreplace(filled, (tokens + lengths[i], row))
    return [row for row in rows if row]


def _best_fit(longest_first: list[int], lengths: Sequence[int], room: int) -> Rows:
    rows: Rows = []
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
