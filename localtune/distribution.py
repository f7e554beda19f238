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
    likely = _likeliest(logprobs)
    order = np.take_along_axis(
        likely, np.argsort(-np.take_along_axis(logprobs, likely, 1), axis=1, kind="stable"), axis=1
    )
    chosen = np.take_along_axis(logprobs, order, axis=1)
    after = np.take_along_axis(logprobs, following[:, None].astype(np.int64), axis=1)[:, 0]
    return Distributions(order.astype(np.int32), chosen.astype(np.float32), after.astype(np.float32))


def _likeliest(logprobs: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """The `TOP` likeliest tokens of each position in ascending order; sorting whole vocabularies takes seconds."""
    if logprobs.shape[1] <= TOP:
        return np.tile(np.arange(logprobs.shape[1]), (len(logprobs), 1))
    return np.sort(np.argpartition(-logprobs, TOP - 1, axis=1)[:, :TOP], axis=1)


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


def together(parts: Sequence[Distributions]) -> Distributions:
    """The positions of all `parts` in order; without a part there is no position."""
    if not parts:
        return Distributions(np.zeros((0, 0), np.int32), np.zeros((0, 0), np.float32), np.zeros(0, np.float32))
    return Distributions(
        np.concatenate([part.ids for part in parts]),
        np.concatenate([part.logprobs for part in parts]),
        np.concatenate([part.following for part in parts]),
    )


def divergence(p: Distributions, q: Distributions) -> npt.NDArray[np.float64]:
    """KL(p || q) at each position, float64 [P]: sum of p log(p / q) over common tokens and the rest.

    What is not a number in either makes it not a number.
    """
    return np.array([_one(*rows) for rows in zip(p.ids, p.logprobs, q.ids, q.logprobs, strict=True)], np.float64)


def agreement(p: Distributions, q: Distributions) -> npt.NDArray[np.bool_]:
    """Whether the likeliest token is the same, bool [P]. Two that p holds for equally likely count as the same."""
    same = np.asarray(p.ids[:, 0] == q.ids[:, 0])
    for i in np.flatnonzero(~same):
        at = np.flatnonzero(p.ids[i] == q.ids[i, 0])
        same[i] = len(at) > 0 and p.logprobs[i, 0] - p.logprobs[i, at[0]] < FLOOR
    return same


def finite(said: Distributions) -> npt.NDArray[np.bool_]:
    """At which positions every log-probability is a finite number, bool [P]."""
    named = np.isfinite(said.logprobs) | (said.ids < 0)
    return np.asarray(named.all(axis=1) & np.isfinite(said.following))


def carried(
    tuned: Distributions, base: Distributions, heard: Distributions, start: Distributions
) -> tuple[float, float]:
    """How much of what training changed is in what is `heard`, and the standard error of that figure.

    The slope, through the origin, of the change of the log-probability of the following token from `start` (the base
    that was used) to `heard` over its change from `base` to `tuned`: 1 for an honest product, 0 for one that lost the
    fine-tune. Noise of rounding averages out; where there is more of it than change, the error says so.
    """
    wanted = (tuned.following - base.following).astype(np.float64)
    found = (heard.following - start.following).astype(np.float64)
    power = float(wanted @ wanted)
    if power == 0 or len(wanted) < 2:
        return 0.0, np.inf
    slope = float(wanted @ found) / power
    rest = found - slope * wanted
    return slope, float(np.sqrt(rest @ rest / (len(wanted) - 1) / power))


def _one(p_ids: Ints, p_logprobs: Floats, q_ids: Ints, q_logprobs: Floats) -> float:
    _, mine, theirs = np.intersect1d(p_ids[p_ids >= 0], q_ids[q_ids >= 0], assume_unique=True, return_indices=True)
    p, q = p_logprobs[mine].astype(np.float64), q_logprobs[theirs].astype(np.float64)
    likely = np.exp(p)
    p_rest, q_rest = np.maximum(FLOOR, 1 - likely.sum()), np.maximum(FLOOR, 1 - np.exp(q).sum())
    return float(np.maximum(0.0, (likely * (p - q)).sum() + p_rest * np.log(p_rest / q_rest)))
