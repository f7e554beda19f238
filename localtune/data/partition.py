"""Rows into training, validation and test parts: a pure function of the rows' keys, the shares and the seed.

`random` gives each part its share to the row. `group` keeps all rows of one key in one part, so shares are met only
as far as the groups allow. `stratify` gives each part its share of every key, to within one row.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from localtune.data.order import Indices, order
from localtune.errors import InputError, Problem

By = Literal["random", "group", "stratify"]
PARTS = ("train", "valid", "test")
Parts = NDArray[np.uint8]
"""Number of the part of each row."""
_STREAM = 2**62
"""A Philox key that no epoch and no validation split uses."""


@dataclass(frozen=True)
class Size:
    """How much goes into a part: a share of the rows, or a count."""

    share: float = 0.0
    count: int = 0

    def of(self, rows: int) -> int:
        """Rows out of `rows`."""
        return self.count or round(rows * self.share)


def parse_size(text: str, name: str) -> Size:
    """The size written "5%" or "200". Raises `InputError`."""
    plain = text.strip()
    try:
        if plain.endswith("%"):
            share = float(plain[:-1]) / 100
            if 0 <= share < 1:
                return Size(share=share)
        elif int(plain) >= 0:
            return Size(count=int(plain))
    except ValueError:
        pass
    raise InputError(Problem("data.size", f"{name} is {text!r}; expected a share or a count", fix=f"{name} 5%"))


def partition(keys: Sequence[int], by: By, valid: Size, test: Size, seed: int) -> Parts:
    """Part of each row, uint8 [rows]: 0 train, 1 valid, 2 test. `keys`: of the rows, equal for rows of one group.

    Raises `InputError` when nothing would be left to train on.
    """
    rows = len(keys)
    wanted = (valid.of(rows), test.of(rows))
    if sum(wanted) >= rows:
        what = f"{wanted[0]:,} validation and {wanted[1]:,} test rows leave nothing of {rows:,} to train on"
        raise InputError(Problem("data.size", what, fix="--valid 5% --test 5%"))
    if by == "group":
        return _by_group(np.array(keys, np.uint64), wanted, seed)
    if by == "random":
        return _cut(order(seed, _STREAM, rows), wanted, rows)
    parts = np.zeros(rows, np.uint8)
    _, stratum = np.unique(np.array(keys, np.uint64), return_inverse=True)
    shuffled = order(seed, _STREAM, rows)
    for number in range(int(stratum.max(initial=-1)) + 1):
        members = shuffled[stratum[shuffled] == number]
        share = [len(members) * count / rows for count in wanted]
        first = round(share[0])
        parts[members] = _cut(np.arange(len(members)), (first, round(sum(share)) - first), len(members))
    return parts


def _cut(shuffled: Indices, wanted: Sequence[int], rows: int) -> Parts:
    """The first `wanted[0]` of `shuffled` to part 1, the next `wanted[1]` to part 2, the rest to part 0."""
    parts = np.zeros(rows, np.uint8)
    parts[shuffled[: wanted[0]]] = 1
    parts[shuffled[wanted[0] : wanted[0] + wanted[1]]] = 2
    return parts


def _by_group(keys: NDArray[np.uint64], wanted: Sequence[int], seed: int) -> Parts:
    _, first, group, sizes = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
    by_appearance = np.argsort(first, kind="stable")
    part_of = np.zeros(len(sizes), np.uint8)
    room = list(wanted)
    for number in by_appearance[order(seed, _STREAM, len(sizes))].tolist():
        for part in (0, 1):
            if sizes[number] <= room[part]:
                room[part] -= int(sizes[number])
                part_of[number] = part + 1
                break
    return part_of[group]
