"""The frame under bad input: hostile text in all its parts, consoles without signs, failures in the background."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from localtune_tui import findings
from localtune_tui.amounts import sign
from localtune_tui.app import LocaltuneApp
from localtune_tui.ascii_signs import ASCII
from localtune_tui.crash import keep
from localtune_tui.keys import SPELLED, actions
from localtune_tui.modals.chat_settings import ChatSettings
from localtune_tui.modals.confirm import Answer, Confirm, Dialog
from localtune_tui.modals.fix_data import FixData
from localtune_tui.modals.pick_file import PickFile
from localtune_tui.modals.repository import AskRepository
from localtune_tui.run_view import State
from localtune_tui.talk import Wishes
from textual.color import Color
from textual.events import Paste
from textual.strip import Strip
from textual.widgets import Input

from tests.goals import Reached
from tests.tui.conftest import HOSTILE, some
from tests.tui.screen_text import assert_clean, begun, says, screen_text


@pytest.mark.usefixtures("empty_tabs")
async def test_hostile_text_in_every_part_of_the_frame_is_harmless(goal: Reached) -> None:
    app = LocaltuneApp()
    async with app.run_test(size=(160, 30)) as pilot:
        await begun(pilot)
        for text in [*HOSTILE, "at last"]:
            app.machine = text
            app.screen.title_text = ""  # type: ignore[attr-defined]
            assert_clean(screen_text(app))
            app.screen.title_text = text  # type: ignore[attr-defined]
            assert_clean(screen_text(app))
            await says(pilot, "1 Runs")
        assert screen_text(app).splitlines()[0].endswith("at last")
    goal("screen", f"frame: {len(HOSTILE)} strings")


@pytest.mark.usefixtures("empty_tabs")
async def test_hostile_text_in_toasts_is_harmless(goal: Reached) -> None:
    app = LocaltuneApp()
    async with app.run_test(size=(100, 400), notifications=True) as pilot:
        await begun(pilot)
        for first in range(0, len(HOSTILE), 30):
            app.clear_notifications()
            for text in HOSTILE[first : first + 30]:
                app.say(text)
                app.copy(text)
            app.say(f"as far as {first}")
            await says(pilot, f"as far as {first}")
            assert_clean(screen_text(app))
    goal("screen", f"toasts: {len(HOSTILE)} strings")


@pytest.mark.usefixtures("empty_tabs")
async def test_hostile_text_in_questions_is_harmless(goal: Reached) -> None:
    app = LocaltuneApp()
    async with app.run_test(size=(100, 60)) as pilot:
        await begun(pilot)
        for first in range(0, len(HOSTILE), 12):
            texts = HOSTILE[first : first + 12]
            answers = [Answer(str(number), text, danger=number > 5) for number, text in enumerate(texts)]
            app.push_screen(Confirm("\n".join(texts), "\n".join(texts), answers))
            await pilot.pause()
            assert_clean(screen_text(app))
            app.pop_screen()
    goal("screen", f"questions: {len(HOSTILE)} strings")


def test_a_sign_has_one_stand_in_wherever_it_is_painted() -> None:
    assert sign("done", ascii_only=True) == "✓".translate(ASCII) == "+"
    assert all(name.isascii() for name in SPELLED.values())
    assert all(sign(state, ascii_only=True).isascii() for state in get_args(State))


async def test_ascii_only_paints_ascii_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(findings, "ask", lambda asked: findings.read({"findings": [{"name": "a", "text": "b … ✓ │"}]}))
    app = LocaltuneApp(ascii=True)
    async with app.run_test(size=(100, 30)) as pilot:
        await begun(pilot)
        painted = "".join(s.text for strip in _painted(app) for s in strip)
        assert painted.isascii(), painted
        assert "how to begin" in painted
        await pilot.press("1")
        await begun(pilot, "runs")
        shown = {key for action in actions(app.screen) for key in action.keys}
        assert "enter" in shown
        assert all(key.isascii() for key in shown)


def _painted(app: LocaltuneApp) -> list[Strip]:
    strips = app.screen._compositor.render_strips()
    for each in app.get_line_filters():
        strips = [strip.apply_filter(each, Color(0, 0, 0)) for strip in strips]
    return strips


async def test_a_failure_in_the_background_is_said_and_ends_nothing() -> None:
    def fail() -> None:
        raise ValueError("[bold]\x1b[31mno[/]")

    app = LocaltuneApp()
    async with app.run_test(size=(100, 30), notifications=True) as pilot:
        await begun(pilot)
        app.screen.run_worker(fail, name="_look", thread=True, exit_on_error=False)
        await says(pilot, "look failed: ValueError: [bold]")
        app.run_worker(fail, name="_begin", thread=True, exit_on_error=False)
        await says(pilot, "begin failed: ValueError")


def test_a_failure_of_the_app_is_a_sentence_and_a_file(tmp_path: Path) -> None:
    try:
        raise ValueError("\x1b[31m[bold]no")
    except ValueError:
        said = keep(tmp_path / "state")
    assert_clean(said)
    assert "the app has failed: ValueError: \\x1b[31m[bold]no; runs go on without it" in said
    assert "Traceback" in (tmp_path / "state" / "crash.txt").read_text(encoding="utf-8")


DIALOGS: tuple[Callable[[str], Dialog[Any]], ...] = (
    lambda text: FixData({text: 1}, text),
    lambda text: AskRepository(text),
    lambda text: ChatSettings(Wishes(0.0, 1, 16, text), template=True),
    lambda text: PickFile(Path(__file__).parent, (".jsonl",), question=text),
)


@pytest.mark.usefixtures("empty_tabs")
async def test_hostile_text_in_dialogs_and_pasted_into_their_lines_is_harmless(goal: Reached) -> None:
    app, chosen = LocaltuneApp(), some(HOSTILE, 40)
    async with app.run_test(size=(120, 40)) as pilot:
        await begun(pilot)
        for text, dialog in itertools.product(chosen, DIALOGS):
            shown = dialog(text)
            app.push_screen(shown)
            await pilot.pause()
            for line in shown.query(Input):
                line.value = text
                line.focus()
                line.post_message(Paste(text))
            await pilot.pause()
            assert_clean(screen_text(app))
            app.pop_screen()
    goal("screen", f"dialogs and lines that are edited: {len(chosen)} strings")
