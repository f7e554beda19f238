"""Runs lists, filters, sorts, compares, opens and removes; ten thousand as calmly as none."""

import os
import shutil
import time
from pathlib import Path

import pytest
from localtune_tui.app import LocaltuneApp
from localtune_tui.chart import _mark
from localtune_tui.comparing import Comparison, curves_together
from localtune_tui.run_rows import RunRow, read_filter, read_row
from localtune_tui.screens.runs import RunsScreen
from localtune_tui.widgets.compare_pane import differences

from localtune.runs.files import folder_size
from localtune.runs.store import all_runs
from localtune.sizes import readable
from tests.goals import FULL, Reached
from tests.tui.recorded_run import many_runs, recorded_run
from tests.tui.screen_text import SIZES, assert_clean, begun, looks_as, says, screen_text, until

NAMES = ("support-bot-20261121-201035", "faq-mini-20261122-090000", "sql-writer-20261123-110000")


def _three() -> None:
    recorded_run(NAMES[0])
    recorded_run(NAMES[1], steps=30, state="stopped")
    recorded_run(NAMES[2], steps=20, state="failed")


def _runs(app: LocaltuneApp) -> RunsScreen:
    screen = app.screen
    assert isinstance(screen, RunsScreen)
    return screen


@pytest.mark.parametrize(("width", "height"), SIZES[:2])
async def test_the_list_looks_as_drawn(width: int, height: int, clock: float) -> None:
    _three()
    app = LocaltuneApp()
    async with app.run_test(size=(width, height)) as pilot:
        await begun(pilot, "runs")
        await says(pilot, "✗ failed")
        await says(pilot, "✓ done")
        await pilot.pause()
        await looks_as(
            pilot,
            f"runs-{width}x{height}",
            lambda: screen_text(app, {os.environ["LOCALTUNE_RUNS"]: "~/localtune/runs"}),
        )


async def test_no_runs_are_a_calm_sentence_and_a_way_on() -> None:
    app = LocaltuneApp()
    async with app.run_test(size=(100, 30)) as pilot:
        await begun(pilot, "first")
        await pilot.press("1")
        await says(pilot, "There are no runs yet.")


async def test_a_filter_and_an_order_show_what_fits() -> None:
    _three()
    app = LocaltuneApp()
    async with app.run_test(size=(100, 30)) as pilot:
        await begun(pilot, "runs")
        size = sum(folder_size(run.folder) for run in all_runs())
        await says(pilot, f"3 of 3 · {readable(size)} on disk · by when")
        await pilot.press("slash", *"state:stopped")
        await says(pilot, "1 of 3")
        assert _runs(app).table.names == (NAMES[1],)
        await pilot.press("escape")
        await says(pilot, "3 of 3")
        await pilot.press("o")
        await says(pilot, "by name")
        assert _runs(app).table.names == (NAMES[1], NAMES[2], NAMES[0])


async def test_the_filter_comes_back_with_the_next_session() -> None:
    _three()
    app = LocaltuneApp()
    async with app.run_test(size=(100, 30)) as pilot:
        await begun(pilot, "runs")
        await pilot.press("slash", *"faq", "enter")
        await says(pilot, "1 of 3")
    again = LocaltuneApp()
    async with again.run_test(size=(100, 30)) as pilot:
        await begun(pilot, "runs")
        await says(pilot, "1 of 3")


async def test_enter_opens_live_on_the_run_under_the_cursor() -> None:
    _three()
    app = LocaltuneApp()
    async with app.run_test(size=(100, 30)) as pilot:
        await begun(pilot, "runs")
        await says(pilot, "3 of 3")
        await pilot.press("down", "enter")
        await until(pilot, lambda: app.current_mode == "live")
        await says(pilot, "step 30/60")
        assert app.current_run == NAMES[1]


async def test_marked_runs_are_drawn_together_with_what_differs() -> None:
    _three()
    resolved = Path(os.environ["LOCALTUNE_RUNS"]) / NAMES[1] / "resolved.yaml"
    resolved.write_text(resolved.read_text().replace("rank: 16", "rank: 4"))
    app = LocaltuneApp()
    async with app.run_test(size=(100, 30)) as pilot:
        await begun(pilot, "runs")
        await says(pilot, "3 of 3")
        await pilot.press("down", "space", "space", "equals_sign")
        await says(pilot, "lora.rank")
        await says(pilot, "same data, byte for byte")
        text = screen_text(app)
        for part in ("a faq-mini  b support-bot", "0.04627  │ 0.009091", "lora.rank  4", "c compare"):
            assert part in text, part
        await pilot.press("escape")
        await until(pilot, lambda: not app.screen.query("ComparePane"))


async def test_delete_asks_first_and_removes_the_folder() -> None:
    _three()
    folder = Path(os.environ["LOCALTUNE_RUNS"]) / NAMES[2]
    app = LocaltuneApp()
    async with app.run_test(size=(100, 30)) as pilot:
        await begun(pilot, "runs")
        await says(pilot, "✗ failed")
        await pilot.press("D")
        await says(pilot, f"Delete {NAMES[2]}?")
        await pilot.press("escape")
        assert folder.is_dir()
        await pilot.press("D")
        await says(pilot, "Delete it")
        await pilot.press("right", "enter")
        await until(pilot, lambda: not folder.exists())
        await says(pilot, "2 of 2")


async def test_a_running_run_is_not_deleted_and_the_key_says_why() -> None:
    recorded_run(NAMES[0])
    recorded_run(NAMES[1], steps=30, state="running")
    app = LocaltuneApp()
    async with app.run_test(size=(100, 30), notifications=True) as pilot:
        await begun(pilot, "live")
        await pilot.press("1")
        await says(pilot, "● 50%")
        await says(pilot, "● running: faq-mini 50%")
        await pilot.press("D")
        await says(pilot, "faq-mini is running: stop it first, in Live")


async def test_a_run_deleted_by_somebody_else_leaves_the_list() -> None:
    _three()
    app = LocaltuneApp()
    async with app.run_test(size=(100, 30)) as pilot:
        await begun(pilot, "runs")
        await says(pilot, "3 of 3")
        shutil.rmtree(Path(os.environ["LOCALTUNE_RUNS"]) / NAMES[1])
        await says(pilot, "2 of 2")


async def test_ten_thousand_runs_are_listed_and_only_those_in_sight_are_read() -> None:
    many_runs(10_000)
    app = LocaltuneApp()
    async with app.run_test(size=(100, 30)) as pilot:
        await begun(pilot, "runs")
        await says(pilot, "10,000 of 10,000")
        await says(pilot, "✓ done")
        assert len(_runs(app).list.rows) < 100
        began = time.monotonic()
        await pilot.press("end", "home", "pagedown")
        assert time.monotonic() - began < 2.5
        await pilot.press("end")
        await until(pilot, lambda: _runs(app).table.names[-1] in _runs(app).list.rows)


async def test_hostile_names_and_files_leave_the_screen_whole(hostile: list[str], goal: Reached) -> None:
    chosen = hostile if FULL else hostile[:60]
    for number, text in enumerate(chosen):
        run = recorded_run(f"bot-20260101-{number:06d}", steps=5, state="stopped")
        text = text.encode("utf-8", "backslashreplace").decode()
        run.environment.write_text(
            '{"format": 1, "model": {"name": %s}, "data": {"files": {%s: "x"}}}' % ((_json(text),) * 2)
        )
    app = LocaltuneApp()
    async with app.run_test(size=(100, 30)) as pilot:
        await begun(pilot, "runs")
        await says(pilot, f"{len(chosen)} of {len(chosen)}")
        for _ in range(len(chosen) // 15):
            await pilot.press("pagedown")
            await pilot.pause(0.1)
            assert_clean(screen_text(app))
    goal("screen", f"Runs: {len(chosen)} strings")


def _json(text: str) -> str:
    import json

    return json.dumps(text)


def test_three_columns_are_cut_and_never_wrapped() -> None:
    found = Comparison(
        ("a", "b"),
        (),
        (("best val", "0.01", "0.2"),),
        (("train.learning_rate", "0.003", "0.0001"), ("model", "Qwen3-1.7B-Instruct-2507", "Qwen3-0.6B")),
        "other data",
    )
    assert [line.plain for line in differences(found, 32)] == [
        "best val    0.01     │ 0.2",
        "",
        "learning_…  0.003    │ 0.0001",
        "model       Qwen3-1… │ Qwen3-0…",
        "other data",
    ]
    wide = [line.plain for line in differences(found, 90)]
    assert wide[2] == "train.learning_rate  0.003                    │ 0.0001"


def test_runs_that_are_drawn_together_have_a_sign_each_without_colours() -> None:
    recorded_run(NAMES[0])
    recorded_run(NAMES[1], steps=30, state="stopped")
    curves = curves_together(NAMES[:2]).curves
    marks = [{_mark(curve, ascii_only=True, colours=False) for curve in curves if curve.colour == place}
             for place in (0, 1)]  # fmt: skip
    assert marks == [{"a", "A"}, {"b", "B"}]
    assert {_mark(curve, ascii_only=False, colours=True) for curve in curves} == {"braille", "a", "A", "b", "B"}


def test_a_row_says_what_the_run_came_to() -> None:
    row = read_row(recorded_run())
    assert (row.state, row.step, row.steps, row.stem) == ("done", 60, 60, "support-bot")
    assert row.best == pytest.approx(0.00909, abs=1e-5)
    assert 10 < len(row.trend) <= 24
    assert row.took == pytest.approx(35, abs=1)
    assert read_row(recorded_run("other-20260101-000000", state="done"), row).name == "other-20260101-000000"


def test_a_row_is_not_read_again_while_nothing_has_changed() -> None:
    run = recorded_run()
    row = read_row(run)
    assert read_row(run, row) is row


def test_filter_words_are_all_needed_in_any_case() -> None:
    row = RunRow("support-bot-1", 0.0, "done", model="Qwen3-1.7B", data="support.jsonl")
    assert read_filter("state:done model:qwen BOT").fits(row, row.name)
    assert not read_filter("state:done model:llama").fits(row, row.name)
    assert read_filter("c:x").fits(RunRow("c:x", 0.0), "c:x")
    assert not read_filter("state:done").fits(None, "support-bot-1")
