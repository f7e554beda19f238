"""Keys: each has a name, a sentence and a place in help and palette; none is somebody else's; all can be changed."""

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from pkgutil import walk_packages
from typing import Any

import localtune_tui
import pytest
from localtune_tui.app import LocaltuneApp
from localtune_tui.draft import Draft
from localtune_tui.help import help_text
from localtune_tui.keys import actions, read_keys, unknown_ids
from localtune_tui.modals.chat_settings import ChatSettings
from localtune_tui.modals.confirm import Confirm
from localtune_tui.modals.fix_data import FixData
from localtune_tui.modals.pick_chat import PickChat
from localtune_tui.modals.pick_file import PickFile
from localtune_tui.modals.pick_model import PickModel
from localtune_tui.modals.repository import AskRepository
from localtune_tui.palette import Commands
from localtune_tui.screens import SCREENS
from localtune_tui.screens.data import DataScreen
from localtune_tui.talk import Wishes
from localtune_tui.text import shown
from textual.binding import Binding
from textual.screen import Screen

from tests.tui.conftest import HOSTILE
from tests.tui.screen_text import assert_clean, begun, says, screen_text

OWNED = {f"ctrl+{letter}" for letter in "abhjkloswz"} - {"ctrl+w"} | {
    "left_square_bracket", "right_square_bracket", "backslash", "[", "]", "\\",
}  # fmt: skip
"""What tmux, screen, shells and window managers take, or what some keyboards have not got."""


MODES = list(SCREENS)


def _classes() -> list[type]:
    modules = [importlib.import_module(found.name) for found in walk_packages(localtune_tui.__path__, "localtune_tui.")]
    found = {value for module in modules for value in vars(module).values() if isinstance(value, type)}
    return [each for each in found if each.__module__.startswith("localtune_tui.")]


def _ranks(screen: Screen[object]) -> list[int]:
    return [action.rank for action in actions(screen)]


def _bindings() -> list[tuple[str, Binding]]:
    return [
        (each.__name__, binding)
        for each in _classes()
        for binding in Binding.make_bindings(each.__dict__.get("BINDINGS", ()))
    ]


def test_every_key_has_an_id_a_description_and_a_sentence() -> None:
    for name, binding in _bindings():
        assert binding.id, (name, binding.key)
        assert binding.description, (name, binding.id)
        assert binding.tooltip.endswith((".", "…")), (name, binding.id)


def test_an_id_names_one_thing() -> None:
    seen: dict[str, str] = {}
    for _, binding in _bindings():
        assert seen.setdefault(str(binding.id), binding.description) == binding.description


def test_no_key_belongs_to_a_terminal_or_is_missing_on_a_keyboard() -> None:
    for name, binding in _bindings():
        assert binding.key not in OWNED, (name, binding.id)
        assert "alt+" not in binding.key, (name, binding.id)


@pytest.mark.parametrize("mode", MODES)
async def test_every_key_of_a_screen_is_in_its_help_and_in_the_palette(mode: str) -> None:
    app = LocaltuneApp()
    async with app.run_test(size=(100, 30)) as pilot:
        await begun(pilot)
        app.action_go(mode)
        await begun(pilot, mode)
        await _check(app.screen)


VIEWS: tuple[Callable[[], Screen[Any]], ...] = (
    lambda: DataScreen(Draft(data="no-such-file.jsonl"), lambda path: None),
    lambda: Confirm("Really?"),
    lambda: ChatSettings(Wishes(), template=True),
    lambda: FixData({}, "clean.jsonl"),
    lambda: PickFile(Path.cwd()),
    lambda: PickModel(0),
    PickChat,
    lambda: AskRepository("bot"),
)


async def test_every_key_of_a_view_or_dialog_is_in_its_help_and_in_the_palette() -> None:
    app = LocaltuneApp()
    async with app.run_test(size=(100, 30)) as pilot:
        await begun(pilot)
        for made in VIEWS:
            await app.push_screen(made())
            await pilot.pause()
            await _check(app.screen)
            app.pop_screen()


async def _check(screen: Screen[object]) -> None:
    """Bindings that are possible here, read from the widgets themselves."""
    bound = {
        str(binding.id): binding
        for node in [*screen.walk_children(), screen, screen.app]
        for each in type(node).__mro__  # what is inherited counts, but for what Textual's own widgets bind
        if each.__module__.startswith("localtune_tui.")
        for binding in Binding.make_bindings(each.__dict__.get("BINDINGS", ()))
        if not (node is screen.app and screen.is_modal) or binding.priority  # as below a dialog
        if binding.id and node.check_action(binding.action.partition("(")[0], ()) is not False
    }
    listed = {action.id: action for action in actions(screen)}
    palette = Commands(screen)
    assert _ranks(screen) == sorted(_ranks(screen))
    hits = [str(hit.text) async for hit in palette.discover()]
    said = help_text(screen).plain
    for name, binding in bound.items():
        if name in ("app.back", "app.leave") and name not in listed:
            continue
        assert name in listed, name
        assert name in said, name
        assert name == "app.palette" or any(binding.description in hit for hit in hits), name


@pytest.mark.parametrize("mode", MODES)
async def test_the_footer_shows_nine_keys_at_most_and_fits_into_80_columns(mode: str) -> None:
    app = LocaltuneApp()
    async with app.run_test(size=(80, 24)) as pilot:
        await begun(pilot)
        app.action_go(mode)
        await begun(pilot, mode)
        shown = [each for each in app.screen.active_bindings.values() if each.binding.show]
        assert len({each.binding.action for each in shown}) <= 9
        last = screen_text(app).splitlines()[-1]
        assert "? Help" in last
        assert last.rstrip().endswith("▏^p")


def test_a_key_file_is_read_by_action_id(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    path.write_text("app.theme: f9\napp.help: f1,x\napp.runs: 7\n", encoding="utf-8")
    assert read_keys(path).by_id == {"app.theme": "f9", "app.help": "f1,x", "app.runs": "7"}
    assert read_keys(path).problems == ()
    assert read_keys(tmp_path / "none.yaml").by_id == {}


@pytest.mark.parametrize(
    "text", ["- a\n- b", "a: [", "42", "a: b: c", "\x00", "a: &x [*x]", "[" * 2000, "a: 1\na: 2", "x" * 70_000]
)
def test_a_key_file_that_is_none_is_said_and_let_be(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys.yaml"
    path.write_text(text, encoding="utf-8")
    keys = read_keys(path)
    assert keys.by_id == {}
    assert len(keys.problems) == 1


def test_values_that_are_no_keys_are_left_out_by_name(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    path.write_text("app.theme: [1]\napp.help: ''\napp.runs: f9\n", encoding="utf-8")
    keys = read_keys(path)
    assert keys.by_id == {"app.runs": "f9"}
    assert [problem.split(":")[1].strip() for problem in keys.problems] == ["app.theme", "app.help"]


def test_an_unknown_action_is_said_with_the_nearest_one() -> None:
    assert unknown_ids(["app.helpp", "app.help"], {"app.help", "app.quit"}) == [
        "keys.yaml: app.helpp is not an action; did you mean app.help?"
    ]


async def test_a_rebound_key_does_it_and_the_old_one_does_not(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = own_home / "keys.yaml"
    path.write_text("app.theme: f9\napp.nonsense: f8\n", encoding="utf-8")
    monkeypatch.setattr("localtune_tui.app.keys_file", lambda: path)
    app = LocaltuneApp()
    async with app.run_test(size=(100, 30), notifications=True) as pilot:
        await begun(pilot)
        before = app.theme
        await pilot.press("f2")
        assert app.theme == before
        await pilot.press("f9")
        assert app.theme != before
        await says(pilot, "app.nonsense is")
        assert {action.id: action.keys for action in actions(app.screen)}["app.theme"] == ("f9",)


async def test_a_key_that_two_actions_want_is_said(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = own_home / "keys.yaml"
    path.write_text("app.theme: f9\napp.first: f9\n", encoding="utf-8")
    monkeypatch.setattr("localtune_tui.app.keys_file", lambda: path)
    app = LocaltuneApp()
    async with app.run_test(size=(100, 30), notifications=True) as pilot:
        await begun(pilot)
        await pilot.press("f9")
        await says(pilot, "keys.yaml gives one key")


def test_hostile_names_in_a_key_file_reach_nobody_unsafe(tmp_path: Path) -> None:
    path = tmp_path / "keys.yaml"
    lines = [f"{json.dumps(text)}: [1]" for text in HOSTILE[:60] if text.isprintable()]
    path.write_text("\n".join(dict.fromkeys(lines)), encoding="utf-8")
    for problem in read_keys(path).problems:
        assert_clean(shown(problem))
