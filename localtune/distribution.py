"""What follows each of some positions of a text, and how far two models are apart there.

A distribution is kept as the log-probabilities of its `TOP` likeliest tokens; everything else is one bucket. The
divergence of two of them is over the tokens that both name and the bucket of the rest. By the data-processing
inequality it is never above the true one, and it is exact where both name the whole vocabulary. Nats throughout.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from localtune.batch import Floats, Ints

TOP = 256
FLOOR = 1e-6
"""Least probability of a bucket: sums of float32 probabilities are no more exact."""


@dataclass(frozen=True, eq=False)
class Distributions:
    """What one model says at P positions."""

    ids: Ints
    """int32 [P, K]: tokens, the likeliest first; -1 = no further one."""
    logprobs: Floats
    """float32 [P, K]: their log-probabilities under the softmax over the whole vocabulary."""
    following: Floats
    """float32 [P]: log-probability of the token that does follow."""

    def at_indices(self, kept: npt.NDArray[np.int64]) -> "Distributions":
        """Only the positions with these indices."""
        return Distributions(self.ids[kept], self.logprobs[kept], self.following[kept])


def from_logits(logits: Floats, following: Ints) -> Distributions:
    """The distributions of `logits`, float32 [P, V], before the tokens `following`, int32 [P]."""
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=1, keepdims=True)
    logprobs = wide - np.log(np.exp(wide).sum(axis=1, keepdims=True))
    order = np.argsort(-logprobs, axis=1, kind="stable")[:, :TOP]
    chosen = np.take_along_axis(logprobs, order, axis=1)
    after = np.take_along_axis(logprobs, following[:, None].astype(np.int64), axis=1)[:, 0]
    return Distributions(order.astype(np.int32), chosen.astype(np.float32), after.astype(np.float32))


def from_tops(tops: Sequence[tuple[Ints, Floats]], following: Ints) -> Distributions:
    """The same from the likeliest tokens and their log-probabilities per position; each must name what follows.

    More than `TOP` are cut, so that two sources name equally many.
    """
    width = min(TOP, max((len(ids) for ids, _ in tops), default=0))
    ids = np.full((len(tops), width), -1, np.int32)
    logprobs = np.full((len(tops), width), -np.inf, np.float32)
    after = np.zeros(len(tops), np.float32)
    for i, (tokens, values) in enumerate(tops):
        order = np.argsort(-values, kind="stable")[:width]
        ids[i, : len(order)], logprobs[i, : len(order)] = tokens[order], values[order]
        after[i] = values[np.flatnonzero(tokens == following[i])[0]]
    return Distributions(ids, logprobs, after)


def divergence(p: Distributions, q: Distributions) -> npt.NDArray[np.float64]:
    """KL(p || q) at each position, float64 [P]: sum of p log(p / q) over common tokens and the rest."""
    return np.array([_one(*rows) for rows in zip(p.ids, p.logprobs, q.ids, q.logprobs, strict=True)], np.float64)


def agreement(p: Distributions, q: Distributions) -> npt.NDArray[np.bool_]:
    """Whether the likeliest token is the same, bool [P]. Two that p holds for equally likely count as the same."""
    same = np.asarray(p.ids[:, 0] == q.ids[:, 0])
    for i in np.flatnonzero(~same):
        at = np.flatnonzero(p.ids[i] == q.ids[i, 0])
        same[i] = len(at) > 0 and p.logprobs[i, 0] - p.logprobs[i, at[0]] < FLOOR
    return same


def _one(p_ids: Ints, p_logprobs: Floats, q_ids: Ints, q_logprobs: Floats) -> float:
    _, mine, theirs = np.intersect1d(p_ids[p_ids >= 0], q_ids[q_ids >= 0], assume_unique=True, return_indices=True)
    p, q = p_logprobs[mine].astype(np.float64), q_logprobs[theirs].astype(np.float64)
    likely = np.exp(p)
    p_rest, q_rest = max(FLOOR, 1 - likely.sum()), max(FLOOR, 1 - np.exp(q).sum())
    return float(max(0.0, (likely * (p - q)).sum() + p_rest * np.log(p_rest / q_rest)))
