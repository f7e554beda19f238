"""Keys typed while an answer is drawn in place: kept for the next line, and not shown in the middle of the answer."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType


@contextlib.contextmanager
def unechoed() -> Iterator[None]:
    """The terminal shows no key until this ends, be it by an error, Ctrl+C or SIGTERM (which exits with 143).

    Changes nothing where stdin is no terminal of ours, or the system has no termios.
    """
    if sys.platform == "win32" or not _ours():
        yield
        return
    import termios

    terminal = sys.stdin.fileno()
    before, heeded = termios.tcgetattr(terminal), signal.getsignal(signal.SIGTERM)
    silent = before.copy()
    silent[3] &= ~termios.ECHO
    try:
        signal.signal(signal.SIGTERM, _exit)
        termios.tcsetattr(terminal, termios.TCSADRAIN, silent)
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
        signal.signal(signal.SIGTERM, heeded)


def _ours() -> bool:
    """Whether stdin is a terminal that this process may change: one in the background would be stopped for it."""
    if sys.platform == "win32" or not sys.stdin.isatty():
        return False
    try:
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except OSError:
        return False


def _exit(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)
