"""SIGTERM and SIGHUP end a command as Ctrl+C does: everything that was opened is closed, the terminal is given back.

Without this Python ends at once: a hidden cursor stays hidden, and keys stay unseen. The exit code is 128 + the number
of the signal. A signal that was ignored when the command began, as `nohup` does it, stays ignored.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

SECONDS = 5.0
"""For closing: what is written to a terminal that is gone may wait for ever."""
NAMES = ("SIGTERM", "SIGHUP")
"""Windows has no SIGHUP."""


@contextlib.contextmanager
def leaving_on_signals() -> Iterator[None]:
    """Raise `SystemExit` in the main thread when one of the signals comes, and end within `SECONDS` in any case."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    heeded = [number for number in numbers if before[number] is not signal.SIG_IGN]

    limits: list[threading.Timer] = []

    def leave(number: int, frame: FrameType | None) -> None:
        for each in heeded:
            signal.signal(each, signal.SIG_IGN)  # a second one would cut the closing short
        limits.append(threading.Timer(SECONDS, os._exit, (128 + number,)))
        limits[0].daemon = True
        limits[0].start()
        sys.exit(128 + number)

    for number in heeded:
        signal.signal(number, leave)
    try:
        yield
    finally:
        for limit in limits:
            limit.cancel()
        for number in heeded:
            signal.signal(number, before[number])
