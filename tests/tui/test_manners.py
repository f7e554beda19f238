"""Terminal manners: what is painted where, in which colours, who may steer, what is never loaded."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from localtune_tui import terminal, theme
from localtune_tui.app import LocaltuneApp
from localtune_tui.control import Control
from textual.color import Color
from textual.theme import Theme

from tests.tui.screen_text import begun, screen_text

ROOT = Path(__file__).parents[2]


def _paths() -> dict[str, str]:
    """The environment of a child that imports from the checkout."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tui")))}


EVERYTHING = """
import importlib, pkgutil, sys
import localtune_tui
for found in pkgutil.walk_packages(localtune_tui.__path__, "localtune_tui."):
    importlib.import_module(found.name)
from huggingface_hub import scan_cache_dir
print(" ".join(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def test_no_module_of_the_app_loads_an_array_framework() -> None:
    child = subprocess.run([sys.executable, "-c", EVERYTHING], capture_output=True, text=True, check=True, env=_paths())
    loaded = set(child.stdout.split())
    assert "localtune_tui" in loaded
    assert not loaded & {"torch", "mlx", "transformers", "peft", "bitsandbytes", "mlx_lm", "xllamacpp"}


def test_far_terminals_are_painted_half_as_often() -> None:
    assert terminal.refresh_rate({}) == 0.25
    for name in ("SSH_CONNECTION", "SSH_TTY", "TMUX", "STY"):
        assert terminal.refresh_rate({name: "x"}) == 0.5


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"TERM": "linux", "LANG": "de_DE.UTF-8"}, True),
        ({"TERM": "xterm", "LANG": "de_DE.UTF-8"}, False),
        ({"LANG": "C"}, True),
        ({"LANG": "de_DE.UTF-8", "LC_ALL": "POSIX"}, True),
        ({"LANG": "C", "LC_ALL": "C.utf8"}, False),
    ],
)
def test_ascii_where_the_console_or_the_locale_has_nothing_else(environ: dict[str, str], expected: bool) -> None:
    assert terminal.only_ascii(environ) is expected


@pytest.mark.parametrize(
    ("wanted", "environ", "expected"),
    [
        (theme.DARK, {"COLORTERM": "truecolor"}, theme.DARK),
        (theme.LIGHT, {"COLORTERM": "24bit"}, theme.LIGHT),
        (theme.DARK, {}, "ansi-dark"),
        (theme.CLEAR_LIGHT, {}, "ansi-light"),
        ("ansi-light", {"COLORTERM": "truecolor"}, "ansi-light"),
        ("nonsense", {"COLORTERM": "truecolor"}, theme.DARK),
    ],
)
def test_a_terminal_gets_the_colours_it_has(wanted: str, environ: dict[str, str], expected: str) -> None:
    assert theme.fitting(wanted, environ) == expected


@pytest.mark.parametrize("name", theme.CHOICES)
async def test_every_set_of_colours_paints_every_screen_of_the_frame(name: str) -> None:
    app = LocaltuneApp()
    async with app.run_test(size=(80, 24)) as pilot:
        await begun(pilot)
        app.theme = name
        for mode in ("system", "first"):
            app.action_go(mode)
            await begun(pilot, mode)
        assert "1 Runs" in screen_text(app)


@pytest.mark.parametrize("chosen", theme.THEMES, ids=lambda each: each.name)
def test_text_and_signs_stand_out_from_their_ground(chosen: Theme) -> None:
    """A contrast of 4.5 to 1, as WCAG 2.2 asks of text."""
    ground = _luminance(chosen.background)
    for colour in (chosen.foreground, chosen.accent, *chosen.variables.values()):
        light, dark = sorted((_luminance(colour), ground), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, colour


def _luminance(colour: str | None) -> float:
    """Relative luminance, as WCAG 2.2 defines it."""
    parts = [part / 255 for part in Color.parse(colour or "").rgb]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


async def test_no_color_is_heeded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    app = LocaltuneApp()
    async with app.run_test(size=(80, 24)) as pilot:
        await begun(pilot)
        assert {"Monochrome", "NoColor"} & {type(each).__name__ for each in app.get_line_filters()}


HOLD = (
    "import sys; from pathlib import Path; from localtune_tui.control import Control\n"
    "print(Control(Path(sys.argv[1])).take(), flush=True); sys.stdin.read()"
)


def test_control_is_free_again_when_its_holder_was_killed(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=_paths(),
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "True\n"
    control = Control(tmp_path)
    assert not control.take()
    assert f"process {holder.pid}" in control.reason
    holder.kill()
    holder.wait()
    assert control.take()
    assert control.reason == ""
    control.give_back()
