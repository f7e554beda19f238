"""The battery and the clocks, by fakes."""

from collections import namedtuple
from typing import Any

import psutil
import pytest

from localtune.clock import Clock
from localtune.power import Power, power

Battery = namedtuple("Battery", "percent secsleft power_plugged")


@pytest.mark.parametrize(
    ("percent", "plugged", "low", "enough"),
    [(19.9, False, True, False), (20.0, False, False, False), (25.0, False, False, True), (3.0, True, False, True)],
)
def test_training_waits_below_20_percent_and_goes_on_when_plugged_in_or_from_25(
    percent: float, plugged: bool, low: bool, enough: bool
) -> None:
    found = Power(percent, plugged)
    assert (found.low, found.enough) == (low, enough)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (None, None),
        (Battery(50, 100, False), Power(50.0, False)),
        (Battery(50, 100, True), Power(50.0, True)),
        (Battery(50, 100, None), Power(50.0, True)),
    ],
)
def test_what_the_system_says_of_its_battery(
    monkeypatch: pytest.MonkeyPatch, said: Any, expected: Power | None
) -> None:
    monkeypatch.setattr(psutil, "sensors_battery", lambda: said, raising=False)
    assert power() == expected


def test_a_system_that_knows_nothing_of_batteries_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(psutil, "sensors_battery", raising=False)
    assert power() is None


def test_sleep_and_set_clocks_are_noticed_once() -> None:
    wall, steady = [1000.0], [50.0]
    clock = Clock(lambda: wall[0], lambda: steady[0])
    assert clock.jump() == 0
    for passed, worked, jumped in ((2, 2, 0), (7202, 2, 7200), (2, 2, 0), (-3598, 2, -3600), (30, 2, 0)):
        wall[0] += passed
        steady[0] += worked
        assert clock.jump() == jumped
