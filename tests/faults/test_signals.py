"""SIGINT and SIGTERM to the worker at any moment: it ends within seconds by the signal's code, with all it can keep."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from localtune.job import read_plan
from localtune.runs import checkpoints
from localtune.runs.folder import Run
from tests.command import Command, wait_until
from tests.faults.faulty import BACKENDS, arguments, kill_all, only, steps_done
from tests.goals import FULL, Reached, times

WITHIN = 10.0
"""Seconds from the signal to the end of the process."""

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")


@pytest.fixture(scope="module", params=BACKENDS if FULL else ("torch",))
def begun(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Run:
    """A run that was killed after its first checkpoint."""
    folder = tmp_path_factory.mktemp("begun")
    command = Command(folder / "runs")
    started = command("run", *arguments(folder, request.param, 4000), "--detach")
    assert started.code == 0, started.err
    run = only(command)
    wait_until(lambda: bool(checkpoints.steps(run)))
    kill_all(run)
    return run


def _worker(run: Run) -> "subprocess.Popen[bytes]":
    with run.log.open("ab") as log:
        command = [sys.executable, "-P", "-m", "localtune.worker", str(run.folder)]
        return subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | {"OMP_NUM_THREADS": "1"})


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_worker_ends_within_seconds_by_the_signals_code_and_keeps_all_it_did(
    begun: Run, number: signal.Signals, goal: Reached
) -> None:
    moments, slowest = random.Random(3), 0.0
    points = times(2, 20)
    for point in range(points):
        checkpoints.rewind(begun)
        worker = _worker(begun)
        if point % 2:  # while it begins
            time.sleep(moments.uniform(0, 2.5))
        else:
            before = steps_done(begun)
            wait_until(lambda before=before: steps_done(begun) > before)  # type: ignore[misc]
            time.sleep(moments.uniform(0, 0.5))
        asked = time.monotonic()
        worker.send_signal(number)
        code = worker.wait(timeout=60)
        slowest = max(slowest, time.monotonic() - asked)
        assert code in (128 + number, -number)
        found = checkpoints.latest(begun)
        assert found is not None
        assert code == -number or not list(begun.folder.rglob("*.partial"))
        assert code == -number or found[0].step == steps_done(begun)
    assert slowest < WITHIN
    backend = read_plan(begun).device.backend
    goal("signals", f"{backend}: {number.name} to the worker: {points}/{points}, slowest {slowest:.1f} s")


def test_a_supervisor_asked_to_end_saves_first_and_a_closed_terminal_asks_for_nothing(
    localtune: Command, tmp_path: Path
) -> None:
    started = localtune("run", *arguments(tmp_path, "torch", 4000), "--detach")
    assert started.code == 0, started.err
    run = only(localtune)
    wait_until(lambda: steps_done(run) >= 2)
    status = run.status()
    assert status.supervisor is not None
    assert status.worker is not None
    for process in (status.supervisor, status.worker):
        os.kill(process.pid, signal.SIGHUP)
    reached = steps_done(run)
    wait_until(lambda: steps_done(run) >= reached + 5)
    psutil.Process(status.supervisor.pid).send_signal(signal.SIGTERM)
    wait_until(lambda: run.status().state == "stopped", seconds=WITHIN)
    assert run.status().exit_code == 143
    found = checkpoints.latest(run)
    assert found is not None
    assert found[0].step == steps_done(run)


@pytest.mark.skipif(not FULL, reason="the same code as for SIGTERM")
def test_a_supervisor_interrupted_saves_first(localtune: Command, tmp_path: Path) -> None:
    started = localtune("run", *arguments(tmp_path, "torch", 4000), "--detach")
    assert started.code == 0, started.err
    run = only(localtune)
    wait_until(lambda: steps_done(run) >= 2)
    os.kill(run.status().supervisor.pid, signal.SIGINT)  # type: ignore[union-attr]
    wait_until(lambda: run.status().state == "stopped", seconds=WITHIN)
    assert run.status().exit_code == 130
