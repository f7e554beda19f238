"""Keys typed while an answer is drawn: not shown, not lost, and shown again whatever ends the answer."""

import contextlib
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator

import pytest

if sys.platform == "win32":
    pytest.skip("needs a pseudo-terminal", allow_module_level=True)

import pty
import termios

DRAWS = """
import sys, time
from localtune.chat.terminal import unechoed
try:
    with unechoed():
        print("drawing", flush=True)
        {during}
except (KeyboardInterrupt, ZeroDivisionError):
    pass
print("drawn", flush=True)
print("heard", repr(input()))
"""


@contextlib.contextmanager
def _terminal(during: str) -> Iterator[tuple[int, int]]:
    """A process that draws for a while in a terminal of its own; its id, and the other end of the terminal."""
    pid, terminal = pty.fork()
    if pid == 0:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.execv(sys.executable, [sys.executable, "-c", DRAWS.format(during=during)])
    try:
        yield pid, terminal
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
        os.close(terminal)


def _read_until(terminal: int, text: str) -> str:
    seen, end = "", time.monotonic() + 20
    while text not in seen:
        assert select.select([terminal], [], [], max(0.0, end - time.monotonic()))[0], seen
        seen += os.read(terminal, 4096).decode()
    return seen


def _echoes(terminal: int) -> bool:
    return bool(termios.tcgetattr(terminal)[3] & termios.ECHO)


def test_keys_typed_meanwhile_are_not_shown_and_are_the_next_line() -> None:
    with _terminal("time.sleep(1)") as (_, terminal):
        _read_until(terminal, "drawing")
        os.write(terminal, b"next\n")
        meanwhile, _, heard = _read_until(terminal, "heard 'next'").partition("drawn")
        assert "next" not in meanwhile
        assert heard.count("next") == 1


def test_a_terminal_that_is_left_alone_would_show_them() -> None:
    with _terminal("pass\n    print('drawing again'); time.sleep(1)") as (_, terminal):
        _read_until(terminal, "again")
        os.write(terminal, b"next\n")
        assert "next" in _read_until(terminal, "drawn")


ENDS: dict[str, tuple[str, Callable[[int, int], object]]] = {
    "an error": ("time.sleep(0.3); 1 / 0", lambda pid, terminal: None),
    "Ctrl+C": ("time.sleep(60)", lambda pid, terminal: os.write(terminal, b"\x03")),
}


@pytest.mark.parametrize("end", ENDS)
def test_keys_are_shown_again_however_the_answer_ends(end: str) -> None:
    during, ended = ENDS[end]
    with _terminal(during) as (pid, terminal):
        _read_until(terminal, "drawing")
        assert not _echoes(terminal)
        ended(pid, terminal)
        _read_until(terminal, "drawn")
        assert _echoes(terminal)


def test_keys_are_shown_again_after_sigterm_and_its_exit_code_stays() -> None:
    with _terminal("time.sleep(60)") as (pid, terminal):
        _read_until(terminal, "drawing")
        inner = os.dup(terminal)
        os.kill(pid, signal.SIGTERM)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 128 + signal.SIGTERM
        assert _echoes(inner)
        os.close(inner)
