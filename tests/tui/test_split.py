"""The border between two panes goes where the mouse or two keys put it, and is there again the next time."""

from pathlib import Path
from typing import Any

import pytest
from localtune_tui.app import LocaltuneApp
from localtune_tui.state import SessionState
from localtune_tui.widgets.split import Split
from textual.app import App, ComposeResult
from textual.pilot import Pilot
from textual.widgets import Static

from tests.tui.recorded_run import many_runs, recorded_run
from tests.tui.screen_text import says, until


class _Two(App[None]):
    """Two panes, 40 cells each."""

    CSS = "#split { height: 20; } .-narrow #split { grid-size: 1; } .box { border: round white; height: 100%; }"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (50, "-normal")]  # noqa: RUF012

    def __init__(self, path: Path, *, down: bool = False) -> None:
        super().__init__()
        self.state, self.down = SessionState(path), down

    def compose(self) -> ComposeResult:
        """The panes."""
        with Split("test", least=(10, 20) if not self.down else (3, 4), down=self.down, id="split"):
            yield Static("text that could be selected " * 20, classes="box", id="first")
            yield Static("text that could be selected " * 20, classes="box", id="second")

    @property
    def split(self) -> Split:
        """What is tested."""
        return self.query_one(Split)


async def _drag(pilot: Pilot[Any], start: tuple[int, int], end: tuple[int, int]) -> None:
    await pilot.mouse_down(offset=start)
    await pilot.hover(offset=end)
    await pilot.mouse_up(offset=end)
    await pilot.pause()


async def test_the_border_follows_the_mouse_and_nothing_is_selected(tmp_path: Path) -> None:
    app = _Two(tmp_path / "state.json")
    async with app.run_test(size=(80, 24)) as pilot:
        for start, end, place in ((39, 50, 50), (50, 20, 20), (20, 1, 10), (9, 79, 60)):
            await _drag(pilot, (start, 5), (end, 5))
            assert app.split.place == place, (start, end)
        assert not app.screen.selections
        assert app.mouse_captured is None
        app.state.save()
    again = _Two(tmp_path / "state.json")
    async with again.run_test(size=(80, 24)) as pilot:
        assert again.split.place == 60
        await pilot.double_click(offset=(60, 5))
        await pilot.pause()
        assert again.split.place == 40
        again.state.save()
    assert SessionState(tmp_path / "state.json").number("split.test", 0.5) == 0


async def test_beside_the_border_nothing_is_taken(tmp_path: Path) -> None:
    app = _Two(tmp_path / "state.json")
    async with app.run_test(size=(80, 24)) as pilot:
        for start in (37, 42):
            await _drag(pilot, (start, 5), (60, 5))
            assert app.split.place == 40


async def test_panes_above_each_other_have_a_border_too(tmp_path: Path) -> None:
    app = _Two(tmp_path / "state.json", down=True)
    async with app.run_test(size=(80, 24)) as pilot:
        await _drag(pilot, (5, 10), (5, 14))
        assert app.split.place == 14
        await _drag(pilot, (5, 14), (5, 0))
        assert app.split.place == 3


async def test_stacked_panes_have_nothing_to_move_and_a_smaller_terminal_keeps_both(tmp_path: Path) -> None:
    app = _Two(tmp_path / "state.json")
    async with app.run_test(size=(80, 24)) as pilot:
        await _drag(pilot, (40, 5), (60, 5))
        await pilot.resize_terminal(60, 24)
        await until(pilot, lambda: app.split.place == 40)
        assert app.query_one("#second").size.width >= 18
        await pilot.resize_terminal(45, 24)
        await until(pilot, lambda: not app.split.divided)
        assert app.query_one("#first").region.width == 45
        await _drag(pilot, (44, 5), (20, 5))
        assert app.state.number("split.test", 0) == 0.75


@pytest.mark.parametrize("value", [-1.0, 7.0, 1e-9, 1e300, "x", True])
async def test_a_share_that_is_none_counts_as_the_default(tmp_path: Path, value: Any) -> None:
    app = _Two(tmp_path / "state.json")
    app.state.put("split.test", value)
    async with app.run_test(size=(80, 24)):
        assert app.split.place == 40


async def test_keys_move_the_border_of_live_and_of_a_comparison() -> None:
    many_runs(2)
    app = LocaltuneApp(recorded_run().folder)
    async with app.run_test(size=(100, 30)) as pilot:
        await says(pilot, "step 60/60")
        split = app.screen.query_one(Split)
        before = split.place
        await pilot.press("less_than_sign", "ctrl+left", "greater_than_sign")
        await until(pilot, lambda: split.place == before - 4)
        await pilot.resize_terminal(80, 24)
        await until(pilot, lambda: not split.divided)
        assert app.screen.check_action("divide", (4,)) is False
        await pilot.resize_terminal(100, 30)
        await pilot.press("1")
        await says(pilot, "3 of 3")
        await pilot.press("space", "equals_sign")
        runs = app.screen.query_one(Split)
        await until(pilot, lambda: runs.divided)
        before = runs.place
        await pilot.press("greater_than_sign")
        await until(pilot, lambda: runs.place == before + 4)
