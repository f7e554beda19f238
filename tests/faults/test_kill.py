"""Killed at any moment, a run goes on as if nothing had happened: bit for bit on a CPU."""

import os
import random
import shutil
import signal
import sys
from pathlib import Path

import pytest

from localtune.events import Done, Evaluation, Event, Step
from localtune.runs.files import sha256
from localtune.runs.folder import Run
from localtune.runs.lock import WORKER, RunLock
from localtune.worked import seconds_worked
from tests.command import Command, short, wait_until

STEPS = 14

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="kills with signals that Windows has not")


def _only(command: Command) -> Run:
    return Run(next(command.runs.iterdir()))


def _figures(run: Run) -> list[tuple[object, ...]]:
    """Every measured number but times and memory."""

    def numbers(event: Event) -> tuple[object, ...]:
        hidden = {"seconds", "peak_bytes"}
        return (event.kind, *(value for key, value in vars(event).items() if key not in hidden))

    return [numbers(event) for event, _ in run.read_events() if isinstance(event, Step | Evaluation)]


def _weights(run: Run) -> dict[str, str]:
    last = run.checkpoints / f"step-{STEPS:06d}"
    files = [*last.glob("*.safetensors"), *run.adapter.glob("*.safetensors")]
    return {f"{path.parent.name}/{path.name}": sha256(path) for path in files}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The same run, never interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    command = Command(folder / "runs")
    result = command("run", *short(folder, steps=STEPS))
    assert result.code == 0, result.err
    return _only(command)


def _kill_at(run: Run, step: int) -> None:
    """Wait for an update, then end supervisor and worker as a power cut would."""
    wait_until(lambda: any(isinstance(e, Step) and e.step >= step for e, _ in run.read_events()))
    status = run.status()
    for process in (status.supervisor, status.worker):
        if process is not None and process.alive:
            os.kill(process.pid, signal.SIGKILL)
    wait_until(lambda: run.status().state == "crashed")


def test_a_run_killed_twice_ends_bit_for_bit_like_the_one_that_was_not(
    localtune: Command, tmp_path: Path, whole: Run
) -> None:
    moments = random.Random(5)
    begun = localtune("run", *short(tmp_path, steps=STEPS), "--detach")
    assert begun.code == 0, begun.err
    run = _only(localtune)
    _kill_at(run, moments.randint(1, 4))
    assert localtune("run", "--resume", "last", "--detach").code == 0
    _kill_at(run, moments.randint(6, STEPS - 2))
    result = localtune("run", "--resume", "last")
    assert result.code == 0, result.err
    assert _figures(run) == _figures(whole)
    assert _weights(run) == _weights(whole)
    assert len(_weights(run)) >= 3
    took = next(event.seconds for event, _ in run.read_events() if isinstance(event, Done))
    assert took == pytest.approx(seconds_worked(run.events), abs=0.3)  # of all sessions, not of the last alone


def test_a_worker_that_is_killed_is_explained_and_can_be_resumed(localtune: Command, tmp_path: Path) -> None:
    with localtune.start("run", *short(tmp_path, steps=2000)) as viewer:
        wait_until(lambda: any(localtune.runs.glob("*/status.json")))
        run = _only(localtune)
        wait_until(lambda: run.status().step >= 4)
        worker = run.status().worker
        assert worker is not None
        os.kill(worker.pid, signal.SIGKILL)
        _, err = viewer.communicate(timeout=60)
    assert viewer.returncode == 1, err
    assert "SIGKILL" in err
    assert f"localtune run --resume {run.name}" in err
    assert run.status().state == "failed"


def test_a_worker_that_lost_its_supervisor_saves_ends_and_is_resumed(
    localtune: Command, tmp_path: Path, whole: Run
) -> None:
    begun = localtune("run", *short(tmp_path, steps=STEPS), "--detach")
    assert begun.code == 0, begun.err
    run = _only(localtune)
    wait_until(lambda: run.status().step >= 1)
    os.kill(run.status().supervisor.pid, signal.SIGKILL)  # type: ignore[union-attr]
    wait_until(lambda: run.status().state == "crashed")
    result = localtune("run", "--resume", "last")
    assert result.code == 0, result.err
    assert _figures(run) == _figures(whole)
    assert _weights(run) == _weights(whole)


def test_a_run_whose_worker_still_lives_is_not_removed(localtune: Command, whole: Run) -> None:
    run = Run(localtune.runs / whole.name)
    shutil.copytree(whole.folder, run.folder)
    with RunLock(run.folder, WORKER):
        assert localtune("runs", "rm", run.name, "--yes").code == 2
    assert localtune("runs", "rm", run.name, "--yes").code == 0


def test_another_seed_is_another_run(localtune: Command, tmp_path: Path, whole: Run) -> None:
    result = localtune("run", *short(tmp_path, steps=STEPS), "--set=train.seed=43")
    assert result.code == 0, result.err
    assert _figures(_only(localtune)) != _figures(whole)
    assert _weights(_only(localtune)) != _weights(whole)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_supervisor_asked_to_end_saves_first(localtune: Command, tmp_path: Path, number: signal.Signals) -> None:
    begun = localtune("run", *short(tmp_path, steps=2000), "--detach")
    assert begun.code == 0, begun.err
    run = _only(localtune)
    wait_until(lambda: run.status().step >= 2)
    os.kill(run.status().supervisor.pid, number)  # type: ignore[union-attr]
    wait_until(lambda: run.status().state == "stopped", seconds=10)
    assert run.status().exit_code == 128 + number
    assert any(run.checkpoints.glob("step-*"))
