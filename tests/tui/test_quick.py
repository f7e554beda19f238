"""What a key does in its own turn is little: no other process is waited for, nothing else is laid out or painted."""

import threading
from typing import Any

import pytest
from localtune_tui.app import LocaltuneApp
from localtune_tui.asking import Asked
from localtune_tui.draft import Draft
from localtune_tui.planning import Question
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets._footer import FooterKey

from tests.tui.recorded_run import recorded_run, step_line
from tests.tui.screen_text import begun, says


def test_a_question_is_dropped_without_waiting_for_its_child(monkeypatch: pytest.MonkeyPatch) -> None:
    gone, gate = threading.Event(), threading.Event()

    def cancel(asked: Asked) -> None:
        gate.wait(30)
        gone.set()

    monkeypatch.setattr(Asked, "cancel", cancel)
    question = Question(Draft())
    question._asked = Asked()
    question.cancel()
    assert not gone.is_set()
    gate.set()
    assert gone.wait(30)


class _Asks:
    """Who asked for a new layout, or for the whole screen to be painted, since `clear`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.found: list[str] = []
        before = Widget.refresh

        def refresh(widget: Widget, *regions: Any, **how: Any) -> Any:
            if how.get("layout") or (isinstance(widget, Screen) and how.get("repaint", True)):
                self.found.append(repr(widget))
            return before(widget, *regions, **how)

        monkeypatch.setattr(Widget, "refresh", refresh)


async def test_going_from_line_to_line_lays_nothing_out(monkeypatch: pytest.MonkeyPatch) -> None:
    app = LocaltuneApp()
    async with app.run_test(size=(100, 30)) as pilot:
        await begun(pilot)
        await pilot.press("2")
        await says(pilot, "choose a data file")
        await pilot.press("down", "up", "down")
        await pilot.pause(0.1)
        keys, asks = list(app.screen.query(FooterKey)), _Asks(monkeypatch)
        assert keys
        await pilot.press("down")
        await pilot.pause(0.1)
        assert asks.found == []
        assert list(app.screen.query(FooterKey)) == keys


async def test_an_update_of_the_run_lays_nothing_out(monkeypatch: pytest.MonkeyPatch) -> None:
    run = recorded_run(steps=40, state="running")
    app = LocaltuneApp(run.folder)
    async with app.run_test(size=(100, 30)) as pilot:
        await says(pilot, "step 40/60")
        await says(pilot, "tokens")
        await pilot.pause(0.3)
        asks = _Asks(monkeypatch)
        with run.events.open("a") as file:
            file.write(step_line(41, 60, 0.25) + "\n")
        await says(pilot, "step 41/60")
        assert asks.found == []
