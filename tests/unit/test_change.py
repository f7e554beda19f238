"""Sums over a change: float32's where they hold, float64's where they do not."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localtune.change import Change


@given(st.integers(0, 2**32), st.sampled_from([1e-30, 1e-22, 1e-3, 1.0, 1e15, 1e25]))
def test_shares_do_not_depend_on_the_size_of_the_numbers(seed: int, size: float) -> None:
    random = np.random.default_rng(seed)
    weight, delta, noise = (random.normal(size=(7, 64)).astype(np.float32) for _ in range(3))
    left = delta + np.float32(0.5) * noise
    change = Change()
    for rows in (slice(0, 3), slice(3, 7)):
        change.add(*(np.float32(size) * part[rows] for part in (weight, delta, left)))
    w, d, k = (part.astype(np.float64).ravel() for part in (weight, delta, left))
    assert change.relative == pytest.approx(np.linalg.norm(d) / np.linalg.norm(w), rel=1e-5)
    assert change.kept == pytest.approx(k @ d / (d @ d), rel=1e-4, abs=1e-5)
    assert change.correlation == pytest.approx(k @ d / np.linalg.norm(d) / np.linalg.norm(k), rel=1e-4, abs=1e-5)


def test_nothing_intended_is_kept_and_nothing_left_is_lost() -> None:
    zero, one = np.zeros((2, 4), np.float32), np.ones((2, 4), np.float32)
    change = Change()
    change.add(one, zero, zero)
    assert (change.relative, change.kept, change.correlation) == (0.0, 1.0, 1.0)
    change = Change()
    change.add(one, one, zero)
    assert (change.relative, change.kept, change.correlation) == (1.0, 0.0, 0.0)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_shows(value: float) -> None:
    delta = np.ones((2, 4), np.float32)
    delta[1, 2] = value
    change = Change()
    change.add(np.ones((2, 4), np.float32), delta, delta)
    assert not math.isfinite(change.intended)
