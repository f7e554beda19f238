"""New: from nothing to a run that has begun, by keys alone; what is in the way is a sentence with a way on."""

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from localtune_tui.app import LocaltuneApp
from localtune_tui.asking import AskError
from localtune_tui.refused import few_lines
from localtune_tui.screens.new import NewScreen
from localtune_tui.widgets.field import Field
from localtune_tui.widgets.new_panes import PlanPane, ReadyLine, RowsPane
from localtune_tui.widgets.section import Section
from textual.pilot import Pilot

from localtune import recipe
from tests.command import MODEL, QUICKSTART, end_runs
from tests.goals import Reached
from tests.tui.answers import RECIPE, Answers, recorded, replayed
from tests.tui.conftest import some
from tests.tui.recorded_run import recorded_run
from tests.tui.screen_text import SIZES, assert_clean, begun, looks_as, says, screen_text, until, widget_text


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Answers:
    """The quickstart's answers."""
    return replayed(monkeypatch)


async def opened(pilot: Pilot[Any], file: Path | None = None, data: Path | None = None) -> NewScreen:
    """New, with what it was given planned."""
    app = pilot.app
    assert isinstance(app, LocaltuneApp)
    await begun(pilot)
    app.new_from(file, data)
    await until(pilot, lambda: isinstance(app.screen, NewScreen))
    screen = app.screen
    assert isinstance(screen, NewScreen)
    await until(pilot, lambda: screen.outcome is not None)
    await pilot.pause()
    return screen


def field(screen: NewScreen, key: str) -> Field:
    return next(one for one in screen.query(Field) if one.key == key)


def ready(screen: NewScreen) -> str:
    return widget_text(screen.query_one(ReadyLine))


async def test_an_empty_page_says_what_is_missing(answers: Answers) -> None:
    async with LocaltuneApp().run_test(size=(100, 30), notifications=True) as pilot:
        screen = await opened(pilot)
        assert "choose a data file" in ready(screen)
        await pilot.press("ctrl+r")
        assert answers.of("run") == []
        assert screen.draft.missing == "choose a data file"


async def test_data_alone_shows_its_rows_and_asks_for_a_model(answers: Answers) -> None:
    async with LocaltuneApp().run_test(size=(100, 30), notifications=True) as pilot:
        screen = await opened(pilot, None, QUICKSTART / "train.jsonl")
        assert "choose a model" in ready(screen)
        assert "Call Hugo at 10:30." in widget_text(screen.query_one(RowsPane))
        assert answers.of("plan") == []


async def test_a_recipe_is_planned_and_its_first_rows_are_painted(answers: Answers) -> None:
    async with LocaltuneApp().run_test(size=(100, 30), notifications=True) as pilot:
        screen = await opened(pilot, RECIPE)
        plan = widget_text(screen.query_one(PlanPane))
        assert "252 steps = 4 epochs × 1,000 rows / batch 16" in plan
        assert "LoRA · rank 16 · 276,480 weights train" in plan
        assert "fits" in plan
        assert "▒" in widget_text(screen.query_one(RowsPane))
        assert "ready: ^r starts the run" in ready(screen)
        assert field(screen, "name").value == "quickstart"
        assert field(screen, "data").value == "train.jsonl"


@pytest.mark.parametrize("size", SIZES)
async def test_the_page_looks_as_it_did(
    answers: Answers, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(QUICKSTART)
    async with LocaltuneApp().run_test(size=size, notifications=True) as pilot:
        await opened(pilot, RECIPE)
        await looks_as(pilot, f"new-{size[0]}x{size[1]}", lambda: screen_text(pilot.app))


async def test_the_plan_follows_what_is_typed_and_is_grey_until_it_is_there(answers: Answers) -> None:
    async with LocaltuneApp().run_test(size=(100, 40), notifications=True) as pilot:
        screen = await opened(pilot, RECIPE)
        before = len(answers.of("plan"))
        answers.gate.clear()
        field(screen, "name").focus()
        await pilot.press("enter", *"x", "enter")
        assert screen.query_one(PlanPane).has_class("-stale")
        assert screen.draft.settings == {"name": "quickstartx"}
        await until(pilot, lambda: len(answers.of("plan")) > before)
        assert screen.outcome is None
        answers.gate.set()
        await until(pilot, lambda: screen.outcome is not None)
        assert not screen.query_one(PlanPane).has_class("-stale")
        assert "name=quickstartx" in answers.of("plan")[-1]


async def test_a_plan_of_what_stood_there_before_is_never_shown(answers: Answers) -> None:
    async with LocaltuneApp().run_test(size=(100, 40), notifications=True) as pilot:
        screen = await opened(pilot, RECIPE)
        answers.gate.clear()
        for value in ("1", "2"):
            screen.change(screen.draft.with_setting("train.epochs", value), at_once=True)
            count = len(answers.of("plan"))
            await until(pilot, lambda count=count: len(answers.of("plan")) > count or answers.gate.is_set(), 5)  # type: ignore[misc]
        answers.by_verb["plan"] = answers.by_verb["plan"] | {"batch_size": 99}
        answers.gate.set()
        await until(pilot, lambda: screen.outcome is not None)
        assert screen.draft.settings["train.epochs"] == "2"
        assert "train.epochs=2" in answers.of("plan")[-1]


async def test_escape_takes_back_what_was_typed(answers: Answers) -> None:
    async with LocaltuneApp().run_test(size=(100, 40), notifications=True) as pilot:
        screen = await opened(pilot, RECIPE)
        field(screen, "name").focus()
        await pilot.press("enter", "z", "escape")
        assert field(screen, "name").value == "quickstart"
        assert not field(screen, "name").typing


async def test_presets_and_choices_go_with_the_arrows(answers: Answers) -> None:
    async with LocaltuneApp().run_test(size=(100, 40), notifications=True) as pilot:
        screen = await opened(pilot, None, QUICKSTART / "train.jsonl")
        field(screen, "preset").focus()
        await pilot.press("left")
        assert screen.draft.preset == "quick"
        await pilot.press("right", "right")
        assert screen.draft.preset == "thorough"
        field(screen, "train.learn").focus()
        await pilot.press("right")
        assert screen.draft.settings["train.learn"] in ("all", "last")
        await pilot.press("backspace")
        assert "train.learn" not in screen.draft.settings


async def test_every_setting_can_be_changed_below(answers: Answers) -> None:
    async with LocaltuneApp().run_test(size=(100, 60), notifications=True) as pilot:
        screen = await opened(pilot, RECIPE)
        section = screen.query_one("#section-lora", Section)
        assert not section.query(Field)
        section.query_one("SectionHead").focus()
        await pilot.press("space")
        await pilot.pause()
        rank = field(screen, "lora.rank")
        assert rank.value == "16"
        rank.focus()
        await pilot.pause()
        assert "lora.rank" in widget_text(screen.query_one("#hint"))
        await pilot.press("enter", "backspace", "backspace", "8", "enter")
        assert screen.draft.changes == {"lora.rank": "8"}


async def test_nonsense_in_a_field_is_said_and_stops_the_start(answers: Answers) -> None:
    async with LocaltuneApp().run_test(size=(100, 40), notifications=True) as pilot:
        screen = await opened(pilot, RECIPE)
        screen.change(screen.draft.with_setting("train.epochs", "three"), at_once=True)
        await until(pilot, lambda: screen.outcome is not None)
        assert "train.epochs is 'three'" in ready(screen)
        await pilot.press("ctrl+r")
        await pilot.pause()
        assert answers.of("run") == []


async def test_what_does_not_fit_says_so_with_its_numbers(answers: Answers) -> None:
    value = json.loads(recorded("plan-too-big.json"))
    answers.by_verb["plan"] = AskError(4, recorded("plan-too-big.txt"), value)
    async with LocaltuneApp().run_test(size=(120, 40), notifications=True) as pilot:
        screen = await opened(pilot, RECIPE)
        assert "DOES NOT FIT" in widget_text(screen.query_one(PlanPane))
        assert "needs 540 MB" in ready(screen)
        await pilot.press("ctrl+r")
        await pilot.pause()
        assert answers.of("run") == []


BAD_ROWS = (
    "error[data.nothing-to-learn]: my rows.jsonl:61  the conversation has no assistant turn, so nothing is learned\n"
    "  {'messages': [{'role': 'user', 'content': 'error[x]: a'}]}\n"
    "  fix: mend or remove the row; --set data.on_error=skip passes over at most 1 % of such rows\n"
    "error[data.json]: my rows.jsonl:62:7  not JSON: expecting ','\n"
    "error[data.nothing-to-learn]: my rows.jsonl:63  nothing\n"
    "error[data.too-many-bad]: my rows.jsonl  30 of 90 rows cannot be used (33.3 %, at most 1 % are skipped)\n"
    "  fix: mend these rows, or leave them out:  localtune data check 'my rows.jsonl' --fix bad -o clean.jsonl"
)


def test_rows_that_cannot_be_used_are_a_line_for_each_kind() -> None:
    assert few_lines(BAD_ROWS) == [
        "30 of 90 rows cannot be used (33.3 %, at most 1 % are skipped)",
        "  the conversation has no assistant turn, so nothing is learned (first: line 61)",
        "  not JSON: expecting ',' (first: line 62)",
        "  fix: v, then f, writes a clean copy",
    ]
    assert few_lines("error[memory.plan]: too big\n  fix: less") == ["error[memory.plan]: too big", "  fix: less"]


async def test_bad_rows_do_not_flood_the_plan(answers: Answers) -> None:
    answers.by_verb["plan"] = AskError(2, BAD_ROWS)
    async with LocaltuneApp().run_test(size=(100, 40), notifications=True) as pilot:
        screen = await opened(pilot, RECIPE)
        assert "30 of 90 rows cannot be used" in ready(screen)
        assert "v, then f, writes a clean copy" in ready(screen)
        assert "on_error" not in screen_text(pilot.app)


async def test_the_run_starts_by_a_key_and_live_opens_on_it(answers: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    answers.by_verb["run"] = {"run": "quickstart-20270115-080000", "folder": "/x"}
    opened_runs: list[str] = []
    monkeypatch.setattr(LocaltuneApp, "open_run", lambda self, name: opened_runs.append(name))
    async with LocaltuneApp().run_test(size=(100, 30), notifications=True) as pilot:
        await opened(pilot, RECIPE)
        await pilot.press("ctrl+r")
        await until(pilot, lambda: bool(opened_runs))
        assert opened_runs == ["quickstart-20270115-080000"]
        assert answers.of("run") == [("run", str(RECIPE), "--detach", "--json")]


async def test_a_start_that_fails_is_told_in_the_command_lines_words(answers: Answers) -> None:
    answers.by_verb["run"] = AskError(1, "error[run.start]: the run did not start")
    async with LocaltuneApp().run_test(size=(100, 30), notifications=True) as pilot:
        screen = await opened(pilot, RECIPE)
        await pilot.press("ctrl+r")
        await until(pilot, lambda: bool(answers.of("run")) and screen.starting is None)
        await says(pilot, "the run did not start")


async def test_a_download_needs_a_yes(answers: Answers) -> None:
    text = "error[model.declined]: org/name was not downloaded (3.4 GB)"
    answers.by_verb["plan"] = AskError(3, text)
    answers.by_verb["run"] = AskError(1, "error[x]: seen")
    async with LocaltuneApp().run_test(size=(100, 30), notifications=True) as pilot:
        screen = await opened(pilot, RECIPE)
        assert "^r asks, downloads it and starts" in ready(screen)
        await pilot.press("ctrl+r")
        await says(pilot, "Download the model?")
        assert "3.4 GB" in screen_text(pilot.app)
        await pilot.press("escape")
        await pilot.pause()
        assert answers.of("run") == []


async def test_no_plan_ever_downloads(answers: Answers) -> None:
    async with LocaltuneApp().run_test(size=(100, 30), notifications=True) as pilot:
        await opened(pilot, RECIPE)
        assert all("--no-download" in args for args in answers.of("plan"))


async def test_the_recipe_is_written_and_then_is_what_stands_there(
    answers: Answers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with LocaltuneApp().run_test(size=(100, 30), notifications=True) as pilot:
        screen = await opened(pilot, None, QUICKSTART / "train.jsonl")
        screen.change(screen.draft.__class__(data=str(QUICKSTART / "train.jsonl"), model=str(MODEL)), at_once=True)
        await until(pilot, lambda: screen.outcome is not None)
        assert "unsaved" in ready(screen)
        await pilot.press("w")
        path = tmp_path / "train.yaml"
        await until(pilot, lambda: screen.draft.file == path)
        assert recipe.load(path, (), {}, None).recipe.name == "train"
        await until(pilot, lambda: screen.outcome is not None)
        assert "unsaved" not in ready(screen)
        assert answers.of("plan")[-1][1] == str(path)


async def test_a_file_that_is_there_is_written_over_only_after_a_question(
    answers: Answers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quickstart.yaml").write_text("mine", encoding="utf-8")
    async with LocaltuneApp().run_test(size=(100, 30), notifications=True) as pilot:
        await opened(pilot, RECIPE)
        await pilot.press("w")
        await says(pilot, "is there already")
        await pilot.press("enter")
        await pilot.pause()
        assert (tmp_path / "quickstart.yaml").read_text(encoding="utf-8") == "mine"


@pytest.mark.skipif(os.name != "posix", reason="permissions of a folder")
async def test_a_folder_that_may_not_be_written_is_a_sentence(
    answers: Answers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "quickstart.yaml").mkdir()
    monkeypatch.chdir(tmp_path)
    async with LocaltuneApp().run_test(size=(120, 30), notifications=True) as pilot:
        screen = await opened(pilot, RECIPE)
        await pilot.press("w")
        await says(pilot, "is there already")
        await pilot.press("tab", "enter")
        await says(pilot, "cannot be written")
        assert screen.draft.file == RECIPE


async def test_a_recipe_edited_into_nonsense_is_said_and_mended_by_the_next_edit(
    answers: Answers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own.yaml"
    good = f"version: 1\nmodel: {MODEL}\ndata:\n  train: {QUICKSTART / 'train.jsonl'}\n"
    own.write_text(good, encoding="utf-8")
    monkeypatch.setenv("EDITOR", "true")
    texts = iter(["model: [nonsense", good])
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: own.write_text(next(texts), encoding="utf-8") and Ended())
    from contextlib import nullcontext

    monkeypatch.setattr(LocaltuneApp, "suspend", lambda self: nullcontext())
    async with LocaltuneApp().run_test(size=(120, 30), notifications=True) as pilot:
        screen = await opened(pilot, own)
        await pilot.press("e")
        await until(pilot, lambda: screen.outcome is not None and bool(screen.outcome.problem))
        assert "own.yaml" in ready(screen)
        await pilot.press("e")
        await until(pilot, lambda: screen.outcome is not None and screen.outcome.ready)


async def test_a_recipe_that_somebody_else_changes_is_planned_again(
    answers: Answers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("localtune_tui.screens.new.LOOK", 0.05)
    own = tmp_path / "own.yaml"
    good = f"version: 1\nmodel: {MODEL}\ndata:\n  train: {QUICKSTART / 'train.jsonl'}\n"
    own.write_text(good, encoding="utf-8")
    async with LocaltuneApp().run_test(size=(120, 30)) as pilot:
        screen = await opened(pilot, own)
        await until(pilot, lambda: screen.seen is not None)
        own.write_text("\x00 nonsense", encoding="utf-8")
        await until(pilot, lambda: screen.outcome is not None and bool(screen.outcome.problem))
        assert "own.yaml" in ready(screen)
        own.write_text(good + "train: {epochs: 3}\n", encoding="utf-8")
        await until(pilot, lambda: screen.outcome is not None and screen.outcome.ready)
        own.unlink()
        await until(pilot, lambda: "there is no such recipe" in ready(screen))


class Ended:
    """A process that has ended well."""

    returncode = 0


async def test_a_recipe_that_is_gone_is_a_sentence_too(answers: Answers, tmp_path: Path) -> None:
    async with LocaltuneApp().run_test(size=(120, 30), notifications=True) as pilot:
        screen = await opened(pilot, tmp_path / "gone.yaml")
        assert "there is no such recipe" in ready(screen)
        await pilot.press("X")
        await says(pilot, "Replace it by an empty page?")
        await pilot.press("tab", "enter")
        await until(pilot, lambda: "choose a data file" in ready(screen))
        await pilot.press("X")
        await pilot.pause()
        assert pilot.app.screen is screen


async def test_an_unsaved_draft_is_replaced_only_after_a_question(answers: Answers) -> None:
    async with LocaltuneApp().run_test(size=(100, 30), notifications=True) as pilot:
        screen, app = await opened(pilot, None, QUICKSTART / "train.jsonl"), pilot.app
        assert isinstance(app, LocaltuneApp)
        for answer, file in (("enter", None), ("escape", None), ("tab", RECIPE)):
            app.action_go("runs")
            app.new_from(RECIPE)
            await says(pilot, "Replace the unsaved draft?")
            await pilot.press(answer, *(["enter"] if file else []))
            await until(pilot, lambda: app.screen is screen)
            await until(pilot, lambda file=file: screen.draft.file == file)  # type: ignore[misc]
        app.new_from(None, QUICKSTART / "train.jsonl")
        await until(pilot, lambda: screen.draft.file is None)


async def test_the_record_of_a_run_is_edited_as_a_copy(
    answers: Answers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    edited: list[Path] = []

    def edit(app: LocaltuneApp, path: Path) -> str:
        edited.append(path)
        return ""

    monkeypatch.setattr("localtune_tui.screens.new_run.edit", edit)
    record = recorded_run().resolved
    async with LocaltuneApp().run_test(size=(100, 30), notifications=True) as pilot:
        screen = await opened(pilot, record)
        await pilot.press("e")
        await until(pilot, lambda: bool(edited))
        assert edited == [tmp_path / "support-bot.yaml"] == [screen.draft.file]


async def test_the_command_is_copied(answers: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(QUICKSTART)
    copied: list[str] = []
    monkeypatch.setattr(LocaltuneApp, "copy", lambda self, text: copied.append(text))
    async with LocaltuneApp().run_test(size=(100, 30), notifications=True) as pilot:
        screen = await opened(pilot, RECIPE)
        await pilot.press("y")
        assert copied == ["localtune run recipe.yaml"]
        assert screen.command_of("new.start") == "localtune run recipe.yaml"


async def test_hostile_values_are_shown_as_text(answers: Answers, hostile: list[str], goal: Reached) -> None:
    chosen = some(hostile, 4)
    async with LocaltuneApp().run_test(size=(120, 40), notifications=True) as pilot:
        screen = await opened(pilot, RECIPE)
        for text in chosen:
            answers.by_verb["plan"] = AskError(2, text or "x", None)
            field(screen, "name").put(text)
            screen.query_one(RowsPane).show(_rows(text))
            screen.query_one(PlanPane).show(_problem(text), text, ascii_only=False)
            await pilot.pause()
            assert_clean(screen_text(pilot.app))
    goal("screen", f"New: {len(chosen)} strings")


def _rows(text: str) -> Any:
    from localtune_tui.planning import FirstRows

    segment = {"text": [{"text": text, "learned": True}, {"text": text, "learned": False}]}
    return FirstRows([{"place": text, "tokens": 1, "segments": [segment]}, {"place": text, "row": {"text": text}}])


def _problem(text: str) -> Any:
    from localtune_tui.planning import Outcome

    return Outcome(problem=text, name="x")


@pytest.mark.slow
async def test_the_command_lines_own_answers_lead_from_a_data_file_to_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = (QUICKSTART / "train.jsonl").read_text(encoding="utf-8").splitlines()[:40]
    data = tmp_path / "rows.jsonl"
    data.write_text("\n".join(rows) + "\n", encoding="utf-8")
    began: list[str] = []
    monkeypatch.setattr(LocaltuneApp, "open_run", lambda self, name: began.append(name))
    try:
        async with LocaltuneApp().run_test(size=(100, 30), notifications=True) as pilot:
            screen = await opened(pilot, None, data)
            changes = {"train.steps": "1", "data.max_tokens": "128", "train.precision": "float32"}
            screen.change(replace(screen.draft, model=str(MODEL), changes=changes), at_once=True)
            await until(pilot, lambda: screen.outcome is not None, 240)
            assert "1 step =" in widget_text(screen.query_one(PlanPane))
            assert "ready" in ready(screen)
            await pilot.press("ctrl+r")
            await until(pilot, lambda: bool(began), 240)
            assert (tmp_path / "runs" / began[0] / "recipe.yaml").is_file()
    finally:
        end_runs(tmp_path / "runs")
