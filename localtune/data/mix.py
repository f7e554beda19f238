"""Rows of several sources in given proportions; deterministic, streamed, no row twice before all were used once.

Rows of a source stay in the order of their file (training shuffles them anyway); the sources alternate, so that every
stretch of the result has the proportions of the whole. Of a source that is used in part, the rows that are taken are
chosen at random by the seed.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from localtune.data.order import order
from localtune.errors import InputError, Problem

_STREAM = 2**61
"""A Philox key that nothing else uses."""


def parse_source(text: str) -> tuple[str, float]:
    """Name and weight of "NAME" or "NAME:WEIGHT"; the weight is 1 where none is given. Raises `InputError`."""
    name, colon, weight = text.rpartition(":")
    try:
        value = float(weight) if colon else 1.0
    except ValueError:
        return text, 1.0
    if not colon:
        return text, 1.0
    if not 0 < value < 1e9:
        what = f"the weight of {name} is {weight}; expected a number above 0"
        raise InputError(Problem("data.weight", what, fix=f"{name}:2"))
    return name, value


def quotas(counts: Sequence[int], weights: Sequence[float], rows: int | None) -> list[int]:
    """Rows to take of each source: in proportion to `weights`, together `rows` exactly.

    Without `rows`: as many as can be had without using a row twice.
    """
    total = sum(weights)
    if rows is None:
        rows = int(min(count * total / weight for count, weight in zip(counts, weights, strict=True)) + 1e-9)
    shares = [rows * weight / total for weight in weights]
    taken = [int(share) for share in shares]
    by_rest = sorted(range(len(shares)), key=lambda i: (taken[i] - shares[i], i))
    for i in by_rest[: rows - sum(taken)]:
        taken[i] += 1
    return taken


def chosen(count: int, quota: int, seed: int, source: int) -> Iterator[int]:
    """Indices to take of a source of `count` rows, ascending within each pass over it."""
    passes, rest = divmod(quota, count)
    for _ in range(passes):
        yield from range(count)
    yield from sorted(order(seed, _STREAM + source, count)[:rest].tolist())


def alternated(sources: Sequence[Iterator[Any]], taken: Sequence[int]) -> Iterator[Any]:
    """Everything of all `sources`, the one that lags most behind its share next."""
    given, total = [0] * len(sources), sum(taken)
    for position in range(1, total + 1):
        lags = [quota * position / total - done for quota, done in zip(taken, given, strict=True)]
        next_one = max(range(len(sources)), key=lambda i: (lags[i], -i))  # the lags add up to 1: one has rows left
        given[next_one] += 1
        yield next(sources[next_one])
