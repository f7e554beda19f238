"""Speeds and times to the end, when the clock jumps or the machine slows down."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from localtune_tui.following import Follower

from localtune.cli.follow import Pace
from localtune.events import Step
from localtune.runs.folder import Run
from tests.tui.cut_back import run_of_ten
from tests.tui.recorded_run import step_line


@pytest.fixture
def recorded() -> Run:
    """Ten updates and their checkpoint."""
    return run_of_ten()


@contextmanager
def _clock_that_jumps(monkeypatch: pytest.MonkeyPatch, seconds: float) -> Iterator[None]:
    """The wall clock is `seconds` away from here on."""
    now = time.time
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: now() + seconds)
        yield


@pytest.mark.parametrize("jump", [7200.0, -7200.0], ids=["ahead", "back"])
def test_a_clock_that_jumps_changes_no_speed_and_no_time_to_the_end(
    recorded: Run, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    follower, pace = Follower(recorded), Pace()
    follower.poll()
    before = follower.view.pace
    assert before.tokens == pytest.approx(1400 / 0.4)
    with _clock_that_jumps(monkeypatch, jump), recorded.events.open("a", encoding="utf-8") as file:
        for step in range(11, 31):
            file.write(step_line(step, 60, time=1_799_990_000.0 + jump + step) + "\n")
        file.flush()
        follower.poll()
    after = follower.view.pace
    assert (after.tokens, after.seconds) == pytest.approx((before.tokens, before.seconds))
    assert after.left == pytest.approx(30 * 0.4)
    shown = [pace.remaining(event) for event, _ in recorded.read_events() if isinstance(event, Step)]
    assert shown[-1] == pytest.approx(30 * 0.4)


@pytest.mark.parametrize("seconds", [0.1, 1.0, 2.5])
def test_a_machine_that_slows_down_is_believed_after_thirty_seconds_of_updates(recorded: Run, seconds: float) -> None:
    """Half the speed, as a hot machine has it; of slow updates ten are looked at, of fast ones fifty."""
    slow = 2 * seconds
    count = min(50, max(10, round(30 / slow)))
    recorded.events.write_text("", encoding="utf-8")
    lines = [step_line(step, 1000, seconds=seconds if step <= 100 else slow) for step in range(1, 101 + count)]
    pace = Pace()
    values = [json.loads(line) | {"step": place} for place, line in enumerate(lines, 1)]
    recorded.events.write_text("".join(f"{json.dumps(value)}\n" for value in values), encoding="utf-8")
    shown = [pace.remaining(event) for event, _ in recorded.read_events() if isinstance(event, Step)]
    assert shown[99] == pytest.approx(900 * seconds)
    assert shown[-1] == pytest.approx((900 - count) * slow, rel=0.05)
    follower = Follower(recorded)
    follower.poll()
    assert follower.view.pace.left == pytest.approx(shown[-1])
