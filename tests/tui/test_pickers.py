"""Pickers of files and models: a few letters find what is meant, and nothing is looked up while keys wait."""

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from localtune_tui.app import LocaltuneApp
from localtune_tui.cache import CachedModel
from localtune_tui.modals import pick, pick_file, pick_model
from localtune_tui.modals.pick import Entry, Pick, fits
from localtune_tui.modals.pick_file import RECIPES, Folders, PickFile, walk
from localtune_tui.modals.pick_model import PickModel, memory_of, verdict
from textual.pilot import Pilot
from textual.widgets import Input

from tests.command import MODEL
from tests.goals import Reached
from tests.tui.screen_text import assert_clean, begun, says, screen_text, until


def _cached(name: str, size: int, *, weights: bool = True) -> CachedModel:
    return CachedModel(name, size, 0.0, Path("x"), (), weights)


class Asked:
    """A dialog that was opened, and what it came back with."""

    def __init__(self) -> None:
        self.values: list[str | None] = []


async def opened(pilot: Pilot[Any], dialog: Pick) -> Asked:
    await begun(pilot)
    asked = Asked()
    await pilot.app.push_screen(dialog, asked.values.append)
    await until(pilot, lambda: dialog.query_one(Input).has_focus)
    return asked


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Data, recipes and what is neither, in folders."""
    folder = tmp_path / "work"
    for name in ("support.jsonl", "notes.pdf", "own.yaml", "deep/er/orders.csv", ".hidden/secret.jsonl",
                 ".secret.jsonl", "node_modules/x.json", "deep/[bold]odd[-].jsonl"):  # fmt: skip
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}\n", encoding="utf-8")
    return folder


def test_a_walk_finds_what_fits_and_leaves_hidden_things_alone(tree: Path) -> None:
    assert sorted(walk(tree, pick_file.DATA)) == ["deep/[bold]odd[-].jsonl", "deep/er/orders.csv", "support.jsonl"]
    assert list(walk(tree, RECIPES)) == ["own.yaml"]


def test_a_walk_ends_whatever_lies_there(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pick_file, "MOST_FILES", 1)
    assert len(list(walk(tree, pick_file.DATA))) == 1
    assert list(walk(tree, pick_file.DATA, lambda: True)) == []
    assert list(walk(tree / "there is none", pick_file.DATA)) == []


@pytest.mark.skipif(os.name != "posix", reason="links")
def test_a_walk_follows_no_links(tree: Path) -> None:
    (tree / "deep" / "loop").symlink_to(tree)
    assert len(list(walk(tree, pick_file.DATA))) == 3


def test_letters_fit_best_at_the_beginning_of_a_word() -> None:
    names = ["data/support.jsonl", "my-supper.jsonl", "s-u-p.jsonl", "other.csv"]
    found = [(fit, name) for name in names if (fit := fits("sup", name)) is not None]
    assert [name for _, name in sorted(found)][-1] == "s-u-p.jsonl"
    assert fits("sup", "other.csv") is None
    assert fits("", "anything") is not None


async def test_a_file_is_found_by_letters_and_taken_by_enter(tree: Path) -> None:
    async with LocaltuneApp().run_test(size=(100, 30)) as pilot:
        asked = await opened(pilot, PickFile(tree))
        await says(pilot, "support.jsonl")
        await pilot.press(*"ordrs")
        await says(pilot, "orders.csv")
        await until(pilot, lambda: "support.jsonl" not in screen_text(pilot.app))
        await pilot.press("enter")
        assert asked.values == [str(tree / "deep" / "er" / "orders.csv")]


async def test_enter_waits_for_the_list_of_what_is_typed_and_takes_nothing_of_an_older_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("test.jsonl", "train.jsonl"):
        (tmp_path / name).write_text("{}\n", encoding="utf-8")
    async with LocaltuneApp().run_test(size=(100, 30)) as pilot:
        dialog = PickFile(tmp_path)
        asked = await opened(pilot, dialog)
        await until(pilot, lambda: len(dialog.entries) == 2)
        monkeypatch.setattr(pick, "_PAUSE", 30.0)
        await pilot.press(*"train", "enter")
        await until(pilot, lambda: bool(asked.values))
        assert asked.values == [str(tmp_path / "train.jsonl")]


async def test_a_path_is_typed_folder_by_folder(tree: Path) -> None:
    async with LocaltuneApp().run_test(size=(100, 30)) as pilot:
        dialog = PickFile(Path("/"), typed=f"{tree}{os.sep}de")
        asked = await opened(pilot, dialog)
        await until(pilot, lambda: bool(dialog.entries) and dialog.entries[0].label == f"deep{os.sep}")
        await pilot.press("enter")
        await until(pilot, lambda: any("odd" in entry.label for entry in dialog.entries))
        assert asked.values == []
        await pilot.press("down", "up", "down", "enter")
        await until(pilot, lambda: bool(asked.values) or dialog.query_one(Input).value.endswith(f"er{os.sep}"))


async def test_the_tree_shows_folders_and_files_that_fit(tree: Path) -> None:
    async with LocaltuneApp().run_test(size=(100, 30)) as pilot:
        dialog = PickFile(tree)
        asked = await opened(pilot, dialog)
        await pilot.press("tab")
        await says(pilot, "+ deep")
        painted = screen_text(pilot.app)
        assert "support.jsonl" in painted
        assert "notes.pdf" not in painted
        assert ".hidden" not in painted
        await until(pilot, lambda: len(dialog.query_one(Folders).root.children) == 3)
        await pilot.press("down", "down", "down", "enter")
        await until(pilot, lambda: bool(asked.values))
        assert asked.values == [str(tree / "support.jsonl")]


async def test_the_tree_goes_to_the_folder_above_and_back_to_the_list(tree: Path) -> None:
    async with LocaltuneApp().run_test(size=(100, 30)) as pilot:
        dialog = PickFile(tree / "deep")
        await opened(pilot, dialog)
        await pilot.press("tab")
        await says(pilot, "[bold]odd[-].jsonl")
        await pilot.press("backspace")
        await says(pilot, "support.jsonl")
        await pilot.press("tab")
        await until(pilot, lambda: dialog.query_one(Input).has_focus)


async def test_what_is_no_file_is_not_taken_but_a_data_set_of_the_hub_is(tree: Path) -> None:
    async with LocaltuneApp().run_test(size=(100, 30)) as pilot:
        dialog = PickFile(tree)
        asked = await opened(pilot, dialog)
        await pilot.press(*"zzzz")
        await until(pilot, lambda: not dialog.entries)
        await pilot.press("enter")
        await says(pilot, "there is no such file")
        assert asked.values == []
        assert dialog.taken("org/name") == "org/name"
        assert PickFile(tree, RECIPES).suffixes == RECIPES


async def test_recipes_that_come_along_stand_first(tree: Path) -> None:
    first = [Entry("/x/quickstart.yaml", "quickstart: a first one", "comes along")]
    async with LocaltuneApp().run_test(size=(100, 30)) as pilot:
        dialog = PickFile(tree, RECIPES, first=first)
        asked = await opened(pilot, dialog)
        await until(pilot, lambda: len(dialog.entries) == 2)
        assert dialog.entries[0].label.startswith("quickstart")
        await pilot.press("enter")
        assert asked.values == ["/x/quickstart.yaml"]


async def test_escape_changes_nothing(tree: Path) -> None:
    async with LocaltuneApp().run_test(size=(100, 30)) as pilot:
        asked = await opened(pilot, PickFile(tree))
        await pilot.press("escape")
        await until(pilot, lambda: bool(asked.values))
        assert asked.values == [None]


def test_the_verdict_follows_size_and_memory() -> None:
    assert verdict(3_400_000_000, 24_000_000_000) == "fits"
    assert verdict(16_000_000_000, 12_000_000_000) == "tight: QLoRA"
    assert verdict(140_000_000_000, 24_000_000_000) == "too big"
    assert memory_of("torch · RTX 4090 · 24.0 GB") == 24_000_000_000
    assert memory_of("") == 0
    assert verdict(0, 24_000_000_000) == verdict(10, 0) == ""


async def test_models_of_this_machine_come_first_with_their_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    here = [_cached("Qwen/Qwen3-0.6B", 1_500_000_000), _cached("org/huge", 90_000_000_000)]
    monkeypatch.setattr(pick_model, "cached", lambda: here)
    asked_for: list[str] = []

    def search(typed: str) -> Sequence[tuple[str, int]]:
        asked_for.append(typed)
        return [("Qwen/Qwen3-4B", 8_000_000_000), ("Qwen/Qwen3-0.6B", 1_200_000_000)]

    monkeypatch.setattr(pick_model, "search", search)
    async with LocaltuneApp().run_test(size=(120, 30)) as pilot:
        dialog = PickModel(24_000_000_000, known=[Entry(str(MODEL), "the tiny one", "comes along")])
        asked = await opened(pilot, dialog)
        await until(pilot, lambda: len(dialog.entries) == 3)
        painted = screen_text(pilot.app)
        assert "1.50 GB" in painted
        assert "too big" in painted
        assert asked_for == []
        await pilot.press(*"qwen")
        await until(pilot, lambda: len(dialog.entries) == 2 and dialog.entries[1].value == "Qwen/Qwen3-4B")
        assert dialog.entries[0].value == "Qwen/Qwen3-0.6B"
        assert set(asked_for) <= {"qwe", "qwen"}
        await pilot.press("down", "enter")
        assert asked.values == ["Qwen/Qwen3-4B"]


async def test_what_is_here_is_shown_before_the_hub_answers_and_enter_waits_for_the_name_that_was_typed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer = threading.Event()
    monkeypatch.setattr(pick_model, "cached", lambda: [_cached("Qwen/Qwen3-0.6B-Base", 1_500_000_000)])

    def search(typed: str) -> Sequence[tuple[str, int]]:
        assert answer.wait(30)
        return [("Qwen/Qwen3-0.6B-GGUF", 10**9), ("Qwen/Qwen3-0.6B", 10**9)] if typed == "Qwen/Qwen3-0.6B" else []

    monkeypatch.setattr(pick_model, "search", search)
    async with LocaltuneApp().run_test(size=(120, 30)) as pilot:
        dialog = PickModel(24_000_000_000)
        asked = await opened(pilot, dialog)
        dialog.query_one(Input).value = "Qwen/Qwen3-0.6B"
        await says(pilot, "asking the hub")
        await until(pilot, lambda: [entry.value for entry in dialog.entries] == ["Qwen/Qwen3-0.6B-Base"])
        await pilot.press("enter")
        await says(pilot, "looking for Qwen/Qwen3-0.6B: Enter is heeded once that is found")
        assert asked.values == []
        answer.set()
        await until(pilot, lambda: bool(asked.values))
        assert asked.values == ["Qwen/Qwen3-0.6B"]


async def test_a_line_gone_to_is_taken_without_waiting_and_stays_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = threading.Event()
    monkeypatch.setattr(pick_model, "cached", lambda: [_cached("org/one", 10**9), _cached("org/other", 10**9)])
    monkeypatch.setattr(pick_model, "search", lambda typed: answer.wait(30) and [("org/more", 10**9)])
    async with LocaltuneApp().run_test(size=(120, 30)) as pilot:
        dialog = PickModel(0)
        asked = await opened(pilot, dialog)
        dialog.query_one(Input).value = "org"
        await says(pilot, "asking the hub")
        await pilot.press("down")
        answer.set()
        await until(pilot, lambda: len(dialog.entries) == 3)
        await pilot.press("enter")
        assert asked.values == ["org/other"]


def test_a_whole_name_that_nobody_lists_can_still_be_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pick_model, "cached", lambda: [])
    monkeypatch.setattr(pick_model, "search", lambda typed: [("me/mine-GGUF", 10**9)])
    dialog = PickModel(0)
    monkeypatch.setattr(dialog, "say", lambda text: None)
    assert [entry.value for entry in dialog._hub("me/mine", set())] == ["me/mine-GGUF", "me/mine"]
    assert [entry.value for entry in dialog._hub("Me/Mine-gguf", set())] == ["me/mine-GGUF"]


async def test_offline_it_says_so_and_a_name_can_still_be_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pick_model, "cached", lambda: [])
    async with LocaltuneApp().run_test(size=(120, 30)) as pilot:
        asked = await opened(pilot, PickModel(0))
        await says(pilot, "no model is on this machine yet")
        await pilot.press(*"org/name")
        await says(pilot, "the hub is switched off (HF_HUB_OFFLINE)")
        await pilot.press("enter")
        assert asked.values == ["org/name"]


async def test_a_folder_is_a_model_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pick_model, "cached", lambda: [])
    async with LocaltuneApp().run_test(size=(140, 30)) as pilot:
        dialog = PickModel(24_000_000_000, typed=str(MODEL))
        await opened(pilot, dialog)
        await until(pilot, lambda: len(dialog.entries) == 1)
        assert dialog.entries[0].value == str(MODEL)
        assert "fits" in dialog.entries[0].note


def test_only_models_that_can_be_trained_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    models = [_cached("b", 3), _cached("no-weights", 2, weights=False), _cached("A", 1)]
    monkeypatch.setattr(pick_model, "cached_models", lambda: models)
    assert [model.name for model in pick_model.cached()] == ["A", "b"]


def test_an_empty_cache_is_no_error() -> None:
    assert list(pick_model.cached()) == []


async def test_hostile_names_are_shown_as_text(
    hostile: list[str], monkeypatch: pytest.MonkeyPatch, tree: Path, goal: Reached
) -> None:
    found = [_cached(text, 10**9) for text in hostile]
    monkeypatch.setattr(pick_model, "cached", lambda: found)
    for number, text in enumerate(hostile[::3]):
        name = text.replace("/", "_").replace("\0", "")[:60].encode("utf-8", "replace")
        (tree / f"{number}-{name.decode()}.jsonl").write_text("", encoding="utf-8")
    async with LocaltuneApp().run_test(size=(120, 60)) as pilot:
        dialog: Pick = PickModel(10**10)
        await opened(pilot, dialog)
        await until(pilot, lambda: len(dialog.entries) > 100)
        await pilot.pause()
        assert_clean(screen_text(pilot.app))
        await pilot.press("escape")
        files = PickFile(tree)
        await pilot.app.push_screen(files)
        await until(pilot, lambda: len(files.entries) > 30)
        await pilot.pause()
        assert_clean(screen_text(pilot.app))
        await pilot.press("tab")
        await until(pilot, lambda: bool(files.query(Folders)) and len(files.query_one(Folders).root.children) > 30)
        await pilot.pause()
        assert_clean(screen_text(pilot.app))
    goal("screen", f"Pickers: {len(hostile)} strings")
