"""Curves: no spike is lost, nothing is drawn that is not finite."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from localtune_tui.curves import curve, smoothed, spark, thinned, ticks, within


def test_the_lowest_and_the_highest_of_every_column_stay() -> None:
    values = np.sin(np.arange(10_000) / 50)
    values[4321], values[7000] = 9.0, -9.0
    drawn = thinned(curve("x", range(10_000), values), 60)
    assert len(drawn.xs) <= 120
    assert drawn.ys.max() == 9.0
    assert drawn.ys.min() == -9.0
    assert (np.diff(drawn.xs) > 0).all()


def test_what_is_not_finite_is_left_out() -> None:
    drawn = curve("x", [1, 2, 3, 4], [1.0, math.nan, math.inf, 2.0])
    assert drawn.xs.tolist() == [1, 4]


def test_a_zoom_keeps_what_is_between_its_ends() -> None:
    assert within(curve("x", range(10), range(10)), (3, 5)).xs.tolist() == [3, 4, 5]


def test_the_smoothed_loss_begins_at_the_first_value_and_passes_over_nan() -> None:
    found = smoothed([4.0, math.nan, 4.0])
    assert np.allclose(found, 4.0)


def test_a_spark_has_a_block_for_each_share_of_the_values() -> None:
    assert spark([8, 7, 6, 5, 4, 3, 2, 1], 8) == "█▇▆▅▄▃▂▁"
    assert spark([2, 2, 2], 8) == "▁▁▁"
    assert spark([], 8) == ""
    assert spark([1.0, math.nan, 2.0], 8, ascii_only=True) == "_@"


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.integers(1, 12), st.booleans())
def test_ticks_lie_between_their_bounds(low: float, span: float, count: int, log: bool) -> None:
    found = ticks(low, low + span, count, log=log)
    assert 1 <= len(found) <= count + 2
    assert all(low - 1e-6 * span <= value <= low + span * (1 + 1e-6) for value in found)
