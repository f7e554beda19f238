"""At a terminal: how soon the app is there, how it is left, what is said where there is no terminal."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from localtune.runs.folder import Run, Status
from localtune.runs.process import process_id

if sys.platform == "win32":
    pytest.skip("has no pseudo terminals", allow_module_level=True)
from tests.tui.at_terminal import ROOT, Child, start

OUT_OF_ALTERNATE_SCREEN, CURSOR, NO_MOUSE = b"\x1b[?1049l", b"\x1b[?25h", b"\x1b[?1000l"


@pytest.fixture
def app() -> Iterator[Child]:
    """The app, painted."""
    child = start()
    child.until(b"6 System")
    child.until(b"how to begin")
    yield child
    os.close(child.terminal)


def test_sigterm_gives_the_terminal_back(app: Child) -> None:
    os.kill(app.pid, signal.SIGTERM)
    assert app.end() == 143
    for given_back in (OUT_OF_ALTERNATE_SCREEN, CURSOR, NO_MOUSE):
        assert app.output.rindex(given_back) > app.output.index(b"how to begin")


def test_ctrl_q_quits_with_0_and_gives_the_terminal_back(app: Child) -> None:
    os.write(app.terminal, b"\x11")
    assert app.end() == 0
    assert OUT_OF_ALTERNATE_SCREEN in app.output


def test_who_quits_is_told_what_goes_on(tmp_path: Path) -> None:
    run = Run(tmp_path / "runs" / "mine-20260101-000000")
    run.folder.mkdir(parents=True)
    run.plan.write_text('{"format": 1}', encoding="utf-8")
    run.write_status(Status("running", supervisor=process_id(), heartbeat=4e9))
    child = start()
    child.until(b"6 System")
    child.until(b"[3 Live]")
    os.write(child.terminal, b"\x11")
    assert child.end() == 0
    assert b"mine-20260101-000000 goes on; localtune  shows it again" in child.output
    os.close(child.terminal)


def test_a_terminal_that_goes_away_ends_the_app() -> None:
    child = start()
    child.until(b"how to begin")
    os.close(child.terminal)  # the system sends SIGHUP
    end = time.monotonic() + 30
    while os.waitpid(child.pid, os.WNOHANG)[0] == 0:
        assert time.monotonic() < end
        time.sleep(0.05)


def test_first_paint_is_soon() -> None:
    """0.4 s on two idle cores; the bound is for busy ones."""
    times = []
    for _ in range(3):
        child = start()
        times.append(child.until(b"6 System"))
        os.kill(child.pid, signal.SIGTERM)
        child.end()
        os.close(child.terminal)
    assert min(times) < 1.5, times


def test_without_a_terminal_there_is_help_and_exit_code_2() -> None:
    child = subprocess.run([sys.executable, "-m", "localtune"], capture_output=True, text=True, cwd=ROOT, check=False)
    assert child.returncode == 2
    assert "Commands:" in child.stderr
    child = subprocess.run(
        [sys.executable, "-m", "localtune", "tui"], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert child.returncode == 2
    assert "error[tui.no-terminal]" in child.stderr


def test_a_terminal_that_draws_nothing_gets_help() -> None:
    child = start(TERM="dumb")
    assert child.end() == 2
    assert b"Commands:" in child.output
    os.close(child.terminal)


def test_a_folder_that_is_no_run_is_said(tmp_path: Path) -> None:
    child = start(str(tmp_path))
    assert child.end() == 2
    assert b"error[tui.not-a-run]" in child.output
    os.close(child.terminal)
