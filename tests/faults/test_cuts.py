"""Whatever is written, a cut before any one system call leaves the old or the new, and the next start clears up."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from localtune.events import Checkpoint, Step
from localtune.runs import checkpoints
from localtune.runs.checkpoints import Progress, path_of
from localtune.runs.files import is_complete, new_folder, sweep, write_bytes, write_json
from localtune.runs.folder import Run, Status
from tests.faults.cuts import cut_everywhere, partials

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="cuts are made in forked processes")


def _weights(step: int) -> dict[str, np.ndarray]:
    return {"lora_A": np.full((4, 8), float(step), np.float32)}


def _save(run: Run, step: int, best: int = 3) -> None:
    """A checkpoint as the worker makes one, its record included."""
    run.record(Step(step, 9, 1.0, 1.0, 8.0, 1e-4, 0.5, True, 8, 8, 0, 0.1))
    offset = run.settle_events()
    checkpoints.save(
        run, Progress(step, best, events_offset=offset), lambda to: save_file(_weights(step), to / "a.safetensors")
    )
    run.record(Checkpoint(step, path_of(run, step).name, 1, 0.1))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run with a best checkpoint, of update 3, and those of 5 and 6."""
    run = Run(tmp_path / "run")
    run.checkpoints.mkdir(parents=True)
    for step in (3, 5, 6):
        _save(run, step)
    return run


def _usable(run: Run, *steps: int) -> None:
    """The newest checkpoint is one of `steps` and holds its weights; the best is there; nothing else is left."""
    checkpoints.rewind(run)
    found = checkpoints.latest(run)
    assert found is not None
    progress, folder = found
    assert progress.step in steps
    assert np.array_equal(load_file(folder / "a.safetensors")["lora_A"], _weights(progress.step)["lora_A"])
    assert checkpoints.intact(run, 3) is not None
    assert not list(partials(run.folder))
    recorded = [event.step for event, _ in run.read_events() if isinstance(event, Step)]
    assert recorded == [step for step in (3, 5, 6, 9) if step <= progress.step]


@pytest.mark.parametrize("full", [False, True], ids=["cut", "full"])
def test_a_save_that_is_cut_anywhere_leaves_a_checkpoint_to_go_on_from(run: Run, full: bool) -> None:
    calls = cut_everywhere(run.folder, lambda: _save(run, 9), lambda call: _usable(run, 6, 9), full=full)
    assert calls > 15


def test_cuts_are_seen_where_the_last_checkpoint_is_dropped_first(run: Run) -> None:
    def careless() -> None:
        for step in (5, 6):
            for path in path_of(run, step).iterdir():
                path.unlink()
        _save(run, 9)

    with pytest.raises(AssertionError):
        cut_everywhere(run.folder, careless, lambda call: _usable(run, 6, 9))


@pytest.mark.parametrize("full", [False, True], ids=["cut", "full"])
def test_a_file_that_is_replaced_is_the_old_or_the_new_one(tmp_path: Path, full: bool) -> None:
    path = tmp_path / "folder" / "status.json"
    path.parent.mkdir()
    write_json(path, {"state": "running"})

    def check(call: int) -> None:
        assert json.loads(path.read_text(encoding="utf-8"))["state"] in ("running", "done")
        if not full:
            sweep(path.parent)
        assert os.listdir(path.parent) == [path.name]

    assert cut_everywhere(path.parent, lambda: write_json(path, {"state": "done"}), check, full=full) > 4


def test_cuts_are_seen_where_a_file_is_written_in_place(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "status.json"
    path.parent.mkdir()
    write_bytes(path, b"{}")

    def in_place() -> None:
        path.write_bytes(b'{"a": 1}')

    with pytest.raises(ValueError, match="Expecting value"):
        cut_everywhere(path.parent, in_place, lambda call: json.loads(path.read_bytes()))


@pytest.mark.parametrize("full", [False, True], ids=["cut", "full"])
def test_a_folder_is_whole_or_not_there(tmp_path: Path, full: bool) -> None:
    root = tmp_path / "folder"
    root.mkdir()
    folder = root / "adapter"

    def write() -> None:
        with new_folder(folder) as to:
            save_file(_weights(1), to / "adapter.safetensors")
            (to / "README.md").write_text("card", encoding="utf-8")

    def check(call: int) -> None:
        assert not folder.exists() or is_complete(folder, verify=True)
        if not full:
            sweep(root)
        assert not list(partials(root))

    assert cut_everywhere(root, write, check, full=full) > 15


def test_a_status_is_read_after_every_cut(run: Run) -> None:
    run.write_status(Status("running", 6, 9))

    def check(call: int) -> None:
        assert run.status().step in (6, 9)

    assert cut_everywhere(run.folder, lambda: run.write_status(Status("done", 9, 9)), check) > 4
    assert run.status().state == "done"
