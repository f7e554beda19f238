"""A command at a pseudo terminal of the test's own, and whether it gave that terminal back."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
LOCALTUNE = (sys.executable, "-m", "localtune")
_MODE = re.compile(rb"\x1b\[\?([\d;]+)([hl])")
"""A private mode is set (h) or reset (l), as ECMA-48 and xterm name it."""
_AT_REST = (b"7", b"25")
"""Lines wrap, and the cursor is shown: the modes that are set in a terminal at rest."""


@dataclass
class Child:
    """A process at a terminal."""

    pid: int
    terminal: int
    output: bytes = b""
    began: float = field(default_factory=time.perf_counter)

    def until(self, text: bytes, seconds: float = 60.0) -> float:
        """Read until `text` has come; seconds since the start."""
        while text not in self.output:
            assert time.perf_counter() - self.began < seconds, self.output[-2000:]
            self._read(0.05)
        return time.perf_counter() - self.began

    def read_for(self, seconds: float) -> None:
        """Read what comes for so long, as a terminal does."""
        end = time.perf_counter() + seconds
        while (left := end - time.perf_counter()) > 0 and self._read(left):
            continue

    def end(self) -> int:
        """Read to the end; the exit code."""
        while self._read(60.0):
            continue
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def modes(self) -> dict[bytes, bool]:
        """Each private mode that was touched, and whether it is set now."""
        found = _MODE.finditer(self.output)
        return {mode: match[2] == b"h" for match in found for mode in match[1].split(b";")}

    def kept(self) -> list[str]:
        """What was not given back: "mode 25", "echo", "lines"."""
        wrong = [f"mode {mode.decode()}" for mode, is_set in self.modes().items() if is_set != (mode in _AT_REST)]
        flags = termios.tcgetattr(self.terminal)[3]
        return wrong + [name for name, flag in _FLAGS.items() if not flags & flag]

    def _read(self, seconds: float) -> bool:
        """Wait so long for something to read; False at the end."""
        if not select.select([self.terminal], [], [], seconds)[0]:
            return True
        try:
            chunk = os.read(self.terminal, 65536)
        except OSError:  # Linux' way to say that nobody is at the other side
            return False
        self.output += chunk
        return bool(chunk)


_FLAGS = {"echo": termios.ECHO, "lines": termios.ICANON, "keys that interrupt": termios.ISIG}


def start(*arguments: str, command: Sequence[str] = LOCALTUNE, cwd: Path = ROOT, **environment: str) -> Child:
    """Start `localtune ARGUMENTS`, or another `command`, at a terminal of 30 lines of 100 characters."""
    pid, descriptor = pty.fork()
    if pid == 0:
        os.chdir(cwd)
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        os.execve(command[0], [*command, *arguments], os.environ | environment)
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    return Child(pid, descriptor)
