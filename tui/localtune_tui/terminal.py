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
from types import FrameType

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


def leave_on_signals(leave: Callable[[int], None]) -> Callable[[], None]:
    """Call `leave` in the running event loop with 128 + the number of SIGTERM or SIGHUP; what is returned ends that.

    What is written to a terminal that is gone may wait for ever, the event loop with it: so the process ends within
    seconds in any case, and is not continued into a terminal that it has lost.
    """
    if sys.platform == "win32" or threading.current_thread() is not threading.main_thread():
        return lambda: None
    loop = asyncio.get_running_loop()

    def handle(number: int, _: FrameType | None) -> None:
        if number == signal.SIGHUP:
            signal.signal(signal.SIGCONT, signal.SIG_IGN)
        limit = threading.Timer(_LEAVE_SECONDS, _end, (128 + number,))
        limit.daemon = True
        limit.start()
        loop.call_soon_threadsafe(leave, 128 + number)

    before = [(number, signal.signal(number, handle)) for number in (signal.SIGTERM, signal.SIGHUP)]

    def give_back() -> None:
        for number, handler in before:
            signal.signal(number, handler)

    return give_back


def _end(code: int) -> None:
    """The end, with the questions that are still asked; runs are not among them."""
    from localtune_tui.asking import end_all

    end_all()
    os._exit(code)
