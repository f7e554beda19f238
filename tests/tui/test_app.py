"""The frame: where the app begins, how one moves in it, what it keeps, what it says when something is in the way."""

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner
from localtune_tui import screens
from localtune_tui.app import LocaltuneApp
from localtune_tui.beginning import beginning
from localtune_tui.ending import EndingApp
from localtune_tui.keys import actions
from localtune_tui.modals.confirm import Confirm
from localtune_tui.screens.base import TopBar
from textual.app import App
from textual.css.query import NoMatches

from localtune.cli import localtune
from localtune.runs.folder import Run, Status
from localtune.runs.process import process_id
from tests.tui.recorded_run import recorded_run
from tests.tui.screen_text import begun, says, screen_text, until, widget_text


def _run(folder: Path, name: str, status: Status | None = None) -> Run:
    run = Run(folder / name)
    run.folder.mkdir(parents=True)
    run.plan.write_text('{"format": 1}', encoding="utf-8")
    if status is not None:
        run.write_status(status)
    return run


@pytest.mark.parametrize("words", [["--ascii"], ["tui", "--ascii"], ["--ascii", "tui"], ["--ascii", "{run}"], []])
def test_ascii_reaches_the_app_wherever_it_is_typed(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, drawn = _run(tmp_path, "one-20260101-000000"), list[bool]()
    monkeypatch.setattr("localtune.cli.tui.on_terminal", lambda: True)
    monkeypatch.setattr(LocaltuneApp, "run", lambda self: drawn.append(self.ascii))
    ended = CliRunner().invoke(localtune, [word.format(run=run.folder) for word in words])
    assert (ended.exit_code, drawn) == (0, [bool(words)])


def test_ascii_is_refused_where_no_app_is_opened() -> None:
    ended = CliRunner().invoke(localtune, ["--ascii", "runs", "ls"])
    assert ended.exit_code == 2
    assert "--ascii is for the app, not for runs" in ended.output


RUNNING = Status("running", supervisor=process_id(os.getpid()), heartbeat=4e9)


def test_it_begins_with_the_first_steps_where_there_are_no_runs() -> None:
    assert beginning(None, "system") == ("first", None)


def test_it_begins_as_it_was_left(tmp_path: Path) -> None:
    _run(tmp_path / "runs", "old-20260101-000000", Status("done"))
    _run(tmp_path / "runs", "new-20260102-000000", Status("failed"))
    assert beginning(None, "system") == ("system", "new-20260102-000000")
    assert beginning(None, "nonsense") == ("runs", "new-20260102-000000")


def test_it_begins_on_the_run_that_goes_on(tmp_path: Path) -> None:
    _run(tmp_path / "runs", "going-20260101-000000", RUNNING)
    _run(tmp_path / "runs", "new-20260102-000000", Status("done"))
    assert beginning(None, "system") == ("live", "going-20260101-000000")


def test_it_begins_on_the_folder_that_was_named(tmp_path: Path) -> None:
    run = _run(tmp_path / "elsewhere", "one-20260101-000000", Status("done"))
    assert beginning(run.folder, "runs") == ("live", str(run.folder))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 2}', '{"format": 1, "state": 7}', "\x00"])
def test_a_status_that_is_none_keeps_nobody_from_beginning(tmp_path: Path, text: str) -> None:
    run = _run(tmp_path / "runs", "torn-20260101-000000")
    run.status_file.write_text(text, encoding="utf-8")
    assert beginning(None, "runs") == ("runs", "torn-20260101-000000")


@pytest.mark.usefixtures("empty_tabs")
async def test_numbers_go_to_tabs_and_minus_goes_back() -> None:
    app = LocaltuneApp()
    async with app.run_test(size=(100, 30), notifications=True) as pilot:
        await begun(pilot)
        for key, mode in zip("123456", screens.SCREENS, strict=False):
            await pilot.press(key)
            assert app.current_mode == mode
        await says(pilot, "[6 System]")
        await pilot.press("minus")
        assert app.current_mode == "export"
        await pilot.press("minus")
        assert app.current_mode == "chat"


@pytest.mark.usefixtures("empty_tabs")
@pytest.mark.parametrize(("width", "at"), [(100, 24), (80, 20)])
async def test_a_click_on_a_tab_goes_there(width: int, at: int) -> None:
    app = LocaltuneApp()
    async with app.run_test(size=(width, 30)) as pilot:
        await begun(pilot)
        await pilot.click(TopBar, offset=(at, 0))
        assert app.current_mode == "new"


@pytest.mark.usefixtures("empty_tabs")
async def test_the_screen_and_the_colours_of_the_last_session_come_back(tmp_path: Path) -> None:
    _run(tmp_path / "runs", "done-20260101-000000", Status("done"))
    for expected in ("localtune-dark", "localtune-light"):
        app = LocaltuneApp()
        async with app.run_test() as pilot:
            await begun(pilot)
            assert app.theme == expected
            assert app.current_mode == ("runs" if expected == "localtune-dark" else "system")
            await pilot.press("6", "f2")
    assert json.loads((tmp_path / "state" / "session.json").read_text(encoding="utf-8"))["mode"] == "system"


@pytest.mark.usefixtures("empty_tabs")
@pytest.mark.parametrize("text", ["", "{", '{"format": 1, "mode": [], "theme": 4}', "[" * 5000, '{"format": 7}'])
async def test_a_session_file_that_is_none_counts_as_empty(tmp_path: Path, text: str) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "session.json").write_text(text, encoding="utf-8")
    app = LocaltuneApp()
    async with app.run_test() as pilot:
        await begun(pilot)
        assert app.current_mode == "first"
        assert app.theme == "localtune-dark"


@pytest.mark.usefixtures("empty_tabs")
async def test_a_state_folder_that_cannot_be_written_is_no_reason_to_fail(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file is in the way", encoding="utf-8")
    app = LocaltuneApp()
    async with app.run_test() as pilot:
        await begun(pilot)
        await pilot.press("6")
        assert app.in_control


async def test_a_tab_that_cannot_be_opened_says_so_and_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(screens.SCREENS, "chat", "no_such_module:Chat")
    app = LocaltuneApp()
    async with app.run_test(size=(100, 30), notifications=True) as pilot:
        await begun(pilot)
        await pilot.press("4")
        await says(pilot, "Chat could not be opened")
        assert app.current_mode == "first"


@pytest.mark.usefixtures("empty_tabs")
@pytest.mark.parametrize("size", [(40, 10), (59, 30), (100, 14), (1, 1), (5, 3)])
async def test_a_terminal_too_small_gets_a_sentence(size: tuple[int, int]) -> None:
    app = LocaltuneApp()
    async with app.run_test(size=size) as pilot:
        await begun(pilot)
        if size[0] >= 40:
            await says(pilot, "too small")
        await pilot.resize_terminal(80, 24)
        await says(pilot, "1 Runs")
        assert "too small" not in screen_text(app)


@pytest.mark.usefixtures("empty_tabs")
@pytest.mark.parametrize(
    ("size", "classes"), [((80, 24), "-narrow -short"), ((100, 30), "-normal -tall"), ((160, 48), "-wide -tall")]
)
async def test_screens_know_how_large_they_are(size: tuple[int, int], classes: str) -> None:
    app = LocaltuneApp()
    async with app.run_test(size=size) as pilot:
        await begun(pilot)
        assert app.screen.classes == set(classes.split())
        assert all(tab in screen_text(app).splitlines()[0] for tab in ("1 Runs", "6 System"))


@pytest.mark.usefixtures("empty_tabs")
async def test_q_quits_from_runs_only_and_ctrl_q_from_anywhere() -> None:
    app = LocaltuneApp()
    async with app.run_test() as pilot:
        await begun(pilot)
        await pilot.press("6", "q")
        assert app.current_mode == "system"
        assert app._exit is False
        await pilot.press("1", "q")
        await until(pilot, lambda: app._exit)


@pytest.mark.usefixtures("empty_tabs")
async def test_a_question_comes_back_with_its_answer_and_escape_with_none() -> None:
    app = LocaltuneApp()
    answers: list[str | None] = []
    async with app.run_test(size=(80, 24)) as pilot:
        await begun(pilot)
        for keys in (("enter",), ("right", "enter"), ("l", "h", "enter"), ("escape",)):
            expected = len(answers) + 1
            app.push_screen(Confirm("Really?", "It is gone then."), answers.append)
            await says(pilot, "It is gone then.")
            await pilot.press(*keys)
            await until(pilot, lambda expected=expected: len(answers) == expected)  # type: ignore[misc]
    assert answers == ["no", "yes", "no", None]


@pytest.mark.usefixtures("empty_tabs")
async def test_a_second_app_watches_only_until_the_first_is_gone(tmp_path: Path) -> None:
    from localtune_tui.control import Control

    first = Control(tmp_path / "state")
    assert first.take()
    app = LocaltuneApp()
    async with app.run_test(size=(100, 30), notifications=True) as pilot:
        await begun(pilot)
        assert not app.in_control
        await says(pilot, f"another localtune (process {os.getpid()})")
        first.give_back()
        app._look_for_control()
        assert app.in_control
    assert first.take()  # the app has given it back
    first.give_back()


@pytest.mark.usefixtures("empty_tabs")
async def test_what_is_copied_is_sent_by_osc_52_and_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    app = LocaltuneApp()
    async with app.run_test(size=(100, 30), notifications=True) as pilot:
        await begun(pilot)
        written: list[str] = []
        monkeypatch.setattr(app._driver, "write", written.append)
        app.copy("localtune runs ls")
        assert "\x1b]52;c;bG9jYWx0dW5lIHJ1bnMgbHM=\a" in written
        await says(pilot, "copied  localtune runs ls")


@pytest.mark.usefixtures("empty_tabs")
async def test_an_action_of_the_palette_is_done() -> None:
    app = LocaltuneApp()
    async with app.run_test(size=(100, 30), notifications=True) as pilot:
        await begun(pilot)
        await pilot.press("ctrl+p")
        await says(pilot, "Go to System.")
        await pilot.press(*"go to system")
        await until(pilot, lambda: "Go to Runs." not in screen_text(app))
        await says(pilot, "Go to System.")
        await pilot.press("enter")
        await until(pilot, lambda: app.current_mode == "system")
        assert "localtune doctor" in app.command_of("app.system")
        assert {action.id for action in actions(app.screen)} > {"app.runs", "app.help", "app.quit"}


@pytest.mark.usefixtures("empty_tabs")
async def test_help_opens_and_closes_by_the_same_key() -> None:
    app = LocaltuneApp()
    async with app.run_test(size=(100, 30), notifications=True) as pilot:
        await begun(pilot)
        await pilot.press("question_mark")
        await says(pilot, "Quit from anywhere; runs go on without the app.")
        await pilot.press("question_mark")
        await until(pilot, lambda: "Quit from anywhere" not in screen_text(app))


@pytest.mark.usefixtures("empty_tabs")
async def test_the_machine_stands_at_the_right_of_the_tabs_and_a_screens_title_wins() -> None:
    app = LocaltuneApp()
    async with app.run_test(size=(160, 30)) as pilot:
        await begun(pilot)
        app.knows("mlx · M3 Pro · 36 GB")
        assert widget_text(app.screen.query_one(TopBar)).endswith("mlx · M3 Pro · 36 GB")
        app.screen.title_text = "support-bot"  # type: ignore[attr-defined]
        assert widget_text(app.screen.query_one(TopBar)).endswith("support-bot")


@pytest.mark.parametrize("mode", ["live", "new", "runs"])
async def test_who_leaves_while_a_tab_is_being_opened_meets_no_failure(mode: str) -> None:
    recorded_run(steps=40, state="running")
    app = LocaltuneApp()
    async with app.run_test(size=(100, 30)) as pilot:
        await begun(pilot)
        before = app.current_mode
        app.action_go(mode if before != mode else "system")
        app.leave(143)
        app.action_go("export")  # a tab that is asked for too late is not opened
    assert app.return_code == 143
    assert not list((Path(os.environ["LOCALTUNE_STATE"])).glob("crash*"))


async def test_an_app_that_takes_leaving_for_a_failure_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EndingApp, "_handle_exception", App._handle_exception)
    with pytest.raises(NoMatches):
        await test_who_leaves_while_a_tab_is_being_opened_meets_no_failure("live")
