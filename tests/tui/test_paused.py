"""A paused run: it waits by itself, and everybody says for what."""

from dataclasses import replace

import pytest
from localtune_tui.app import LocaltuneApp
from localtune_tui.following import Follower
from localtune_tui.run_view import is_good, judgement

from localtune.cli.follow import Reports, Viewer
from localtune.events import Warn
from localtune.runs.folder import Run
from tests.tui.cut_back import run_of_ten, steps_of, updates, watched, write
from tests.tui.recorded_run import recorded_run
from tests.tui.screen_text import begun, says, screen_text, until

WHY = "needs 2.1 MB of disk"


@pytest.fixture
def recorded() -> Run:
    """Ten updates and their checkpoint."""
    return run_of_ten()


def _pause(run: Run, why: str = WHY) -> None:
    """As a supervisor that waits leaves it."""
    run.write_status(replace(run.status(), state="paused", worker=None, supervisor=run.status().worker, detail=why))


def test_a_viewer_waits_for_a_paused_run_and_says_why_once(
    recorded: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def go_on() -> None:
        recorded.write_status(replace(recorded.status(), state="running", detail=""))
        updates(recorded, [11], 1.0)

    def end() -> None:
        recorded.write_status(replace(recorded.status(), state="stopped", exit_code=130))

    def pause() -> None:
        _pause(recorded, "needs 2.1 MB of disk")

    def nothing() -> None:
        return

    events = watched(recorded, [pause, nothing, nothing, go_on, end], monkeypatch)
    assert steps_of(events)[-1] == 11
    said = "paused: needs 2.1 MB of disk; it goes on by itself, or ends by  localtune stop"
    assert capsys.readouterr().err.count(said) == 1


def test_a_pause_that_is_on_record_is_not_said_twice(
    recorded: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def pause() -> None:
        write(recorded, Warn("run.paused", "paused: battery at 18 %"))
        _pause(recorded, "battery at 18 %")

    def end() -> None:
        recorded.write_status(replace(recorded.status(), state="stopped", exit_code=130))

    left = iter([pause, lambda: None, end])
    monkeypatch.setattr("localtune.cli.follow.time.sleep", lambda seconds: next(left)())
    Viewer(recorded, Reports()).to_the_end()
    assert capsys.readouterr().err.count("battery at 18 %") == 1


def test_a_paused_run_is_alive_and_nothing_trains(recorded: Run) -> None:
    _pause(recorded)
    follower = Follower(recorded)
    follower.poll()
    view = follower.view
    assert (view.state, view.alive, view.works) == ("paused", True, False)
    assert judgement(view) == f"paused: {WHY}; it goes on by itself. s ends it"
    assert is_good(view) is False
    assert view.elapsed(4e9) == view.worked
    recorded.request("stop")
    follower.poll()
    assert judgement(follower.view) == f"paused: {WHY}; asked to end"


@pytest.mark.parametrize("size", [(60, 24), (100, 30)], ids=str)
async def test_the_app_says_why_it_waits_and_lets_it_be_ended(size: tuple[int, int]) -> None:
    run = recorded_run(steps=40, state="running")
    _pause(run)
    app = LocaltuneApp(run.folder)
    async with app.run_test(size=size) as pilot:
        await says(pilot, f"paused: {WHY}; it goes on by itself")
        first, second, *_ = screen_text(app).splitlines()
        assert size[0] < 100 or "paused: needs 2.1" in first  # as far as there is room
        assert "‖ paused" in second
        assert "ETA" not in screen_text(app)
        bindings = {binding.binding.id for binding in app.screen.active_bindings.values() if binding.enabled}
        assert "live.stop" in bindings
        assert not {"live.resume", "live.save", "live.pause", "live.export"} & bindings
        await pilot.press("s")
        await says(pilot, "Save and stop")
        await pilot.press("enter")
        await until(pilot, lambda: run.requests() == {"stop"})
        run.write_status(replace(run.status(), state="running", worker=run.status().supervisor, detail=""))
        run.answer("stop")
        await says(pilot, "● training")
        assert "paused" not in screen_text(app)


async def test_the_list_of_runs_says_why_one_waits() -> None:
    run = recorded_run(steps=40, state="running")
    _pause(run, "battery at 18 %")
    app = LocaltuneApp()
    async with app.run_test(size=(120, 30)) as pilot:
        await begun(pilot)
        await pilot.press("1")
        await says(pilot, "‖ paused: support-bot 67%  battery at 18 %")
        assert any("support-bot" in line and "‖ paused" in line for line in screen_text(app).splitlines()[2:-3])
