"""What a worker heeds: signals, requests, and whether its supervisor is there."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from localtune.asked import Asked
from localtune.runs.folder import Run
from localtune.runs.process import process_id
from localtune.score import StopRequested


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    names = [name for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)]
    before = {name: signal.getsignal(getattr(signal, name)) for name in names}
    yield
    for name, handler in before.items():
        signal.signal(getattr(signal, name), handler)


def test_a_dead_supervisor_ends_a_measurement_too(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    asked = Asked(Run(tmp_path), process_id(child.pid))
    asked.check()
    assert asked.requests() == set()
    child.kill()
    child.wait()
    asked._looked -= 1
    with pytest.raises(StopRequested):
        asked.check()
    assert asked.requests() == {"stop"}
    assert asked.exit_code == 130


def test_a_pause_stops_and_a_save_is_answered_once(tmp_path: Path) -> None:
    run = Run(tmp_path)
    asked = Asked(run, None)
    run.request("save")
    assert asked.requests() == {"save"}
    assert asked.requests() == set()
    run.request("pause")
    assert asked.requests() == {"pause", "stop"}
    assert run.requests() == {"pause"}  # the supervisor's to answer


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_a_signal_ends_loading_at_once_and_everything_else_when_it_asks(tmp_path: Path) -> None:
    asked = Asked(Run(tmp_path), None)
    with pytest.raises(StopRequested), asked.at_once():
        os.kill(os.getpid(), signal.SIGTERM)
    assert asked.exit_code == 143
    os.kill(os.getpid(), signal.SIGTERM)  # only noted here
    with pytest.raises(StopRequested):
        asked.check()
