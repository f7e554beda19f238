"""From nothing to a proven file, by keys alone: data, training, comparison, export; nothing in it is replayed."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from localtune_tui.app import LocaltuneApp
from localtune_tui.screens.chat import ChatScreen
from localtune_tui.screens.export import ExportScreen
from localtune_tui.screens.live import LiveScreen
from localtune_tui.screens.new import NewScreen
from localtune_tui.widgets.field import Field
from localtune_tui.widgets.section import Section, SectionHead
from textual.pilot import Pilot

from tests.command import QUICKSTART, end_runs
from tests.tui.screen_text import begun, says, screen_text, until

pytest.importorskip("xllamacpp")
SETTINGS = {"train.steps": "30", "train.batch_size": "16", "train.learning_rate": "5e-3", "train.precision": "float32"}
SECONDS = 300.0


@asynccontextmanager
async def _app(folder: Path) -> AsyncIterator[Pilot[Any]]:
    try:
        async with LocaltuneApp().run_test(size=(100, 30), notifications=True) as pilot:
            yield pilot
    finally:
        end_runs(folder)


async def _go_to(pilot: Pilot[Any], key: str) -> Field:
    """Down to the line of a setting; a group on the way is opened where the setting is in it."""
    group = key.partition(".")[0]
    for _ in range(120):
        focused = pilot.app.screen.focused
        if isinstance(focused, Field) and focused.key == key:
            return focused
        section = focused.parent if isinstance(focused, SectionHead) else None
        if isinstance(section, Section) and section.id == f"section-{group}" and not section.open:
            await pilot.press("space")
            await pilot.pause()
        await pilot.press("down")
    raise AssertionError(f"no line for {key}:\n{screen_text(pilot.app)}")


async def _set(pilot: Pilot[Any], key: str, value: str) -> None:
    """Bring a setting to `value`, as its kind of line takes it."""
    field = await _go_to(pilot, key)
    if field.kind == "choice":
        while field.value != value:
            await pilot.press("right")
    else:
        await pilot.press("enter", *["backspace"] * len(field.value), *value, "enter")
    await until(pilot, lambda: field.value == value)


@pytest.mark.slow
async def test_by_keys_alone_from_a_data_file_to_a_proven_gguf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(QUICKSTART)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    async with _app(tmp_path / "runs") as pilot:
        await begun(pilot, "first")
        await pilot.press("f")
        await says(pilot, "Which file?")
        await pilot.press(*"train.jsonl")
        await says(pilot, "train.jsonl ")
        await pilot.pause(0.5)
        await pilot.press("enter")
        await _plan(pilot)
        await pilot.press("ctrl+r")
        run = await _watch(pilot)
        await _compare(pilot)
        await _export(pilot)
    files = list((tmp_path / "runs" / run / "export").glob("*-Q8_0.gguf"))
    assert len(files) == 1
    assert files[0].stat().st_size > 2_000_000
    assert list((tmp_path / "runs" / run / "feedback").glob("good.jsonl"))


async def _plan(pilot: Pilot[Any]) -> None:
    """The quickstart's small model, few updates, no files yet; ready to start."""
    app = pilot.app
    await until(pilot, lambda: isinstance(app.screen, NewScreen))
    screen = app.screen
    assert isinstance(screen, NewScreen)
    await until(pilot, lambda: isinstance(screen.focused, Field))
    await pilot.press("up")
    await _go_to(pilot, "model")
    await pilot.press("enter")
    await says(pilot, "comes along")
    await pilot.press("enter")
    await until(pilot, lambda: bool(screen.draft.model))
    for key, value in {"export.gguf": "none", **SETTINGS}.items():
        await _set(pilot, key, value)
    await until(pilot, lambda: screen.outcome is not None and screen.outcome.ready, SECONDS)


async def _watch(pilot: Pilot[Any]) -> str:
    """Live, until the run is done; its name."""
    app = pilot.app
    assert isinstance(app, LocaltuneApp)
    await until(pilot, lambda: isinstance(app.screen, LiveScreen), SECONDS)
    screen = app.screen
    assert isinstance(screen, LiveScreen)
    await until(pilot, lambda: screen.view.state == "done", SECONDS)
    await says(pilot, f"step {screen.view.steps}/{screen.view.steps}")
    return screen.view.name


async def _compare(pilot: Pilot[Any]) -> None:
    """Base and tuned model answer one question, and the answer is kept as good."""
    app = pilot.app
    await pilot.press("c")
    await until(pilot, lambda: isinstance(app.screen, ChatScreen) and app.screen.state == "ready", SECONDS)
    screen = app.screen
    assert isinstance(screen, ChatScreen)
    await pilot.press(*"Get me a taxi to the zoo.", "enter")
    await until(pilot, lambda: bool(screen.talk.exchanges) and not screen.talk.pending, SECONDS)
    base, tuned = screen.talk.exchanges[0].replies.values()
    assert tuned.text.startswith("{")
    assert base.text != tuned.text
    await pilot.press("plus")
    await says(pilot, "(kept as good)")
    await pilot.press("escape", "5")


async def _export(pilot: Pilot[Any]) -> None:
    """Q8_0, with its proof."""
    app = pilot.app
    await until(pilot, lambda: isinstance(app.screen, ExportScreen) and app.screen.found is not None)
    screen = app.screen
    assert isinstance(screen, ExportScreen)
    for at, one in enumerate(screen.formats.choices):
        if (one.key in screen.formats.chosen) != (one.key == "Q8_0"):
            await pilot.press("home", *["down"] * at, "space")
    assert screen.formats.chosen == {"Q8_0"}
    await pilot.press("ctrl+r")
    await until(pilot, lambda: screen.work is not None and screen.work.over, SECONDS)
    assert screen.work is not None
    assert screen.work.problem == ""
    proofs = [line.text for line in screen.work.lines if line.text.startswith("proof of")]
    assert any("Q8_0.gguf: passed" in proof for proof in proofs)
    assert any(line.text.startswith("made Q8_0  export/") for line in screen.work.lines)
    await says(pilot, "✓ done: t tries it")
