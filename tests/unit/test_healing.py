"""What may be tried again, how often, and who is stuck."""

import math
import os
from pathlib import Path

import pytest

from localtune.ending import Ending, Kind
from localtune.healing import IDLE_CPU, LOOK, TRIES, Healing, Pulse, disk_needed
from localtune.runs.folder import RESERVE, Run

CRASH = Ending("crash", -6)


def test_three_tries_without_progress_and_no_fourth() -> None:
    healing = Healing()
    assert [healing.may(CRASH, 5) for _ in range(TRIES + 2)] == [True] * TRIES + [False] * 2


def test_an_update_further_is_progress() -> None:
    healing = Healing()
    assert all(healing.may(CRASH, step) for step in range(20))
    assert [healing.may(CRASH, 3) for _ in range(TRIES)] == [True] * (TRIES - 1) + [False]


@pytest.mark.parametrize("kind", ["done", "stopped", "failed", "memory"])
def test_what_would_end_the_same_way_is_not_tried_again_unchanged(kind: Kind) -> None:
    assert not Healing().may(Ending(kind, 1), 5)


def test_a_driver_gets_longer_from_try_to_try() -> None:
    healing, waits = Healing(), []
    for _ in range(TRIES):
        healing.may(CRASH, 1)
        waits.append(healing.wait)
    assert waits == sorted(waits)
    assert waits[0] == 0 < waits[-1] < 60


def test_what_a_run_needs_of_the_disk_holds_room_for_its_records(tmp_path: Path) -> None:
    assert disk_needed(Run(tmp_path)) == 2 * RESERVE


def _looks(said: list[tuple[float, int, float]], patience: float = 3 * LOOK) -> list[bool]:
    """What a pulse says at each (seconds, events, processor time)."""
    now = [said[0]]
    pulse = Pulse(1, patience, lambda: now[0][0], lambda pid: now[0][2])
    found = []
    for now[0] in said:
        found.append(pulse.stuck(now[0][1]))
    return found


def test_a_process_that_neither_records_nor_computes_is_stuck_when_its_time_is_over() -> None:
    looks = [(number * LOOK, 100, 10.0 + IDLE_CPU / 2 * (number > 0)) for number in range(5)]
    assert _looks(looks) == [False, False, False, True, True]


@pytest.mark.parametrize("alive", [(2 * LOOK, 101, 10.0), (2 * LOOK, 100, 10.0 + 2 * IDLE_CPU), (2 * LOOK, 100, 9.0)])
def test_an_event_or_some_computing_or_the_end_of_a_child_is_a_sign_of_life(alive: tuple[float, int, float]) -> None:
    looks = [(0.0, 100, 10.0), (LOOK, 100, 10.0), alive, *((number * LOOK, *alive[1:]) for number in (3, 4, 5))]
    assert _looks(looks) == [False] * 5 + [True]


def test_a_machine_that_slept_has_not_waited() -> None:
    assert _looks([(0.0, 100, 10.0), (1e5, 100, 10.0), (2e5, 100, 10.0)]) == [False] * 3


def test_a_process_that_was_halted_or_could_not_be_looked_at_is_not_stuck() -> None:
    halted = [(number * LOOK, 100, math.nan) for number in range(1, 9)]
    assert not any(_looks([(0.0, 100, 10.0), *halted, (9 * LOOK, 100, 10.0)]))


def test_a_process_that_is_gone_is_not_stuck() -> None:
    now = [0.0]
    pulse = Pulse(2**22 + 1, 2 * LOOK, lambda: now[0])
    for now[0] in (0.0, LOOK, 2 * LOOK, 3 * LOOK, 4 * LOOK):
        assert not pulse.stuck(0)


def test_processor_time_is_that_of_the_process() -> None:
    pulse = Pulse(os.getpid())
    assert not pulse.stuck(0)
    assert 0 < pulse._cpu < 1e7
