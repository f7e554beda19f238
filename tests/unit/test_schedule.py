"""The learning rate of every update against its closed form."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localtune.schedule import Schedule, warmup_steps


def test_warm_up_rises_linearly_and_never_trains_at_zero() -> None:
    schedule = Schedule("cosine", 1.0, 100, 10)
    assert [schedule.at(step) for step in (1, 5, 10)] == [0.1, 0.5, 1.0]


def test_cosine_follows_its_closed_form() -> None:
    schedule = Schedule("cosine", 2e-4, 110, 10)
    for step in range(11, 111):
        expected = 2e-4 * (1 + math.cos(math.pi * (step - 10) / 101)) / 2
        assert schedule.at(step) == pytest.approx(expected, rel=1e-12)
    assert schedule.at(60) != pytest.approx(Schedule("linear", 2e-4, 110, 10).at(60), rel=1e-3)


def test_constant_stays() -> None:
    assert {Schedule("constant", 0.5, 9, 0).at(step) for step in range(1, 10)} == {0.5}


def test_linear_falls_by_equal_parts() -> None:
    schedule = Schedule("linear", 1.0, 4, 0, floor=0.5)
    assert [schedule.at(step) for step in range(1, 5)] == pytest.approx([0.9, 0.8, 0.7, 0.6])


@given(st.integers(1, 500), st.integers(0, 500), st.sampled_from(["constant", "linear", "cosine"]))
def test_every_update_trains_at_a_positive_rate_of_at_most_the_peak(steps: int, warmup: int, shape: str) -> None:
    schedule = Schedule(shape, 1.0, steps, min(warmup, steps))  # type: ignore[arg-type]
    assert all(0 < schedule.at(step) <= 1 for step in range(1, steps + 1))


def test_a_share_of_the_updates_is_rounded_and_a_count_is_bounded() -> None:
    assert warmup_steps("3%", 1143) == 34
    assert warmup_steps(50, 20) == 20
    assert warmup_steps("0%", 100) == 0
