"""Welcome: what was found, three ways to begin, nothing without being asked."""

from pathlib import Path

import pytest
from localtune_tui import findings
from localtune_tui.app import LocaltuneApp
from localtune_tui.asking import Asked, AskError
from localtune_tui.modals.pick_file import PickFile

from tests.goals import Reached
from tests.tui.conftest import HOSTILE
from tests.tui.screen_text import SIZES, assert_clean, begun, looks_as, says, screen_text, until


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("size", SIZES, ids=str)
async def test_it_shows_what_was_found_and_three_ways(size: tuple[int, int]) -> None:
    app = LocaltuneApp()
    async with app.run_test(size=size) as pilot:
        await begun(pilot)
        await says(pilot, "CPython")
        await looks_as(pilot, f"first-{size[0]}x{size[1]}", lambda: screen_text(app))


async def test_the_demo_starts_only_when_it_was_agreed_to(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []

    def answer(self: Asked, *args: str) -> object:
        asked.append(args)
        return {"run": "quickstart-20260101-000000", "folder": "/x"}

    opened: list[str] = []
    monkeypatch.setattr(Asked, "run_json", answer)
    app = LocaltuneApp()
    monkeypatch.setattr(app, "open_run", opened.append)
    async with app.run_test(size=(100, 30)) as pilot:
        await begun(pilot)
        await pilot.press("enter")
        await says(pilot, "Train the demo?")
        await pilot.press("escape")
        await until(pilot, lambda: "Train the demo?" not in screen_text(app))
        assert asked == []
        await pilot.press("d")
        await says(pilot, "Train the demo?")
        await pilot.press("enter")
        await until(pilot, lambda: bool(opened))
    assert asked == [("run", "quickstart", "--detach", "--json")]
    assert opened == ["quickstart-20260101-000000"]


async def test_a_demo_that_cannot_start_says_why_in_the_command_lines_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Asked, *args: str) -> object:
        raise AskError(4, "error[disk.full]: [red]no room[/]\n  fix: free some space")

    monkeypatch.setattr(Asked, "run_json", refuse)
    app = LocaltuneApp()
    async with app.run_test(size=(100, 30)) as pilot:
        await begun(pilot)
        await pilot.press("d")
        await says(pilot, "Train the demo?")
        await pilot.press("enter")
        await says(pilot, "error[disk.full]: [red]no room[/]")
        await says(pilot, "fix: free some space")
        assert app.current_mode == "first"


@pytest.mark.parametrize(("key", "recipe"), [("f", False), ("o", True)])
async def test_a_file_and_a_recipe_are_picked_and_fill_the_page_new(
    key: str, recipe: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted: list[tuple[object, object]] = []
    app = LocaltuneApp()
    monkeypatch.setattr(app, "new_from", lambda recipe, data=None: wanted.append((recipe, data)))
    async with app.run_test(size=(100, 30)) as pilot:
        await begun(pilot)
        await pilot.press(key)
        await until(pilot, lambda: isinstance(app.screen, PickFile))
        app.screen.dismiss("/data/rows.jsonl")
        await until(pilot, lambda: bool(wanted))
    assert wanted == [(Path("/data/rows.jsonl"), None) if recipe else (None, "/data/rows.jsonl")]


async def test_hostile_findings_are_harmless(monkeypatch: pytest.MonkeyPatch, goal: Reached) -> None:
    found = [{"name": text, "status": "ok", "text": text, "fix": text, "group": "chat"} for text in HOSTILE]
    monkeypatch.setattr(findings, "ask", lambda asked: findings.read({"findings": found}))
    app = LocaltuneApp()
    async with app.run_test(size=(160, 700)) as pilot:
        await begun(pilot)
        await says(pilot, "run [bold]x[/] name")
        assert_clean(screen_text(app))
    goal("screen", f"Welcome: {len(HOSTILE)} strings")
