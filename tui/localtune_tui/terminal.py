"""Manners: how often this terminal is painted, which signs it has, how text gets onto its clipboard, how it is left.

A terminal at the other end of a connection, or inside tmux or screen, is painted twice a second, one on this machine
four times. SIGTERM and SIGHUP end the app as `quit` does, so that the terminal is as it was; runs are processes of
their own and go on.
"""

import asyncio
import contextlib
import locale
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping

LOCAL_RATE, REMOTE_RATE = 0.25, 0.5
"""Seconds between two paintings of what changes."""
_TMUX_SECONDS = 2.0
_LEAVE_SECONDS = 5.0


def refresh_rate(environ: Mapping[str, str]) -> float:
    """Seconds between two paintings in this terminal."""
    far = any(environ.get(name) for name in ("SSH_CONNECTION", "SSH_TTY", "TMUX", "STY"))
    return REMOTE_RATE if far else LOCAL_RATE


def only_ascii(environ: Mapping[str, str]) -> bool:
    """Whether charts and bars are drawn of ASCII: the console of Linux, or a locale that is not UTF-8."""
    if environ.get("TERM") == "linux":
        return True
    named = next((environ[name] for name in ("LC_ALL", "LC_CTYPE", "LANG") if environ.get(name)), "")
    if not named:
        return sys.platform not in ("darwin", "win32") and "utf" not in locale.getencoding().lower()
    return "utf" not in named.lower()


def to_tmux(text: str) -> None:
    """Give `text` to tmux, which ignores what applications send to the clipboard unless told otherwise. Blocks."""
    program = shutil.which("tmux") if os.environ.get("TMUX") else None
    if program is None:
        return
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(
            [program, "load-buffer", "-w", "-"],
            input=text.encode("utf-8"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_TMUX_SECONDS,
        )


def leave_on_signals(leave: Callable[[int], None]) -> None:
    """Call `leave` with 128 + the signal's number on SIGTERM and SIGHUP; to be called in the running event loop."""
    if sys.platform == "win32":
        return
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGHUP):
        with contextlib.suppress(ValueError, RuntimeError):  # not in the main thread: tests
            loop.add_signal_handler(number, _leave, leave, 128 + number)


def _leave(leave: Callable[[int], None], code: int) -> None:
    """Leave, within seconds: what is written to a terminal that is gone may wait for ever."""
    limit = threading.Timer(_LEAVE_SECONDS, _end, (code,))
    limit.daemon = True
    limit.start()
    leave(code)


def _end(code: int) -> None:
    """The end, with the questions that are still asked; runs are not among them."""
    from localtune_tui.asking import end_all

    end_all()
    os._exit(code)
