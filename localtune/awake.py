"""No idle sleep while a run trains; the display may still go dark, and a lid that is closed still suspends.

macOS: `caffeinate -i`, ended with the process it is told of. Linux: `systemd-inhibit`, where it is installed and lets
us. Windows: `SetThreadExecutionState`. Without any of them a run trains all the same, and nothing is said.
"""

import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

ES_SYSTEM_REQUIRED, ES_CONTINUOUS = 0x00000001, 0x80000000
"""Of SetThreadExecutionState (Windows API): keep the system awake, until the next call of this thread."""


@contextmanager
def awake(pid: int, system: str = sys.platform) -> Iterator[None]:
    """Hold off idle sleep of this machine for the process `pid` while the block runs; never raises for itself."""
    if system == "win32":
        with _thread_state():
            yield
        return
    command = inhibitor(pid, system)
    child = _started(command) if command else None
    try:
        yield
    finally:
        if child is not None:
            child.kill()
            child.communicate()


def inhibitor(pid: int, system: str) -> list[str]:
    """The command that holds off idle sleep as long as it runs; empty where there is none."""
    if system == "darwin":
        return _found(["caffeinate", "-i", "-w", str(pid)])
    if system == "linux" and shutil.which("cat"):  # cat ends with its input: with the process that started it
        return _found(["systemd-inhibit", "--what=idle:sleep", "--who=localtune", "--why=a model is training", "cat"])
    return []


def _found(command: Sequence[str]) -> list[str]:
    program = shutil.which(command[0])
    return [program, *command[1:]] if program else []


def _started(command: Sequence[str]) -> "subprocess.Popen[bytes] | None":
    with suppress(OSError):
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
    return None


@contextmanager
def _thread_state() -> Iterator[None]:
    """Windows only: this thread asks for it, and takes it back."""
    import ctypes

    kernel = getattr(ctypes, "windll").kernel32  # noqa: B009  (exists on Windows alone)
    kernel.SetThreadExecutionState(ES_CONTINUOUS | ES_SYSTEM_REQUIRED)
    try:
        yield
    finally:
        kernel.SetThreadExecutionState(ES_CONTINUOUS)
