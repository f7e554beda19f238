"""System, over what a true `localtune doctor` said, and a cache of models in a folder of the test's own."""

import hashlib
import time
from pathlib import Path

import pytest
from localtune_tui import findings
from localtune_tui.app import LocaltuneApp
from localtune_tui.asking import Asked, AskError
from localtune_tui.cache import CachedModel, cached_models, delete
from localtune_tui.findings import ask as true_ask
from localtune_tui.screens.system import Models, SystemScreen

from tests.goals import Reached
from tests.tui.conftest import HOSTILE, NOW
from tests.tui.screen_text import SIZES, assert_clean, begun, looks_as, says, screen_text, until

MODELS = [
    CachedModel("Qwen/Qwen3-1.7B", 3_400_000_000, NOW, Path("/models/qwen"), ("a",), True),
    CachedModel("HuggingFaceTB/SmolLM2-135M", 270_000_000, NOW - 86_400, Path("/models/smol"), ("b",), True),
]


@pytest.fixture(autouse=True)
def _machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("localtune_tui.screens.system.cached_models", lambda: list(MODELS))


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("size", SIZES, ids=str)
async def test_it_shows_machine_and_cache(size: tuple[int, int]) -> None:
    app = LocaltuneApp()
    async with app.run_test(size=size) as pilot:
        await begun(pilot)
        await pilot.press("6")
        await says(pilot, "this machine can train")
        await says(pilot, "2 models, 3.67 GB")
        await looks_as(pilot, f"system-{size[0]}x{size[1]}", lambda: screen_text(app))
        assert app.machine.startswith("torch · CPU (2 threads) · 2")


async def test_a_machine_that_cannot_train_is_said_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    lacking = {"can_train": False, "findings": [{"name": "torch", "status": "missing", "needed": True, "fix": "pip …"}]}
    monkeypatch.setattr(findings, "ask", lambda asked: findings.read(lacking))
    app = LocaltuneApp()
    async with app.run_test(size=(100, 30), notifications=True) as pilot:
        await begun(pilot)
        await pilot.press("6")
        await until(pilot, lambda: "looking" not in screen_text(app))
        await says(pilot, "this machine cannot train yet: torch")
        await says(pilot, "fix: pip …")


async def test_a_doctor_that_gives_no_answer_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(asked: Asked) -> findings.Machine:
        raise AskError(1, "error[internal]: [bold]no[/]\n  fix: report it")

    monkeypatch.setattr(findings, "ask", none)
    app = LocaltuneApp()
    async with app.run_test(size=(100, 30), notifications=True) as pilot:
        await begun(pilot)
        await pilot.press("6")
        await until(pilot, lambda: "looking" not in screen_text(app))
        await says(pilot, "error[internal]: [bold]no[/]")


def test_an_answer_with_exit_code_3_is_an_answer() -> None:
    class Unable(Asked):
        def run_json(self, *args: str) -> object:
            raise AskError(3, "", {"can_train": False, "findings": []})

    assert true_ask(Unable()) == findings.Machine((), False)


@pytest.mark.parametrize("value", [None, [], {}, {"findings": 3}, {"findings": [3, None, {}]}, {"findings": {"a": 1}}])
def test_nonsense_instead_of_findings_is_no_finding(value: object) -> None:
    assert all(each.name == "" for each in findings.read(value).found)


async def test_delete_asks_first_and_keeps_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    deleted: list[object] = []

    def take(revisions: object) -> int:
        deleted.append(revisions)
        return 3_400_000_000

    monkeypatch.setattr("localtune_tui.screens.system.delete", take)
    app = LocaltuneApp()
    async with app.run_test(size=(100, 30), notifications=True) as pilot:
        await begun(pilot)
        await pilot.press("6")
        await until(pilot, lambda: "looking" not in screen_text(app))
        await pilot.press("D")
        await says(pilot, "Delete Qwen/Qwen3-1.7B?")
        await says(pilot, "3.40 GB in /models/qwen")
        await pilot.press("enter")
        await until(pilot, lambda: "Delete Qwen" not in screen_text(app))
        assert deleted == []
        await pilot.press("D")
        await pilot.press("right", "enter")
        await says(pilot, "deleted Qwen/Qwen3-1.7B: 3.40 GB free again")
        assert deleted == [("a",)]


async def test_an_empty_cache_greys_delete_out_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("localtune_tui.screens.system.cached_models", list)
    app = LocaltuneApp()
    async with app.run_test(size=(100, 30), notifications=True) as pilot:
        await begun(pilot)
        await pilot.press("6")
        await until(pilot, lambda: "looking" not in screen_text(app))
        await says(pilot, "Nothing was downloaded yet.")
        await pilot.press("D")
        await says(pilot, "there is no model in the cache")


async def test_y_copies_a_fix_or_the_marked_models_folder() -> None:
    app = LocaltuneApp()
    async with app.run_test(size=(100, 30), notifications=True) as pilot:
        await begun(pilot)
        await pilot.press("6")
        await until(pilot, lambda: "looking" not in screen_text(app))
        await pilot.press("y")
        assert app.clipboard == "hf auth login"
        app.screen.query_one(Models).focus()
        await pilot.press("j", "y")
        assert app.clipboard == "/models/smol"
        screen = app.screen
        assert isinstance(screen, SystemScreen)
        assert screen.command_of("system.delete") == "hf cache rm model/HuggingFaceTB/SmolLM2-135M"


@pytest.mark.parametrize("first", range(0, len(HOSTILE), 80))
async def test_hostile_findings_and_models_are_harmless(
    first: int, monkeypatch: pytest.MonkeyPatch, goal: Reached
) -> None:
    texts = HOSTILE[first : first + 80]
    found = [{"name": t, "status": t, "text": t, "fix": t, "group": t} for t in texts]
    models = [CachedModel(t, 1, 1.0, Path("x"), (), True) for t in texts]
    monkeypatch.setattr(findings, "ask", lambda asked: findings.read({"findings": found, "can_train": True}))
    monkeypatch.setattr("localtune_tui.screens.system.cached_models", lambda: models)
    app = LocaltuneApp()
    async with app.run_test(size=(160, 300)) as pilot:
        await begun(pilot)
        await pilot.press("6")
        await says(pilot, "this machine can train")
        await says(pilot, f"{len(texts)} models")
        assert_clean(screen_text(app))
    goal("screen", f"System: {len(texts)} strings")


def _cached(root: Path, name: str, size: int) -> None:
    folder = root / f"models--{name.replace('/', '--')}"
    commit = hashlib.sha1(name.encode()).hexdigest()
    snapshot, blob = folder / "snapshots" / commit, folder / "blobs" / "x"
    for path in (snapshot, blob.parent, folder / "refs"):
        path.mkdir(parents=True)
    blob.write_bytes(b"x" * size)
    (snapshot / "model.safetensors").symlink_to(blob)
    (folder / "refs" / "main").write_text(commit, encoding="utf-8")


def test_the_cache_is_read_and_a_model_taken_out_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    assert cached_models() == []
    _cached(tmp_path / "hub", "a/small", 10)
    _cached(tmp_path / "hub", "a/large", 1000)
    models = cached_models()
    assert [(model.name, model.size) for model in models] == [("a/large", 1000), ("a/small", 10)]
    assert models[0].used <= time.time()
    assert delete(models[0].revisions) == 1000
    assert [model.name for model in cached_models()] == ["a/small"]
