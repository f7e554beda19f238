"""Draws .github/tui-*.svg: every screen of the app over one true, short run. Minutes; needs nothing from the network.

    python -m tests.tui.pictures          all of them
    python -m tests.tui.pictures live     only those named

The run, its chat and its export are made in a folder that is gone afterwards; home and paths in it are not the user's.
"""

import asyncio
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from localtune_tui.app import LocaltuneApp
from textual.pilot import Pilot

from tests.tui.screen_text import begun, says, screen_text, until

ROOT = Path(__file__).parents[2]
QUICKSTART = ROOT / "recipes" / "quickstart"
PLACE = ROOT / ".github"
SIZE = (100, 30)
QUESTION = "Get me a taxi from the station to the zoo."
SECONDS = 300.0
Way = Callable[[Pilot[Any]], Awaitable[object]]


async def _mode(pilot: Pilot[Any], mode: str, text: str) -> None:
    _app(pilot).action_go(mode)
    await until(pilot, lambda: text in screen_text(pilot.app), SECONDS)


async def _new(pilot: Pilot[Any]) -> None:
    _app(pilot).new_from(QUICKSTART / "recipe.yaml")
    await until(pilot, lambda: "ready:" in screen_text(pilot.app), SECONDS)


async def _data(pilot: Pilot[Any]) -> None:
    await _new(pilot)
    await pilot.press("v")
    await until(pilot, lambda: "learned" in screen_text(pilot.app) and "tokens" in screen_text(pilot.app), SECONDS)
    await pilot.pause(10)


async def _chat(pilot: Pilot[Any]) -> None:
    await _mode(pilot, "chat", "not in memory")
    await pilot.press(*QUESTION, "enter")
    await until(pilot, lambda: "tok/s" in screen_text(pilot.app), SECONDS)
    await until(pilot, lambda: "answers …" not in screen_text(pilot.app), SECONDS)


async def _export(pilot: Pilot[Any]) -> None:
    await _mode(pilot, "export", "ready:")
    await pilot.press("ctrl+r")
    await until(pilot, lambda: "done: t tries it" in screen_text(pilot.app), SECONDS)


SCREENS: Mapping[str, Way] = {
    "first": lambda pilot: _mode(pilot, "first", "Try the demo"),
    "runs": lambda pilot: _mode(pilot, "runs", "support-bot"),
    "new": _new,
    "data": _data,
    "live": lambda pilot: _mode(pilot, "live", "step 60/60"),
    "chat": _chat,
    "export": _export,
    "system": lambda pilot: _mode(pilot, "system", "can train"),
}
"""Name of the picture -> how one comes to what it shows."""


def _app(pilot: Pilot[Any]) -> LocaltuneApp:
    assert isinstance(pilot.app, LocaltuneApp)
    return pilot.app


async def _draw(name: str, way: Way) -> None:
    app = LocaltuneApp()
    async with app.run_test(size=SIZE) as pilot:
        await begun(pilot)
        await says(pilot, "1 Runs")
        await way(pilot)
        await pilot.pause(0.5)
        svg = app.export_screenshot(title="localtune")
    svg = re.sub(r"@font-face \{.*?\}\n?", "", svg, flags=re.DOTALL)  # no font from elsewhere
    home = os.environ["HOME"]
    svg = svg.replace(home, "/home/you/tuning".ljust(len(home), "g")[: len(home)])  # as wide, so that columns stay
    (PLACE / f"tui-{name}.svg").write_text(svg, encoding="utf-8")


def _train() -> None:
    """The quickstart, a quarter of it."""
    settings = {"name": "support-bot", "train.steps": 60, "watch.eval_every": 12, "export.gguf": "[]"}
    flags = [f"--set={key}={value}" for key, value in settings.items()]
    command = [sys.executable, "-m", "localtune", "run", str(QUICKSTART / "recipe.yaml"), *flags]
    subprocess.run(command, check=True)


def main(names: list[str]) -> None:
    """Draw the pictures called `names`, or all."""
    with tempfile.TemporaryDirectory() as folder:
        places = {"LOCALTUNE_RUNS": "localtune/runs", "LOCALTUNE_STATE": "state", "HOME": "."}
        os.environ |= {name: str(Path(folder) / place) for name, place in places.items()}
        os.environ |= {"HF_HUB_OFFLINE": "1", "COLORTERM": "truecolor", "TEXTUAL_ANIMATIONS": "none"}
        _train()
        os.chdir(QUICKSTART)
        for name in names or SCREENS:
            asyncio.run(_draw(name, SCREENS[name]))
            print(PLACE / f"tui-{name}.svg")  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1:])
