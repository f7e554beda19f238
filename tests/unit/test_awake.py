"""Idle sleep is held off while a run trains, by whatever the system has, and a system without anything is no error."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from localtune.awake import ES_CONTINUOUS, ES_SYSTEM_REQUIRED, awake, inhibitor
from tests.command import wait_until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="fakes are shell scripts")
FAKE = '#!/bin/sh\necho $$ "$@" > "{said}"\nexec cat\n'


def _program(folder: Path, name: str, script: str = FAKE) -> Path:
    """A stand-in on PATH, and the file it writes its process and arguments to."""
    said = folder / "said.txt"
    (folder / name).write_text(script.format(said=said))
    (folder / name).chmod(0o755)
    return said


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder ahead of everything on PATH."""
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/usr/bin:/bin")
    return tmp_path


def _said(file: Path) -> tuple[psutil.Process, list[str]]:
    wait_until(lambda: file.exists() and file.read_text().endswith("\n"))
    pid, *arguments = file.read_text().split()
    return psutil.Process(int(pid)), arguments


def test_a_mac_stays_awake_for_the_worker_and_its_display_may_sleep(path: Path) -> None:
    said = _program(path, "caffeinate")
    with awake(4711, "darwin"):
        child, arguments = _said(said)
        assert arguments == ["-i", "-w", "4711"]
        assert child.is_running()
    wait_until(lambda: not child.is_running())


def test_linux_asks_systemd_and_lets_go_at_the_end(path: Path) -> None:
    said = _program(path, "systemd-inhibit")
    with awake(4711, "linux"):
        child, arguments = _said(said)
        assert arguments[0] == "--what=idle:sleep"
        assert arguments[-1] == "cat"
    wait_until(lambda: not child.is_running())


def test_it_ends_when_what_started_it_is_killed(path: Path) -> None:
    said = _program(path, "systemd-inhibit")
    script = "import time\nfrom localtune.awake import awake\nwith awake(1, 'linux'):\n    time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", script]) as holder:
        child, _ = _said(said)
        holder.kill()
    wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


@pytest.mark.parametrize("system", ["darwin", "linux", "freebsd"])
def test_a_system_without_the_program_trains_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert inhibitor(1, system) == []
    with awake(1, system):
        pass


@pytest.mark.parametrize("script", ["#!/bin/sh\nexit 1\n", "no program at all"])
def test_a_program_that_fails_is_no_error_and_the_block_runs_on(path: Path, script: str) -> None:
    _program(path, "caffeinate", script)
    with awake(1, "darwin"):
        time.sleep(0.05)


def test_an_error_inside_is_not_swallowed_and_the_program_ends(path: Path) -> None:
    said = _program(path, "caffeinate")

    def fails() -> None:
        with awake(1, "darwin"):
            _said(said)
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fails()
    pid = int(said.read_text().split()[0])
    wait_until(lambda: not psutil.pid_exists(pid))


def test_windows_is_asked_to_stay_awake_and_told_when_it_need_not(monkeypatch: pytest.MonkeyPatch) -> None:
    import ctypes

    asked: list[int] = []

    class Kernel:
        def SetThreadExecutionState(self, flags: int) -> int:
            asked.append(flags)
            return 1

    class Windows:
        kernel32 = Kernel()

    monkeypatch.setattr(ctypes, "windll", Windows(), raising=False)
    with awake(1, "win32"):
        assert asked == [ES_CONTINUOUS | ES_SYSTEM_REQUIRED]
    assert asked[1:] == [ES_CONTINUOUS]
