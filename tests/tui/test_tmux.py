"""In tmux: detach, attach, a terminal that is killed; the run goes on, and the next app opens on it."""

import os
import pty
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from localtune.runs.folder import Run
from tests.command import Command, short

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Tmux:
    """A server of the test's own."""

    socket: Path

    def __call__(self, *arguments: str) -> str:
        command = ["tmux", "-S", str(self.socket), "-f", "/dev/null", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    def open(self, runs: Path) -> None:
        """The app, in a window of its own; its pid is in `pid`."""
        line = shlex.join([sys.executable, "-m", "localtune"])
        environment = {"LOCALTUNE_RUNS": str(runs), "LOCALTUNE_STATE": os.environ["LOCALTUNE_STATE"]}
        given = [part for name, value in environment.items() for part in ("-e", f"{name}={value}")]
        self("new-session", "-d", "-x", "100", "-y", "30", "-c", str(ROOT), *given, f"exec {line}")

    @property
    def screen(self) -> str:
        """What stands in its window."""
        return self("capture-pane", "-p")

    @property
    def pid(self) -> int:
        """Of the app."""
        return int(self("list-panes", "-F", "#{pane_pid}"))

    def says(self, text: str, seconds: float = 60.0) -> None:
        """Wait until `text` stands in its window."""
        end = time.monotonic() + seconds
        while text not in self.screen:
            assert time.monotonic() < end, self.screen
            time.sleep(0.05)


@pytest.fixture
def tmux(tmp_path: Path) -> Iterator[Tmux]:
    """A server that is gone when the test is over."""
    server = Tmux(tmp_path / "s")
    yield server
    server("kill-server")


def _gone(pid: int, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < end
        time.sleep(0.05)


def _attached_and_killed(tmux: Tmux) -> None:
    """A client that shows the app, and whose terminal is killed."""
    pid, descriptor = pty.fork()
    if pid == 0:
        os.execvp("tmux", ["tmux", "-S", str(tmux.socket), "attach"])
    seen, end = b"", time.monotonic() + 30
    while b"System" not in seen:
        assert time.monotonic() < end
        seen += os.read(descriptor, 65536)
    os.close(descriptor)
    os.waitpid(pid, 0)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks at processes as Linux shows them")
def test_a_killed_terminal_leaves_app_and_run_alive_and_a_killed_server_the_run(
    localtune: Command, tmux: Tmux, tmp_path: Path
) -> None:
    name = localtune("run", *short(tmp_path / "data", steps=4000), "--detach").out.strip()
    tmux.open(localtune.runs)
    tmux.says("3 Live")
    tmux.says("rows")
    pid = tmux.pid
    _attached_and_killed(tmux)
    assert tmux.pid == pid
    tmux.says("3 Live")
    tmux("kill-server")
    _gone(pid)
    assert Run(localtune.runs / name).status().state == "running"
    tmux.open(localtune.runs)
    tmux.says("[3 Live]")
    tmux("send-keys", "C-q")
    assert Run(localtune.runs / name).status().state == "running"
    localtune("stop", name, "--now")
