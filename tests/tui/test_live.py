"""Live shows a run from its folder, asks it for things, and stays calm whatever becomes of the folder."""

import json
import shutil
import time
from collections.abc import Callable
from typing import Any

import pytest
from localtune_tui.app import LocaltuneApp
from localtune_tui.screens.live import LiveScreen
from localtune_tui.widgets.lines_view import LinesView

from localtune.events import Sample, to_json
from localtune.runs.folder import Run
from tests.goals import Reached
from tests.tui.recorded_run import NAME, recorded_run, step_line
from tests.tui.screen_text import SIZES, assert_clean, begun, looks_as, says, screen_text, until


def _screen(app: LocaltuneApp) -> LiveScreen:
    screen = app.screen
    assert isinstance(screen, LiveScreen)
    return screen


@pytest.mark.parametrize(("width", "height"), SIZES)
async def test_a_recorded_run_looks_as_drawn(width: int, height: int, clock: float) -> None:
    app = LocaltuneApp(recorded_run().folder)
    async with app.run_test(size=(width, height)) as pilot:
        await begun(pilot, "live")
        await says(pilot, "step 60/60")
        await pilot.pause()
        await looks_as(pilot, f"live-{width}x{height}", lambda: screen_text(app))


async def test_a_running_run_says_what_it_does_and_how_long_it_takes() -> None:
    run = recorded_run(steps=40, state="running")
    app = LocaltuneApp(run.folder)
    async with app.run_test(size=(100, 30)) as pilot:
        await says(pilot, "step 40/60")
        text = screen_text(app)
        assert "● training" in text
        assert "detached ok" in text
        assert "ETA" in text
        assert "still improving: val loss fell in each of the last 3 evals" in text
        with run.events.open("a") as file:
            file.write(step_line(41, 60, 0.25) + "\n")
        await says(pilot, "step 41/60")


async def test_stop_asks_and_saves_unless_told_otherwise() -> None:
    run = recorded_run(steps=40, state="running")
    app = LocaltuneApp(run.folder)
    async with app.run_test(size=(100, 30)) as pilot:
        await says(pilot, "step 40/60")
        await pilot.press("s")
        await says(pilot, "Save and stop")
        await pilot.press("enter")
        await until(pilot, lambda: run.requests() == {"stop"})
        await says(pilot, "asked to save and stop")


async def test_escape_keeps_the_run_going() -> None:
    run = recorded_run(steps=40, state="running")
    app = LocaltuneApp(run.folder)
    async with app.run_test(size=(100, 30)) as pilot:
        await says(pilot, "step 40/60")
        await pilot.press("s")
        await says(pilot, "Keep going")
        await pilot.press("escape")
        await says(pilot, "step 40/60")
        assert run.requests() == set()


async def test_pause_says_that_it_is_a_stop_which_can_be_resumed() -> None:
    run = recorded_run(steps=40, state="running")
    app = LocaltuneApp(run.folder)
    async with app.run_test(size=(100, 30)) as pilot:
        await says(pilot, "step 40/60")
        await pilot.press("p")
        await says(pilot, "A run cannot wait in memory.")
        await pilot.press("escape")


async def test_a_checkpoint_can_be_asked_for() -> None:
    run = recorded_run(steps=40, state="running")
    app = LocaltuneApp(run.folder)
    async with app.run_test(size=(100, 30)) as pilot:
        await says(pilot, "step 40/60")
        await pilot.press("w")
        await until(pilot, lambda: run.requests() == {"save"})


async def test_keys_of_a_run_that_has_ended_begin_with_what_can_be_done() -> None:
    run = recorded_run()
    app = LocaltuneApp(run.folder)
    async with app.run_test(size=(80, 24)) as pilot:
        await says(pilot, "step 60/60")
        await says(pilot, "c Chat x Export t Log y Copy z Zoom d Detach ? Help")
        await pilot.press("w")
        assert run.requests() == set()
        await pilot.press("d")
    assert app._exit_renderables == []


async def test_arrows_move_what_is_read_from_the_beginning() -> None:
    app = LocaltuneApp(recorded_run().folder)
    async with app.run_test(size=(100, 30)) as pilot:
        await says(pilot, "step 60/60")
        events, log = app.screen.query_one("#events", LinesView), app.screen.query_one("#log", LinesView)
        await until(pilot, lambda: app.focused is events and events.allow_vertical_scroll)
        for key, place in (("down", 1), ("j", 2), ("g", 0)):
            await pilot.press(key)
            await until(pilot, lambda place=place: events.scroll_offset.y == place)  # type: ignore[misc]
        await pilot.press("t")
        await until(pilot, lambda: app.focused is log)


async def test_control_that_cannot_be_written_is_a_sentence() -> None:
    run = recorded_run(steps=40, state="running")
    run.control.write_text("a file where a folder should be")
    app = LocaltuneApp(run.folder)
    async with app.run_test(size=(100, 30), notifications=True) as pilot:
        await says(pilot, "step 40/60")
        await pilot.press("w")
        await says(pilot, "not asked:")


async def test_a_folder_deleted_while_watched_is_said_and_the_screen_stays() -> None:
    run = recorded_run(steps=40, state="running")
    app = LocaltuneApp(run.folder)
    async with app.run_test(size=(100, 30)) as pilot:
        await says(pilot, "step 40/60")
        shutil.rmtree(run.folder)
        await says(pilot, "this run's folder is gone; 1 shows the runs that are there")
        assert "step 40/60" in screen_text(app)


async def test_a_crashed_run_offers_to_resume() -> None:
    app = LocaltuneApp(recorded_run(steps=40, state="crashed").folder)
    async with app.run_test(size=(100, 30)) as pilot:
        await says(pilot, "✗ crashed")
        await says(pilot, "r resumes from the last checkpoint")
        assert _screen(app).check_action("resume", ()) is True
        assert _screen(app).check_action("stop", ()) is False


async def test_a_silent_run_is_stalled() -> None:
    app = LocaltuneApp(recorded_run(steps=40, state="stalled").folder)
    async with app.run_test(size=(100, 30)) as pilot:
        await says(pilot, "! stalled")


async def test_zoom_axis_and_prompts_have_keys() -> None:
    run = recorded_run()
    with run.events.open("a") as file:
        file.write(to_json(Sample(60, "another prompt", "base said", "tuned said")) + "\n")
    app = LocaltuneApp(run.folder)
    async with app.run_test(size=(100, 30)) as pilot:
        await says(pilot, "1 of 2 prompts")
        await pilot.press("n")
        await says(pilot, "tuned said")
        await pilot.press("z")
        await says(pilot, "last half")
        await pilot.press("a")
        await says(pilot, "loss  log  last half")


async def test_events_are_filtered_as_one_types() -> None:
    app = LocaltuneApp(recorded_run().folder)
    async with app.run_test(size=(100, 30)) as pilot:
        await says(pilot, "step 60/60")
        await pilot.press("slash", *"checkpoint")
        await says(pilot, "events · with checkpoint")
        lines = app.screen.query_one("#events", LinesView).source
        assert {"checkpoint" in lines.line(number) for number in range(lines.count)} == {True}
        await pilot.press("escape")
        await says(pilot, "/ filters")


async def test_the_log_is_searched_without_being_read_whole() -> None:
    run = recorded_run()
    with run.log.open("w") as file:
        file.writelines(f"line {number} of the log\n" for number in range(200_000))
    app = LocaltuneApp(run.folder)
    async with app.run_test(size=(80, 24)) as pilot:
        await says(pilot, "step 60/60")
        await pilot.press("t", "t")
        await says(pilot, "line 199999 of the log")
        await pilot.press("slash", *"line 1234 ", "enter")
        await says(pilot, "line 1234 of the log")
        assert app.screen.query_one("#log", LinesView).marked == 1234


async def test_no_run_and_an_unknown_run_have_a_way_on() -> None:
    app = LocaltuneApp()
    async with app.run_test(size=(100, 30)) as pilot:
        await begun(pilot)
        await pilot.press("3")
        await says(pilot, "No run is open. 1 shows the runs")
        app.current_run = "nobody"
        await says(pilot, "no run is called 'nobody'")


async def test_ascii_has_no_block_and_no_braille() -> None:
    app = LocaltuneApp(recorded_run(steps=40, state="running").folder, ascii=True)
    async with app.run_test(size=(100, 30)) as pilot:
        await says(pilot, "step 40/60")
        text = screen_text(app)
        assert not set(text) & set("█▌░⠁▸●✓▼◆")
        assert not any("\u2800" <= character <= "\u28ff" for character in text)


async def test_hostile_texts_of_a_run_leave_the_screen_whole(hostile: list[str], goal: Reached) -> None:
    run = recorded_run(steps=40, state="running")
    with run.events.open("a", encoding="utf-8", errors="surrogatepass") as file:
        for text in hostile:
            for kind, fields in _EVENTS.items():
                file.write(json.dumps({"format": 1, "type": kind, "time": time.time()} | fields(text)) + "\n")
    run.log.write_bytes("\n".join(hostile).encode("utf-8", "surrogatepass"))
    environment = json.loads(run.environment.read_text())
    environment["model"]["name"] = hostile[4] + "\x1b[31m[red]"
    run.environment.write_text(json.dumps(environment))
    app = LocaltuneApp(run.folder)
    async with app.run_test(size=(100, 30)) as pilot:
        await says(pilot, "step 40/60")
        for key in ["n"] * 6 + ["t"] + ["end", "t"] + ["t"]:
            await pilot.press(key)
            await pilot.pause()
            assert_clean(screen_text(app))
    goal("screen", f"Live: {len(hostile)} strings in {len(_EVENTS)} kinds of events, log and names")


_EVENTS: dict[str, Callable[[str], dict[str, Any]]] = {
    "warning": lambda text: {"code": text, "text": text},
    "phase": lambda text: {"name": text, "detail": text},
    "sample": lambda text: {"step": 40, "prompt": text, "base": text, "tuned": text},
    "product": lambda text: {"name": text, "path": text, "size": 1, "seconds": 1.0},
    "replies": lambda text: {"prompt": text, "texts": {text: text}},
    "proof": lambda text: {"product": text, "passed": False, "checks": [{"name": text, "passed": False, "text": text}],
                           "losses": {text: 1.0}, "seconds": 1.0},
    "failed": lambda text: {"code": text, "text": text},
}  # fmt: skip


async def test_detach_leaves_the_app_and_not_the_run() -> None:
    run = recorded_run(steps=40, state="running")
    app = LocaltuneApp(run.folder)
    async with app.run_test(size=(100, 30)) as pilot:
        await says(pilot, "step 40/60")
        await pilot.press("d")
        await pilot.pause()
    assert run.requests() == set()
    assert Run(run.folder).status().state == "running"
    assert run.name == NAME
