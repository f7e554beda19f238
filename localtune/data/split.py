"""Which rows are held out for validation: a pure function of seed and count."""

from localtune.data.order import Indices, order

SHARE = 0.05
FEWEST, MOST = 20, 200
TOO_FEW = 10
_STREAM = 2**63
"""A Philox key no epoch uses."""


def held_out_count(rows: int) -> int:
    """5 % of `rows`, at least 20, at most 200, never more than a fifth; 0 for fewer than 10 rows."""
    if rows < TOO_FEW:
        return 0
    return min(max(round(rows * SHARE), FEWEST), MOST, rows // 5)


def split(rows: int, seed: int) -> tuple[Indices, Indices]:
    """Row indices (train, valid), int64, ascending; together every row exactly once."""
    shuffled = order(seed, _STREAM, rows)
    held_out = held_out_count(rows)
    train, valid = shuffled[held_out:].copy(), shuffled[:held_out].copy()
    train.sort()
    valid.sort()
    return train, valid
