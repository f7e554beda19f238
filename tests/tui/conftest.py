"""An app that knows nothing of the machine it is tested on: empty home, fixed clock, no colours of the terminal."""

import asyncio
import inspect
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from localtune_tui import findings
from localtune_tui.app import LocaltuneApp
from localtune_tui.screens import SCREENS
from localtune_tui.screens.base import AppScreen

from tests.goals import FULL, times

NOW = 1_800_000_000.0
"""15 January 2027, 08:00:00 UTC: what the clock of the fixture `clock` says."""
HOSTILE_PIECES = (
    "[bold]x[/]", "[/]", "[", "]", "\\[x]", "[@click=app.quit]x[/]", "[link=http://x]y[/link]", "[red",
    "[[", "{x}", "%s",
    "\x1b[31mred", "\x1b]52;c;eA==\x07", "\x1b]0;title\x07", "\x1bP1$x\x1b\\", "\x1b", "\x9b31m", "\x9d52;c;eA==\x9c",
    "\x00", "\x07", "\x08\x08", "\r", "\r\n", "\n\n", "\t", "\x0b", "\x0c", "\x7f", "\x85", "\x90", "\xad",
    "\u202e", "\u202dx", "\u2066x\u2069", "\u200e", "\u061c", "\u200b", "\u200d", "\u2060", "\ufeff", "\u180e",
    "\u2028",
    "\u2029", "\U000e0041", "\ud800", "\udfff", "\ue000", "\uffff", "\u115f", "\u3164", "\u2800", "a\u0301" * 40,
    "e" + "\u0300" * 200, "漢字" * 60, "🏳️‍🌈👩‍👩‍👧", "x" * 5000, "ا" * 50, "שלום", "../../etc/passwd", "$(reboot)",
    "`x`", "; rm -rf /", "|", "&&", "<b>", "&amp;", "NaN", "-1", "", " ", "\u00a0",
)  # fmt: skip
HOSTILE = [
    text
    for piece in HOSTILE_PIECES
    for text in (piece, f"run {piece} name", f"{piece}.jsonl")
]  # fmt: skip
"""Over 200 strings that a data file, a model or a file name may hold."""
HOSTILE += ["x" * (1 << 20), "\u202e\x1b[31m" * (1 << 13)] if FULL else []


def some(texts: list[str], every: int) -> list[str]:
    """Each `every`th of them; all where everything is asked for."""
    return texts[:: times(every, 1)]


@pytest.fixture
def hostile() -> list[str]:
    """`HOSTILE`, for a test of widgets."""
    return HOSTILE


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, folder of runs and state, and a terminal with 24-bit colours, for this test only."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("LOCALTUNE_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("LOCALTUNE_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name, value in (("HF_HUB_OFFLINE", True), ("HF_HUB_CACHE", str(home / ".cache" / "huggingface" / "hub"))):
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)  # which it read when it was imported
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.setenv("LANG", "C.UTF-8")
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "NO_COLOR", "SSH_CONNECTION", "SSH_TTY", "TMUX",
                 "STY", "LC_ALL", "LC_CTYPE", "HF_HOME", "HF_HUB_CACHE"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr("textual.constants.TEXTUAL_ANIMATIONS", "none", raising=False)
    monkeypatch.setattr(LocaltuneApp, "NOTIFICATION_TIMEOUT", 600)  # no sentence is gone before a slow machine reads it
    return home


@pytest.fixture(autouse=True)
def recorded_doctor(monkeypatch: pytest.MonkeyPatch) -> None:
    """The app is told what a true `localtune doctor` once said, and asks no child process."""
    said = json.loads((Path(__file__).parent / "doctor.json").read_text(encoding="utf-8"))
    monkeypatch.setattr(findings, "ask", lambda asked: findings.read(said))


class _Plain(AppScreen):
    """A tab with nothing in it."""


@pytest.fixture
def empty_tabs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tabs that ask nothing and show nothing, so that only the frame is tested."""
    tabs = {mode: type(f"{mode.title()}Plain", (_Plain,), {"mode": mode}) for mode in SCREENS}
    monkeypatch.setattr("localtune_tui.app.screen_class", tabs.__getitem__)


@pytest.fixture
def clock() -> Iterator[float]:
    """`time.time()` stands still at `NOW`, in UTC."""
    tell = getattr(time, "tzset", lambda: None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "UTC")
        tell()
        patch.setattr(time, "time", lambda: NOW)
        yield NOW
    tell()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """A test that is a coroutine runs in an event loop of its own."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    wanted = inspect.signature(pyfuncitem.obj).parameters
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in wanted}))
    return True
