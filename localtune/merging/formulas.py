"""The arithmetic of merging: trimming, electing signs, dropping, and cutting a matrix to a rank.

Formulas of TIES (Yadav et al. 2023) and DARE (Yu et al. 2024), one weight matrix at a time. Everything is
deterministic: what is random comes from the generator that is passed.
"""

from collections.abc import Sequence

import numpy as np

from localtune.batch import Floats

EXACT_SIDE = 1024
"""The smaller side up to which a matrix is decomposed exactly; beyond, by a random range finder, which is near it."""
_ITERATIONS, _OVERSAMPLING = 4, 16


def trim(delta: Floats, density: float) -> None:
    """Set all but the int(density * size) values of largest magnitude, at least one, to 0, in place."""
    keep = max(1, int(density * delta.size))
    flat = delta.reshape(-1)
    smallest = flat.size - keep
    if smallest:
        flat[np.argpartition(np.abs(flat), min(smallest, flat.size - 1))[:smallest]] = 0


def drop(delta: Floats, density: float, generator: np.random.Generator) -> None:
    """Keep each value with the probability `density`, divided by it, else set it to 0; in place."""
    delta *= generator.random(delta.shape, np.float32) < density
    delta /= np.float32(density)


def elected_mean(deltas: Sequence[Floats], weights: Sequence[float]) -> Floats:
    """Per place the mean of weight * value over the values whose sign is that of the sum of all; 0 counts as none.

    A sum of 0 elects the plus, as in peft.
    """
    total = weighted_sum(deltas, [1.0] * len(deltas))
    sign: Floats = np.where(total >= 0, np.float32(1), np.float32(-1))
    total[:] = 0
    count: Floats = np.zeros_like(sign)
    for delta, weight in zip(deltas, weights, strict=True):
        agrees = np.sign(delta) == sign
        total += np.float32(weight) * delta * agrees
        count += agrees
    total /= np.maximum(count, 1)
    return total


def truncated(delta: Floats, rank: int, generator: np.random.Generator) -> tuple[Floats, Floats]:
    """A [rank, in] and B [out, rank] whose product is `delta` [out, in] cut to its `rank` largest singular values.

    Up to `EXACT_SIDE` by LAPACK's decomposition; beyond, within a random subspace after `_ITERATIONS` power iterations
    (Halko, Martinsson & Tropp 2011, algorithm 4.4). Both share the singular values' roots; zeros fill a higher rank.
    """
    if min(delta.shape) <= max(EXACT_SIDE, rank + _OVERSAMPLING):
        u, s, v = np.linalg.svd(delta, full_matrices=False)
    else:
        q = np.linalg.qr(delta @ generator.standard_normal((delta.shape[1], 2 * rank + _OVERSAMPLING), np.float32))[0]
        for _ in range(_ITERATIONS):
            q = np.linalg.qr(delta @ np.linalg.qr(delta.T @ q)[0])[0]
        u, s, v = np.linalg.svd(q.T @ delta, full_matrices=False)
        u = q @ u
    roots = np.sqrt(s[:rank])
    a, b = np.zeros((rank, delta.shape[1]), np.float32), np.zeros((delta.shape[0], rank), np.float32)
    a[: len(roots)], b[:, : len(roots)] = roots[:, None] * v[:rank], u[:, :rank] * roots
    return a, b


def weighted_sum(deltas: Sequence[Floats], weights: Sequence[float]) -> Floats:
    """Sum of weight * delta."""
    total = np.zeros_like(deltas[0])
    for delta, weight in zip(deltas, weights, strict=True):
        total += np.float32(weight) * delta
    return total
