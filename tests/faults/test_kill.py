"""Killed at any moment, a run goes on as if nothing had happened: bit for bit on a processor, on both backends."""

import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from localtune.events import Checkpoint, Done, Step
from localtune.runs import checkpoints
from localtune.runs.folder import Run
from localtune.runs.lock import WORKER, RunLock
from localtune.worked import seconds_worked
from tests.command import Command, end_runs, wait_until
from tests.faults.faulty import BACKENDS, arguments, figures, kill, kill_all, notes, only, steps_done, weights, whole
from tests.goals import FULL, Reached, times

STEPS = times(10, 40)
SAVED_EVERY = 3

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="kills with signals that Windows has not")


@pytest.fixture(scope="module", params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, backend: str) -> Iterator[Run]:
    """The same run, never interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    yield whole(Command(folder / "runs"), folder, backend, STEPS)
    end_runs(folder / "runs")


def _resume(command: Command) -> None:
    result = command("run", "--resume", "last", "--detach")
    assert result.code == 0, result.err


def _same(run: Run, other: Run) -> None:
    assert figures(run) == figures(other)
    assert weights(run) == weights(other)
    assert len(weights(run)) >= 4


def test_a_run_whose_processes_are_killed_ends_bit_for_bit_like_the_one_that_was_not(
    localtune: Command, tmp_path: Path, backend: str, finished: Run
) -> None:
    moments = random.Random(5)
    begun = localtune("run", *arguments(tmp_path, backend, STEPS), "--detach")
    assert begun.code == 0, begun.err
    run = only(localtune)
    wait_until(lambda: steps_done(run) >= moments.randint(1, 3))
    kill(run, "supervisor")  # the worker sees it, saves and ends
    wait_until(lambda: run.status().state == "crashed")
    _resume(localtune)
    wait_until(lambda: steps_done(run) >= 5)
    kill(run, "worker")  # the supervisor starts another
    wait_until(lambda: run.status().sessions == 2 and steps_done(run) >= 7)
    kill_all(run)
    result = localtune("run", "--resume", "last")
    assert result.code == 0, result.err
    _same(run, finished)
    took = next(event.seconds for event, _ in run.read_events() if isinstance(event, Done))
    assert took == pytest.approx(seconds_worked(run.events), abs=0.3)  # of all sessions, not of the last alone


@pytest.mark.skipif(not FULL, reason="a hundred kills on each backend: make faults")
def test_a_hundred_kills_at_random_moments_lose_nothing(
    tmp_path: Path, backend: str, finished: Run, goal: Reached
) -> None:
    moments, kills, lost, runs = random.Random(7), 0, 0, 0
    while kills < 100:
        runs += 1
        command = Command(tmp_path / f"runs-{runs}")
        command.runs.mkdir()
        begun = command("run", *arguments(tmp_path / "data", backend, STEPS), "--detach")
        assert begun.code == 0, begun.err
        run = only(command)
        while kills < 100 and not _ended_before(run, moments):
            kills += kill_all(run)
            if run.status().state == "done":
                break
            lost = max(lost, _lost(run))
            _resume(command)
        wait_until(lambda run=run: run.status().state == "done")  # type: ignore[misc]
        _same(run, finished)
    assert lost <= SAVED_EVERY
    goal("kill", f"{backend}: {kills} kills, each usable, {runs} runs bit-identical, at most {lost} updates lost")


def _ended_before(run: Run, moments: random.Random) -> bool:
    """Let it go on to a moment after one of its next updates; whether its end comes first."""
    wanted = checkpointed(run) + moments.randint(1, 2 * SAVED_EVERY)
    wait_until(lambda: steps_done(run) >= wanted or run.status().state == "done", seconds=300)
    time.sleep(moments.uniform(0, 0.3))
    return run.status().state == "done"


def checkpointed(run: Run) -> int:
    """The update from which it goes on."""
    found = checkpoints.latest(run)
    return found[0].step if found else 0


def _lost(run: Run) -> int:
    """Updates on record behind the newest checkpoint, which is intact if ever one was recorded."""
    found = checkpoints.latest(run)
    recorded = [event for event, _ in run.read_events() if isinstance(event, Checkpoint)]
    assert found is not None or not recorded
    return steps_done(run) - checkpointed(run)


@pytest.mark.skipif(not FULL, reason="a control of a comparison that other tests make, too")
def test_another_seed_is_another_run(localtune: Command, tmp_path: Path, backend: str, finished: Run) -> None:
    other = whole(localtune, tmp_path, backend, STEPS, "--set=train.seed=43")
    assert figures(other) != figures(finished)
    assert weights(other) != weights(finished)


@pytest.mark.skipif(not FULL, reason="the rule itself is a test of tests/unit/test_checkpoints_kept.py")
def test_a_damaged_checkpoint_is_passed_over_with_a_sentence(localtune: Command, tmp_path: Path) -> None:
    result = localtune("run", *arguments(tmp_path, "torch", 2000), "--detach")
    assert result.code == 0, result.err
    run = only(localtune)
    wait_until(lambda: len(checkpoints.steps(run)) >= 2)
    kill_all(run)
    older, newest = checkpoints.steps(run)[-2:]
    path = checkpoints.path_of(run, newest) / "adapter_model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with localtune.start("run", "--resume", "last") as viewer:
        wait_until(lambda: any("run.checkpoint" in note for note in notes(run)))
        os.kill(run.status().supervisor.pid, signal.SIGTERM)  # type: ignore[union-attr]
        _, err = viewer.communicate(timeout=60)
    assert f"the checkpoint of update {newest} is damaged and passed over for that of update {older}" in err
    resumed = [event.step for event, _ in run.read_events() if isinstance(event, Step)]
    assert resumed == list(range(1, len(resumed) + 1))


def test_a_run_whose_worker_still_lives_is_not_removed(localtune: Command, finished: Run) -> None:
    run = Run(localtune.runs / finished.name)
    shutil.copytree(finished.folder, run.folder)
    with RunLock(run.folder, WORKER):
        assert localtune("runs", "rm", run.name, "--yes").code == 2
    assert localtune("runs", "rm", run.name, "--yes").code == 0
