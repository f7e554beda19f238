"""Data cannot break the screen: no text of a row, a model, a file or an exception steers the terminal.

Every line of the command line is here, and what all widgets of the app paint their text with; each tab and dialog of
the app has its own test in tests/tui, which the full form gives every string.
"""

import asyncio
import importlib
import io
import json
import pkgutil
import unicodedata
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_origin

import click
import localtune_tui
import pytest
from click.testing import CliRunner, Result
from hypothesis import example, given, settings
from hypothesis import strategies as st
from localtune_tui.text import plain, shown
from rich.console import Console
from textual.app import App, ComposeResult
from textual.content import Content
from textual.dom import DOMNode
from textual.widgets import Static

from localtune.cli import localtune
from localtune.cli.follow import Live, Reports, Viewer, crashed
from localtune.cli.show import plan_lines, report_lines
from localtune.data.report import Losses, Part, Report
from localtune.errors import LocaltuneError, Problem
from localtune.events import KINDS, Event, from_json, to_json
from localtune.job import read_plan
from localtune.recipe import load
from localtune.runs.folder import Run, Status
from localtune.words import event_lines
from tests.command import MODEL
from tests.goals import Reached, times
from tests.tui.conftest import HOSTILE, some
from tests.tui.recorded_run import recorded_run
from tests.tui.screen_text import assert_clean, screen_text

TUI = Path(__file__).parents[1] / "tui"
CHOSEN = some(HOSTILE, 7)
BIDI = {*"\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"}


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs and home of this test alone; what the command line itself styles is plain, so that only data has codes."""
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LOCALTUNE_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(click, "style", lambda text, **styles: text)


def assert_harmless(said: str) -> None:
    """Nothing in it steers a terminal or turns the direction of writing; newlines and tabs may."""
    for character in said:
        wrong = unicodedata.category(character) in ("Cc", "Cs") or character in BIDI
        assert not wrong or character in "\n\t", (character, said[:400])


def _event(kind: str, text: str) -> Event:
    """An event with `text` wherever there may be any."""
    values: dict[str, Any] = {"format": 1, "type": kind, "time": 0.0}
    for each in fields(KINDS[kind]):
        values[each.name] = next((value for of, value in ((str, text), (bool, True), (int, 1)) if each.type is of), 1.0)
        if get_origin(each.type) is list:
            values[each.name] = [{"name": text, "passed": False, "text": text}, {"name": 1, "passed": text}]
        elif get_origin(each.type) is dict:
            values[each.name] = {text: 1.0 if each.name == "losses" else text}
    event = from_json(json.dumps(values))
    assert event.kind == kind
    return event


# Lines of the command line


@pytest.mark.parametrize("kind", [*KINDS])
def test_no_event_steers_the_terminal(kind: str) -> None:
    for text in CHOSEN:
        for line in event_lines(_event(kind, text)):
            assert_harmless(line)


def test_no_problem_steers_the_terminal() -> None:
    for text in CHOSEN:
        problem = Problem(text, text, text, text, text)
        for said in (
            str(problem),
            str(LocaltuneError(problem)),
            str(crashed(Run(Path("x")), Status("crashed", detail=text))),
        ):
            assert_harmless(said)


def test_no_report_and_no_plan_steers_the_terminal() -> None:
    run = recorded_run()
    plan, recipe = read_plan(run), load(run.resolved, environ={}, user_config=None).recipe
    for text in CHOSEN:
        part = Part(text, 1, 1, 1, 1, 1, 1, (text,), 1, 1, 1, text, 1, 1, 1)
        losses = (Losses(text, 1, (text,), 1, (text,)),)
        report = Report(text, text, text, text, part, part, part, losses, (text,), (text,), (text,))
        memory = tuple(replace(item, name=text, why=text) for item in plan.memory)
        hostile = replace(plan, memory=memory, device=replace(plan.device, name=text, reason=text))
        for line in (*report_lines(report), *plan_lines(hostile, recipe.model_copy(update={"model": text}))):
            assert_harmless(line)


@pytest.mark.parametrize("shown_as", ["lines", "bar"])
def test_no_viewer_steers_the_terminal(shown_as: str, capsys: pytest.CaptureFixture[str]) -> None:
    run, out = recorded_run(), io.StringIO()
    with run.events.open("a", encoding="utf-8") as file:
        for text in CHOSEN:
            file.write("".join(f"{_line(kind, text)}\n" for kind in KINDS))
    run.write_status(Status("stopped", detail=CHOSEN[0]))
    bar = Live()
    bar.console.file = out
    Viewer(run, bar if shown_as == "bar" else Reports()).to_the_end()
    said = out.getvalue() + capsys.readouterr().err
    assert "step 60/60" in said or shown_as == "bar"
    assert "warning[" in said
    assert_harmless(said)


def _line(kind: str, text: str) -> str:
    return to_json(_event(kind, text), ascii_only=True)


def _said(*arguments: object) -> Result:
    """What `localtune` prints, codes included, but for those it adds itself."""
    return CliRunner().invoke(localtune, [str(each) for each in arguments], color=True)


def _harmless_verbs(*lines: Sequence[object]) -> None:
    """Nothing that these say, refusals included, steers a terminal; and each says something."""
    for line in lines:
        found = _said(*line)
        assert found.exception is None or isinstance(found.exception, SystemExit | LocaltuneError), found.exception
        said = found.output + (str(found.exception) if isinstance(found.exception, LocaltuneError) else "")
        assert len(said) > 40, line
        assert_harmless(said)


def test_no_run_folder_steers_the_terminal(goal: Reached) -> None:
    run, other = recorded_run(), recorded_run("other-20260101-000000")
    texts = [text.encode("utf-8", "backslashreplace").decode() for text in CHOSEN]
    with run.events.open("a", encoding="utf-8") as file:
        file.write("".join(f"{_line(kind, text)}\n" for text in texts for kind in KINDS if kind != "step"))
    run.log.write_bytes("\n".join(CHOSEN).encode("utf-8", "surrogatepass"))
    plan = json.loads(run.plan.read_text(encoding="utf-8"))
    plan["memory"] += [{"name": text, "size": 1, "why": text} for text in texts]
    plan["device"] |= {"name": texts[1], "reason": texts[2]}
    run.plan.write_text(json.dumps(plan), encoding="utf-8")
    run.write_status(replace(run.status(), detail="".join(texts)[:500]))
    page = run.folder / "page.html"
    _harmless_verbs(
        ["runs", "ls"], ["runs", "show", run.name], ["runs", "diff", run.name, other.name], ["tail", run.name],
        ["tail", run.name, "--log"], ["runs", "report", run.name, "-o", page], ["stop", run.name],
    )  # fmt: skip
    goal("screen", f"run folder by 7 verbs, {len(KINDS)} kinds of events: {len(CHOSEN)} strings, 0 control bytes")


def _row(text: str) -> str:
    turns = [{"role": "user", "content": text}, {"role": "assistant", "content": text}]
    return json.dumps({"messages": turns, text: text})


def test_no_row_and_no_file_name_steers_the_terminal(tmp_path: Path, goal: Reached) -> None:
    folder = tmp_path / "[bold]\u05e9[@click=app.quit]"
    folder.mkdir()
    rows, broken, steering = folder / "[red]rows[.jsonl", folder / "broken%s{x}.jsonl", folder / "a\x1b[31m\u202e.jsonl"
    kept = [text for text in CHOSEN if text.strip() and len(text) < 10_000 and not {*text} & {*"\0\ud800\udfff"}]
    rows.write_text("\n".join(map(_row, kept)), encoding="utf-8")
    broken.write_bytes(b"\n".join(text.encode("utf-8", "surrogatepass") for text in CHOSEN))
    steering.write_bytes(rows.read_bytes())
    shown_rows = _said("data", "show", rows, "-m", MODEL, "--mask", "-n", len(kept))
    assert shown_rows.exit_code == 0
    assert_harmless(shown_rows.output)
    verbs = ("check", "show", "list", "stats")
    _harmless_verbs(
        *(["data", verb, file] for file in (rows, broken, steering) for verb in verbs),
        ["data", "check", rows, "-m", MODEL], ["plan", broken, "-m", MODEL],
        ["runs", "show", "\x1b[31m\u202e"], ["chat", "\x1b[31mx.gguf"],
    )  # fmt: skip
    goal("screen", f"rows and file names by 17 commands: {len(CHOSEN)} strings, 0 control bytes")


def test_a_line_that_was_not_made_safe_is_caught() -> None:
    for text in ("\x1b[31mred", "\x9b31m", "\u202e", "\r", "\x00", "\ud800"):
        with pytest.raises(AssertionError):
            assert_harmless(f"note     {text}")
    console = Console(file=io.StringIO())
    console.print("\x1b[31mraw", markup=False)
    with pytest.raises(AssertionError):
        assert_harmless(console.file.getvalue())  # type: ignore[attr-defined]


# What the app paints


GIVEN = {
    "test_app.py": "OpeningScreen AppScreen LocaltuneApp EndingApp Commands",
    "test_frame.py": "TopBar Confirm Dialog FixData AskRepository ChatSettings PickFile Pick Line",
    "test_first.py": "FirstScreen Choices Findings",
    "test_system.py": "SystemScreen Doctor Models Findings",
    "test_runs.py": "RunsScreen RunTable ComparePane",
    "test_live.py": "LiveScreen SteeringScreen LivePanes _Numbers SamplesPane LinesView LossChart",
    "test_data.py": "DataScreen RowsTable Checks",
    "test_new.py": "NewScreen NewRun Field PlanPane RowsPane ReadyLine Section SectionHead",
    "test_chat.py": "ChatScreen LoadedChat ChatPane ChatLine",
    "test_export.py": "ExportScreen Results WhatPane",
    "test_pickers.py": "PickModel PickChat Folders",
    "test_keys.py": "Keys Help",
    "test_split.py": "Split DividedScreen",
}
"""File of tests/tui -> what it gives hostile text to, or what has no text but of those in it."""


def test_every_widget_of_the_app_is_given_hostile_text() -> None:
    """A new widget fails this until a test gives it some."""
    found = set()
    for module in pkgutil.walk_packages(localtune_tui.__path__, "localtune_tui."):
        for name, value in vars(importlib.import_module(module.name)).items():
            if isinstance(value, type) and issubclass(value, DOMNode) and value.__module__ == module.name:
                found.add(name)
    assert found - {name for names in GIVEN.values() for name in names.split()} == set()
    for file in GIVEN:
        assert "hostile" in (TUI / file).read_text(encoding="utf-8").lower() or file in ("test_app.py", "test_split.py")


class _One(App[None]):
    """A widget with a text, as all of the app have it."""

    def __init__(self, content: Content | str) -> None:
        super().__init__()
        self.content = content

    def compose(self) -> ComposeResult:
        """That widget."""
        yield Static(self.content, id="one")


async def _painted(contents: Sequence[Content | str]) -> list[str]:
    app, said = _One(""), []
    async with app.run_test(size=(60, 8)) as pilot:
        for content in contents:
            app.query_one("#one", Static).update(content)
            await pilot.pause()
            said.append(screen_text(app))
    return said


def _paint(contents: Sequence[Content | str]) -> list[str]:
    return asyncio.run(_painted(contents))


def test_what_widgets_paint_their_text_with_is_harmless(goal: Reached) -> None:
    for said in _paint([plain(text) for text in CHOSEN]):
        assert_clean(said)
    goal("screen", f"what widgets paint with: {len(CHOSEN)} strings, 0 control bytes, 0 crashes")


def test_a_raw_string_in_a_widget_is_caught() -> None:
    (said,) = _paint(["\x1b[31mred"])
    with pytest.raises(AssertionError):
        assert_clean(said)
    with pytest.raises(Exception, match=r"MarkupError|expected|closing tag|markup"):
        _paint(["[/]"])


_ANY = st.text(st.characters(), max_size=80) | st.lists(st.sampled_from(HOSTILE[:150]), max_size=4).map("".join)


def _every_way(text: str) -> None:
    """Each way of a text onto a screen."""
    assert_clean(shown(text))
    assert_clean(shown(text, keep_lines=True))
    assert_harmless(str(Problem("x", text, text, text, text)))
    for kind in KINDS:
        for line in event_lines(_event(kind, text)):
            assert_harmless(line)


_TRIED = [0]


@settings(max_examples=times(60, 5_000), deadline=None)
@given(_ANY)
@example("\x1b[31m[/")
def _try(text: str) -> None:
    _TRIED[0] += 1
    _every_way(text)


def test_no_text_at_all_steers_the_screen(goal: Reached) -> None:
    _try()
    goal("screen", f"fuzz: {_TRIED[0]:,} texts by {3 + len(KINDS)} ways onto a screen, 0 control bytes")
