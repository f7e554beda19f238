"""What stands on the app's screen, as plain lines, and the comparison with a small file of it."""

import difflib
import os
import time
import unicodedata
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from textual.app import App
from textual.pilot import Pilot
from textual.widget import Widget

GOLDEN = Path(__file__).parent / "golden"
SIZES = ((80, 24), (100, 30), (160, 48))


def screen_text(app: App[Any], replace: Mapping[str, str] | None = None) -> str:
    """The lines of the screen that is shown, without trailing blanks; `replace`: what differs -> what it is called."""
    strips = app.screen._compositor.render_strips()
    text = "\n".join("".join(segment.text for segment in strip).rstrip() for strip in strips)
    for found, name in (replace or {}).items():
        text = text.replace(found, name)
    return text.rstrip() + "\n"


def widget_text(widget: Widget) -> str:
    """The lines of the part of the screen that `widget` has."""
    region = widget.region
    lines = screen_text(widget.app).splitlines()
    shown = lines[region.y : region.bottom]
    return "\n".join(line[region.x : region.right].rstrip() for line in shown)


def assert_clean(text: str) -> None:
    """Nothing in `text` steers a terminal, turns the direction of writing, or is not to be seen."""
    for character in text:
        category = unicodedata.category(character)
        assert character == "\n" or category not in ("Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"), repr(character)


async def until(pilot: Pilot[Any], condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Let the app work until `condition` holds; an `AssertionError` with the screen after `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s:\n{screen_text(pilot.app)}"
        await pilot.pause(0.01)


async def looks_as(pilot: Pilot[Any], name: str, painted: Callable[[], str], seconds: float = 10.0) -> None:
    """Let the app work until it is `painted` as tests/tui/golden/NAME.txt has it; `GOLDEN=1` writes that instead."""
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("GOLDEN"):
        await pilot.pause(1.0)
        path.parent.mkdir(exist_ok=True)
        path.write_text(painted(), encoding="utf-8")
        return
    if not path.is_file():
        pytest.fail(f"{path} does not exist; GOLDEN=1 writes it")
    wanted, end = path.read_text(encoding="utf-8"), time.monotonic() + seconds
    while painted() != wanted and time.monotonic() < end:
        await pilot.pause(0.05)
    different = difflib.unified_diff(wanted.splitlines(), painted().splitlines(), name, "the screen", lineterm="", n=0)
    if said := "\n".join(different):
        pytest.fail(said)


async def says(pilot: Pilot[Any], text: str) -> None:
    """Let the app work until `text` stands on its screen, on one line or over the end of one."""
    await until(pilot, lambda: text in screen_text(pilot.app) or text in " ".join(screen_text(pilot.app).split()))


async def begun(pilot: Pilot[Any], mode: str | None = None) -> None:
    """Let the app work until its first tab, or the one called `mode`, is painted with its keys."""
    app = pilot.app
    await until(pilot, lambda: app.current_mode == mode if mode else app.current_mode != "_default")
    await until(pilot, lambda: app.size.width < 60 or app.size.height < 15 or "^p" in screen_text(app))
