"""Data: every row with what becomes of it, the row as the model sees it, and a clean copy."""

import json
from pathlib import Path
from typing import Any

import pytest
from localtune_tui.app import LocaltuneApp
from localtune_tui.asking import AskError
from localtune_tui.draft import Draft
from localtune_tui.screens.data import DataScreen
from localtune_tui.widgets.field import Field
from localtune_tui.widgets.lengths import bars, histogram, lengths_line, percentile
from localtune_tui.widgets.painted import on_a_line, painted, token_lines
from localtune_tui.widgets.rows_table import RowsTable
from textual.pilot import Pilot
from textual.widgets import Input, Static

from tests.command import MODEL
from tests.goals import Reached
from tests.tui.answers import DIRTY, RECORDED, Answers, recorded, replayed
from tests.tui.conftest import some
from tests.tui.screen_text import SIZES, assert_clean, begun, looks_as, says, screen_text, until, widget_text


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Answers:
    """The quickstart's answers."""
    return replayed(monkeypatch)


@pytest.fixture
def dirty(answers: Answers) -> Answers:
    """The answers about dirty.jsonl."""
    answers.by_verb |= {
        "data show": json.loads(recorded("dirty-show.json")),
        "data list": recorded("dirty-list.jsonl"),
        "data check": AskError(2, "", json.loads(recorded("dirty-check.json"))),
    }
    return answers


async def opened(pilot: Pilot[Any], draft: Draft | None = None, use: Any = None) -> DataScreen:
    """Data, once all of it is there."""
    await begun(pilot)
    screen = DataScreen(draft or Draft(data=str(DIRTY), model=str(MODEL)), use)
    await pilot.app.push_screen(screen)
    await until(pilot, lambda: "looking" not in str(screen.query_one("#findings-text", Static).content))
    await pilot.pause()
    return screen


def table(screen: DataScreen) -> list[list[str]]:
    rows = screen.query_one(RowsTable)
    return [[cell.plain for cell in rows.get_row_at(at)] for at in range(rows.row_count)]


async def test_every_row_says_what_becomes_of_it(dirty: Answers) -> None:
    async with LocaltuneApp().run_test(size=(120, 40)) as pilot:
        screen = await opened(pilot)
        rows = {row[0]: row for row in table(screen)}
        assert rows["1"][1:] == ["2", "38", ""]
        assert rows["3"][3] == "duplicate of 1"
        assert "no assistant turn" in rows["4"][3]
        assert rows["6"][3] == "cut at 100"
        assert "not JSON" in rows["7"][3]
        assert "rows 8" in screen_text(pilot.app)


async def test_the_row_under_the_cursor_is_painted_where_it_is_learned(dirty: Answers) -> None:
    async with LocaltuneApp().run_test(size=(120, 40)) as pilot:
        screen = await opened(pilot)
        said = widget_text(screen.query_one("#row-text"))
        assert "▒Sorry about that! What is the number?" in said
        assert "38 tokens, 18 learned (47%)" in said
        await pilot.press("m")
        assert "▒" not in widget_text(screen.query_one("#row-text"))
        await pilot.press("t")
        assert "<|im_start|>" in widget_text(screen.query_one("#row-text")).splitlines()[0]


async def test_a_row_further_down_is_asked_for_when_the_cursor_rests(dirty: Answers) -> None:
    async with LocaltuneApp().run_test(size=(120, 40)) as pilot:
        screen = await opened(pilot)
        dirty.by_verb["data show"] = AskError(2, "error[data.json]: not JSON here")
        await pilot.press("G")
        await pilot.pause()
        await pilot.press("k")
        await until(pilot, lambda: "not JSON here" in widget_text(screen.query_one("#row-text")))
        assert "--row" in dirty.asked[-1]


async def test_findings_come_with_what_mends_them(dirty: Answers) -> None:
    async with LocaltuneApp().run_test(size=(160, 48)) as pilot:
        screen = await opened(pilot)
        said = str(screen.query_one("#findings-text", Static).content)
        assert "duplicate 1" in said
        assert "fix: localtune data check" in said


async def test_the_next_issue_is_a_key_away_and_words_narrow_the_list(dirty: Answers) -> None:
    async with LocaltuneApp().run_test(size=(120, 40)) as pilot:
        screen = await opened(pilot)
        await pilot.press("i")
        current = screen.query_one(RowsTable).current
        assert current is not None
        assert current["row"] == "3"
        await pilot.press("slash", *"cut", "enter")
        assert [row[0] for row in table(screen)] == ["6"]
        await pilot.press("escape")
        assert len(table(screen)) == 8
        screen.query_one("#filter", Input).value = "issue"
        await pilot.pause()
        assert "1" not in [row[0] for row in table(screen)]


async def test_the_filter_finds_what_rows_say_and_counts_them_and_shows_nothing_where_none_says_it(
    dirty: Answers,
) -> None:
    async with LocaltuneApp().run_test(size=(120, 40)) as pilot:
        screen = await opened(pilot)
        await pilot.press("slash")
        screen.query_one("#filter", Input).value = "REFUND help"
        await says(pilot, "rows 1 of 8")
        assert [row[0] for row in table(screen)] == ["2"]
        screen.query_one("#filter", Input).value = "zebra"
        await says(pilot, "rows 0 of 8")
        await until(pilot, lambda: widget_text(screen.query_one("#row-text")).strip() == "no row has these words")
        assert "as the model sees it" not in screen_text(pilot.app)
        screen.query_one("#filter", Input).value = ""
        await until(pilot, lambda: "18 learned" in widget_text(screen.query_one("#row-text")))
        assert "rows 8" in screen_text(pilot.app)


async def test_a_clean_copy_is_written_and_offered_to_the_run(dirty: Answers) -> None:
    used: list[str] = []
    async with LocaltuneApp().run_test(size=(120, 40), notifications=True) as pilot:
        screen = await opened(pilot, use=used.append)
        await pilot.press("f")
        await says(pilot, "Write a clean copy")
        switches = {field.key: field.value for field in pilot.app.screen.query(Field)}
        assert switches["dup"] == "true"
        assert switches["nfc"] == "false"
        fixed = {"kept": 3, "dropped": {"duplicate": 1, "unusable": 3}, "changed": 0, "canonical": False}
        dirty.by_verb["data check"] = json.loads(recorded("dirty-check.json")) | {"fixed": fixed}
        await pilot.click("#write")
        await says(pilot, "left out: duplicate 1, unusable 3")
        assert "--fix" in dirty.asked[-1]
        await says(pilot, "Train on")
        await pilot.press("tab", "enter")
        await until(pilot, lambda: bool(used))
        assert used == [str(DIRTY.with_name("dirty-clean.jsonl"))]
        assert pilot.app.screen is not screen


async def test_a_copy_that_cannot_be_written_is_a_sentence(dirty: Answers) -> None:
    async with LocaltuneApp().run_test(size=(120, 40), notifications=True) as pilot:
        await opened(pilot)
        dirty.by_verb["data check"] = AskError(2, "error[data.exists]: clean.jsonl is there already")
        await pilot.press("f")
        await says(pilot, "Write a clean copy")
        await pilot.click("#write")
        await says(pilot, "is there already")


async def test_data_that_is_not_there_is_a_sentence_and_escape_a_way_on(answers: Answers) -> None:
    answers.by_verb["data show"] = AskError(2, "error[data.missing]: gone.jsonl  no such file")
    async with LocaltuneApp().run_test(size=(100, 30)) as pilot:
        screen = await opened(pilot, Draft(data="gone.jsonl", model="x/y"))
        assert "no such file" in str(screen.query_one("#findings-text", Static).content)
        await pilot.press("escape")
        await pilot.pause()
        assert pilot.app.screen is not screen


async def test_without_its_model_rows_are_shown_as_they_are(answers: Answers) -> None:
    rows = json.loads(recorded("show.json"))["rows"]
    plain_rows = {"rows": [{"place": row["place"], "row": row["row"]} for row in rows]}
    seen: list[tuple[str, ...]] = []

    def answer(self: Any, *args: str) -> Any:
        seen.append(args)
        if "-m" in args:
            raise AskError(3, "error[model.offline]: not on this machine")
        return plain_rows if args[1] == "show" else {"findings": [], "looked_for": ["a"]}

    answers.by_verb["data list"] = '{"type": "end", "more": false}'
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("localtune_tui.asking.Asked.run_json", answer)
        async with LocaltuneApp().run_test(size=(100, 30)) as pilot:
            screen = await opened(pilot, Draft(data="rows.jsonl", model="org/model"))
            assert not screen.inspection.with_model
            assert "user: Call Hugo at 10:30." in widget_text(screen.query_one("#row-text"))


@pytest.mark.parametrize("size", SIZES)
async def test_the_view_looks_as_it_did(dirty: Answers, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(RECORDED)
    async with LocaltuneApp().run_test(size=size) as pilot:
        await opened(pilot, Draft(data="dirty.jsonl", model="model"))
        await looks_as(pilot, f"data-{size[0]}x{size[1]}", lambda: screen_text(pilot.app))


async def test_the_command_of_a_row_is_copied(dirty: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[str] = []
    monkeypatch.setattr(LocaltuneApp, "copy", lambda self, text: copied.append(text))
    async with LocaltuneApp().run_test(size=(120, 40)) as pilot:
        await opened(pilot, Draft(data="dirty.jsonl", model="m/m"))
        await pilot.press("y")
        assert copied == ["localtune data show dirty.jsonl -m m/m --row 1 --mask"]


async def test_hostile_rows_are_shown_as_text(answers: Answers, hostile: list[str], goal: Reached) -> None:
    chosen = some(hostile, 5)
    row = {"turns": 1, "tokens": 2, "learned": 1, "type": "row"}
    lines = [row | {"place": f"{text}:{n}", "row": f"{n}", "issue": text} for n, text in enumerate(hostile)]
    finding = {"severity": "error", "count": 1, "first": [], "details": {}}
    answers.by_verb |= {
        "data list": "\n".join([*map(json.dumps, lines), '{"type": "end", "more": true}']),
        "data show": {"rows": []},
        "data check": {"looked_for": [], "findings": [finding | {"code": t, "what": t, "fix": t} for t in hostile]},
    }
    async with LocaltuneApp().run_test(size=(120, 40)) as pilot:
        screen = await opened(pilot)
        for text in chosen:
            pieces = [{"ids": [1], "text": text, "weight": 1}]
            segment = {"tokens": [1], "weights": [1.0], "text": [{"text": text, "learned": True}], "pieces": pieces}
            whole = {"place": text, "tokens": 1, "learned": 1, "row": {text: text}, "segments": [segment]}
            screen._show_row(whole)
            screen.query_one(RowsTable).next_issue()
            await pilot.pause()
            assert_clean(screen_text(pilot.app))
            for content in (painted(whole), token_lines(whole), on_a_line(whole, 60), painted({"row": {text: text}})):
                assert_clean(content.plain)
    goal("screen", f"Data: {len(chosen)} strings")


def test_a_line_about_a_row_fits_its_width() -> None:
    for row in json.loads(recorded("show.json"))["rows"]:
        for width in (20, 40, 100):
            assert on_a_line(row, width).cell_length <= width + 1
            assert on_a_line(row, width).plain.endswith("tok")


def test_lengths_are_drawn_whatever_they_are() -> None:
    assert lengths_line([]) == ""
    assert "p50 5  p95 5  max 5" in lengths_line([5])
    assert sum(histogram(list(range(1000)), 24)) == 1000
    assert percentile([1, 2, 3, 4], 50) == 3
    assert bars([0, 1, 100]) == " ▁▇"
    assert bars([0, 1, 100], ascii_only=True).isascii()


async def test_ten_thousand_rows_are_listed_while_keys_are_heeded(answers: Answers) -> None:
    row = {"turns": 2, "tokens": 20, "learned": 9, "issue": "", "type": "row"}
    lines = [json.dumps(row | {"place": f"x:{n}", "row": str(n)}) for n in range(1, 10_001)]
    answers.by_verb |= {
        "data list": "\n".join([*lines, '{"type": "end", "more": true}']),
        "data check": {"findings": [], "looked_for": ["a"]},
    }
    async with LocaltuneApp().run_test(size=(120, 40)) as pilot:
        screen = await opened(pilot)
        assert screen.query_one(RowsTable).row_count == 10_000
        screen.query_one(RowsTable).narrow("x")
        screen.query_one(RowsTable).narrow("")
        await until(pilot, lambda: screen.query_one(RowsTable).row_count == 10_000)
        assert "the first rows 10,000" in screen_text(pilot.app)
        await pilot.press("G")
        current = screen.query_one(RowsTable).current
        assert current is not None
        assert current["row"] == "10000"


def test_the_recording_is_of_the_file_beside_it() -> None:
    rows = [line for line in Path(DIRTY).read_text(encoding="utf-8").splitlines() if line]
    assert len(rows) == json.loads(recorded("dirty-check.json"))["rows"]
