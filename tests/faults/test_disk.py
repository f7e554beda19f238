"""A full disk pauses a run and ruins nothing: it goes on by itself when there is space, to the same bits."""

import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from localtune.runs import checkpoints
from localtune.runs.folder import Run
from tests.command import Command, wait_until
from tests.faults.faulty import BACKENDS, arguments, figures, notes, only, weights, whole
from tests.faults.small_disk import small_disk
from tests.goals import FULL, Reached, times

STEPS = 12
SIZE = 48 << 20
LEFT = (0, 300_000, 3_600_000)
"""Bytes that are free when the run's checkpoints begin: nothing, events alone, a part of the next checkpoint."""

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no small disk to be had")


@pytest.fixture(scope="module", params=BACKENDS if FULL else ("torch",))
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, backend: str) -> Run:
    """The same run with space enough."""
    folder = tmp_path_factory.mktemp("whole")
    return whole(Command(folder / "runs"), folder, backend, STEPS)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", SIZE) as path:
        yield path


def _fill(disk: Path, left: int) -> Path:
    """A file that takes all but `left` bytes."""
    path = disk / "filler"
    with path.open("wb") as file:
        while (free := shutil.disk_usage(disk).free - left) > 0:
            try:
                file.write(bytes(min(free, 1 << 20)))
                file.flush()
            except OSError:
                break
    return path


@pytest.mark.parametrize("left", LEFT if FULL else LEFT[1:2])
def test_a_full_disk_pauses_the_run_which_goes_on_to_the_same_bits(
    disk: Path, tmp_path: Path, backend: str, finished: Run, left: int, goal: Reached
) -> None:
    tries = times(1, 5)
    for number in range(tries):
        command = Command(disk / f"runs-{number}")
        command.runs.mkdir()
        begun = command("run", *arguments(tmp_path / "data", backend, STEPS), "--detach")
        assert begun.code == 0, begun.err
        run = only(command)
        wait_until(lambda run=run: bool(checkpoints.steps(run)))  # type: ignore[misc]
        filler = _fill(disk, left)
        wait_until(lambda run=run: run.status().state == "paused")  # type: ignore[misc]
        assert "bytes of disk" in run.status().detail
        assert checkpoints.latest(run) is not None
        time.sleep(0.1 * number)
        filler.unlink()
        wait_until(lambda run=run: run.status().state not in ("paused", "running"))  # type: ignore[misc]
        assert run.status().state == "done", run.log.read_text(encoding="utf-8")
        assert figures(run) == figures(finished)
        assert weights(run) == weights(finished)
        assert any(note.startswith("run.paused: paused: needs ") for note in notes(run))
        assert not list(run.folder.rglob("*.partial"))
        shutil.rmtree(command.runs)
    goal("disk", f"{backend}: runs with {left:,} bytes left: {tries}/{tries} paused, intact, and ended bit-identical")


@pytest.mark.skipif(not FULL, reason="the rule itself is a test of tests/unit/test_supervisor.py")
def test_a_paused_run_can_be_stopped(disk: Path, tmp_path: Path) -> None:
    command = Command(disk / "runs")
    command.runs.mkdir()
    begun = command("run", *arguments(tmp_path / "data", "torch", 4000), "--detach")
    assert begun.code == 0, begun.err
    run = only(command)
    wait_until(lambda: bool(checkpoints.steps(run)))
    _fill(disk, 0)
    wait_until(lambda: run.status().state == "paused")
    stopped = command("stop", run.name)
    assert stopped.code == 0, stopped.err
    wait_until(lambda: run.status().state == "stopped", seconds=10)
    assert run.status().exit_code == 130
    assert checkpoints.latest(run) is not None
