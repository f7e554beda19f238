"""Export: what can be made and where it can go, with reasons; progress and proof as they come; calm where it cannot."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from localtune_tui.app import LocaltuneApp
from localtune_tui.asking import Asked, AskError
from localtune_tui.export_work import Work
from localtune_tui.exporting import Exportable, commands, exportable
from localtune_tui.screens.export import ExportScreen
from textual.pilot import Pilot
from textual.widgets import Input

from localtune.events import Product
from localtune.runs.folder import Run
from tests.goals import Reached
from tests.tui.conftest import some
from tests.tui.recorded_run import NAME, recorded_run
from tests.tui.screen_text import SIZES, assert_clean, begun, looks_as, says, screen_text, until

RECORDED = Path(__file__).parent / "recorded" / "export"
FILES = {
    "quickstart-2.3M-support-bot-v1.0-Q8_0.gguf": 2_461_824,
    "quickstart-2.3M-support-bot-v1.0-Q4_K_M.gguf": 1_793_664,
}


def finished(*, exported: bool = False) -> Run:
    """The recorded run with its adapter; with its GGUF files and their proof, too, if it was exported."""
    run = recorded_run()
    run.adapter.mkdir()
    if exported:
        run.export.mkdir()
        shutil.copy(RECORDED / "proof.json", run.export)
        for name, size in FILES.items():
            with (run.export / name).open("wb") as file:
                file.truncate(size)
    return run


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without Ollama and a token, with a disk of a known size; the folder is on PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("localtune_tui.exporting._free", lambda run: 66_000_000_000)
    return folder


class Commands:
    """The command line's recorded answers: what is asked is kept, what was said is said."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []
        self.before: Callable[[], None] = lambda: None
        self.error: AskError | None = None

    def stream(self, asked: Asked, *args: str, on_line: Callable[[str], None]) -> None:
        self.asked.append(args)
        lines = (RECORDED / "events.jsonl").read_text(encoding="utf-8").splitlines()
        for line in lines[:10]:
            on_line(line)
        self.before()
        if asked._cancelled:
            raise AskError(130, "")
        if self.error is not None:
            raise self.error
        for line in lines[10:]:
            on_line(line)


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> Commands:
    """Nothing is started."""
    found = Commands()
    monkeypatch.setattr(Asked, "stream", lambda self, *args, on_line: found.stream(self, *args, on_line=on_line))
    return found


async def opened(pilot: Pilot[Any], name: str = NAME) -> ExportScreen:
    """Export of the run called `name`."""
    app = pilot.app
    assert isinstance(app, LocaltuneApp)
    await begun(pilot)
    app.export_run(name)
    await until(pilot, lambda: isinstance(app.screen, ExportScreen) and app.screen.found is not None)
    screen = app.screen
    assert isinstance(screen, ExportScreen)
    await pilot.pause()
    return screen


@pytest.mark.parametrize("size", SIZES)
async def test_what_was_exported_looks_as_drawn(size: tuple[int, int]) -> None:
    finished(exported=True)
    async with LocaltuneApp().run_test(size=size) as pilot:
        await opened(pilot)
        await looks_as(pilot, f"export-{size[0]}x{size[1]}", lambda: screen_text(pilot.app))


async def test_every_size_is_the_plans_or_the_files_own(line: Commands) -> None:
    finished(exported=True)
    async with LocaltuneApp().run_test(size=(100, 30)) as pilot:
        screen = await opened(pilot)
        sizes = {one.key: one.size for one in screen.formats.choices}
        assert sizes["Q8_0"] == "2.5 MB"
        assert sizes["BF16"] == "~4.6 MB"
        assert sizes["adapter"] == "~553 kB" or sizes["adapter"].startswith("~0.6")


async def test_export_makes_what_is_ticked_and_shows_the_proof_as_a_table(line: Commands) -> None:
    finished()
    async with LocaltuneApp().run_test(size=(120, 100), notifications=True) as pilot:
        screen = await opened(pilot)
        assert screen.formats.chosen == {"Q4_K_M"}
        await pilot.press("down", "down", "down", "down", "space")
        await says(pilot, "ready: ^r makes Q4_K_M, Q8_0")
        await pilot.press("ctrl+r")
        await until(pilot, lambda: screen.work is not None and screen.work.over)
        await pilot.pause()
        assert line.asked == [("export", NAME, "--gguf", "Q4_K_M,Q8_0", "--json")]
        text = screen_text(pilot.app)
        for part in ("proof of fused: passed in 6s", "fusion    ok      KL mean 9.2e-06", "base 4.2495   tuned 0.0069",
                     "made Q8_0  export/quickstart-2.3M-support-bot-v1.0-Q8_0.gguf  2.5 MB",
                     "one prompt, answered by 4", "adapter  {\"intent\": \"taxi\"", "✓ done: t tries it"):  # fmt: skip
            assert part in text, part
        await pilot.press("up", "space")
        await says(pilot, "ready: ^r makes Q4_K_M, Q6_K, Q8_0")
        await pilot.press("space")
        await says(pilot, "✓ done: t tries it")


async def test_progress_is_said_and_s_stops_it(line: Commands) -> None:
    finished()
    async with LocaltuneApp().run_test(size=(100, 30), notifications=True) as pilot:
        screen = await opened(pilot)

        def wait() -> None:
            while not asked()._cancelled:
                time.sleep(0.01)

        def asked() -> Asked:
            assert screen.asked is not None
            return screen.asked

        line.before = wait
        await pilot.press("ctrl+r")
        await says(pilot, "● exporting")
        await says(pilot, "exporting support-bot-20261121-201035; s stops it")
        await pilot.press("s")
        await says(pilot, "stopped: what was complete stays")
        assert screen.asked is None


def test_progress_says_how_many_of_several_files_are_made() -> None:
    work = Work(("Q4_K_M", "Q8_0"))
    assert work.progress == "0 of 2"
    for name in ("fused", "Q8_0"):
        work.take(Product(name, "x.gguf", 1, 1.0))
    assert work.progress == "1 of 2"
    assert Work(("Q8_0",)).progress == ""


async def test_an_export_that_ends_unseen_says_how(line: Commands) -> None:
    finished()
    line.error = AskError(4, "error[disk.full]: no space is left\n  fix: free some space")
    async with LocaltuneApp().run_test(size=(100, 30), notifications=True) as pilot:
        screen = await opened(pilot)

        def leave() -> None:
            screen.app.call_from_thread(screen.app.action_go, "runs")

        line.before = leave
        await pilot.press("ctrl+r")
        await says(pilot, "error[disk.full]: no space is left")
        assert screen.work is not None
        line.error, line.before = None, lambda: screen.app.call_from_thread(screen.app.open_run, "another")
        screen.app.export_run(NAME)
        await pilot.press("ctrl+r")
        await says(pilot, "is done:")
        await until(pilot, lambda: screen.found is None)


async def test_a_failure_is_told_in_the_command_lines_words(line: Commands) -> None:
    finished()
    line.error = AskError(4, "error[disk.full]: no space is left\n  fix: free some space")
    async with LocaltuneApp().run_test(size=(100, 30), notifications=True) as pilot:
        await opened(pilot)
        await pilot.press("ctrl+r")
        await says(pilot, "error[disk.full]: no space is left")


async def test_each_target_says_why_not_or_is_sent_to(line: Commands, bare: Path) -> None:
    finished()
    async with LocaltuneApp().run_test(size=(100, 30), notifications=True) as pilot:
        screen = await opened(pilot)
        text = screen_text(pilot.app)
        for part in (
            "[-] Ollama     no ollama on PATH",
            "[-] LM Studio  never started here",
            "[-] HF Hub     not signed in",
        ):
            assert part in text
        screen.targets.focus()
        await pilot.press("space")
        assert screen.targets.chosen == set()
        program = bare / "ollama"
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
        (Path.home() / ".lmstudio").mkdir()
        await pilot.press("r")
        await says(pilot, "[ ] Ollama")
        await pilot.press("space", "down", "space", "ctrl+r")
        await until(pilot, lambda: bool(line.asked))
        assert line.asked[0][4:] == ("--to", "lm-studio,ollama", "--json") or line.asked[0][4:] == (
            "--to", "ollama,lm-studio", "--json",
        )  # fmt: skip


async def test_the_hub_is_asked_about_before_anything_is_made(line: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_x")
    finished()
    async with LocaltuneApp().run_test(size=(100, 30), notifications=True) as pilot:
        screen = await opened(pilot)
        screen.targets.focus()
        await pilot.press("down", "down", "space", "ctrl+r")
        await says(pilot, "to which repository of the hub?")
        assert "hf_x" not in screen_text(pilot.app)
        await pilot.press("escape")
        await pilot.pause()
        assert line.asked == []
        await pilot.press("ctrl+r")
        await says(pilot, "to which repository of the hub?")
        pilot.app.screen.query_one(Input).value = "nobody"
        await pilot.press("enter")
        await says(pilot, "a name such as you/support-bot")
        pilot.app.screen.query_one(Input).value = "me/bot"
        await pilot.press("enter")
        await until(pilot, lambda: len(line.asked) == 2)
        assert line.asked[1] == ("push", NAME, "--to", "me/bot", "--what", "gguf", "--yes", "--json")


async def test_what_was_made_is_tried_and_its_path_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    run = finished(exported=True)
    tried: list[str] = []
    copied: list[str] = []
    monkeypatch.setattr(LocaltuneApp, "chat_with", lambda self, target: tried.append(target))
    monkeypatch.setattr(LocaltuneApp, "copy", lambda self, text: copied.append(text))
    async with LocaltuneApp().run_test(size=(100, 30), notifications=True) as pilot:
        await opened(pilot)
        await pilot.press("t", "y")
        assert tried == copied == [str(run.export / "quickstart-2.3M-support-bot-v1.0-Q8_0.gguf")]


async def test_without_a_file_the_command_is_copied_and_nothing_to_try(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    copied: list[str] = []
    finished()
    monkeypatch.setattr(LocaltuneApp, "copy", lambda self, text: copied.append(text))
    async with LocaltuneApp().run_test(size=(100, 30), notifications=True) as pilot:
        await opened(pilot)
        await pilot.press("y", "t")
        assert copied == [f"localtune export {NAME} --gguf Q4_K_M"]
        assert "Try it" not in screen_text(pilot.app)


async def test_nothing_ticked_is_said(line: Commands) -> None:
    finished()
    async with LocaltuneApp().run_test(size=(100, 30), notifications=True) as pilot:
        await opened(pilot)
        await pilot.press("space", "ctrl+r")
        await says(pilot, "tick what to make first: Space")
        assert line.asked == []


async def test_a_disk_that_is_too_small_is_said_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("localtune_tui.exporting._free", lambda run: 1_000_000)
    finished()
    async with LocaltuneApp().run_test(size=(100, 30)) as pilot:
        await opened(pilot)
        await says(pilot, "! needs up to 20 MB of disk, 1.0 MB are free")


@pytest.mark.parametrize(("state", "said"), [("running", "is not over yet"), ("crashed", "has made nothing to export")])
async def test_a_run_that_has_made_nothing_is_a_sentence_with_a_way_on(state: Any, said: str) -> None:
    recorded_run(steps=40, state=state)
    async with LocaltuneApp().run_test(size=(100, 30), notifications=True) as pilot:
        app = pilot.app
        assert isinstance(app, LocaltuneApp)
        await begun(pilot)
        app.export_run(NAME)
        await says(pilot, said)
        await pilot.press("ctrl+r")
        await says(pilot, "there is no run to export")


async def test_no_run_and_one_that_is_gone_are_sentences() -> None:
    async with LocaltuneApp().run_test(size=(100, 30)) as pilot:
        app = pilot.app
        assert isinstance(app, LocaltuneApp)
        await begun(pilot)
        await pilot.press("5")
        await says(pilot, "No run to export.")
        app.export_run("nobody")
        await says(pilot, "no run is called 'nobody'. 1 shows the runs that are there.")


def test_a_full_fine_tune_has_no_adapter() -> None:
    run = recorded_run()
    run.model.mkdir()
    found = exportable(NAME)
    assert isinstance(found, Exportable)
    reasons = {one.key: one.why_not for one in found.formats if one.why_not}
    assert set(reasons) == {"adapter", "fused"}
    assert "every weight was trained" in reasons["adapter"]


def test_commands_are_those_that_one_types() -> None:
    made = commands("bot", ["Q8_0", "fused", "adapter"], ["ollama", "hub"], "me/bot")
    assert made == [
        ("export", "bot", "--gguf", "Q8_0", "--to", "ollama"),
        ("export", "bot", "--adapter"),
        ("fuse", "bot"),
        ("push", "bot", "--to", "me/bot", "--what", "gguf", "--yes"),
    ]


async def test_hostile_events_leave_the_screen_whole(line: Commands, hostile: list[str], goal: Reached) -> None:
    finished()
    chosen = some(hostile, 3)
    async with LocaltuneApp().run_test(size=(100, 30), notifications=True) as pilot:
        screen = await opened(pilot)
        await pilot.press("ctrl+r")
        await until(pilot, lambda: screen.work is not None and screen.work.over)
        assert screen.work is not None
        for text in chosen:
            screen.work.lines.clear()
            check = {"name": text, "passed": False, "text": text}
            for event in (
                {"type": "proof", "product": text, "passed": False, "checks": [check], "losses": {text: 1.0},
                 "seconds": 1},
                {"type": "product", "name": text, "path": text, "size": 1, "seconds": 1.0},
                {"type": "replies", "prompt": text, "texts": {text: text}},
                {"type": "warning", "code": text, "text": text},
            ):  # fmt: skip
                screen.work.hear(json.dumps({"format": 1, "time": 0} | event))
            screen.work.hear(text)
            screen.work.end(text)
            screen.paint()
            await pilot.pause()
            assert_clean(screen_text(pilot.app))
    goal("screen", f"Export: {len(chosen)} strings")
