"""How quick and how small the app is, at a terminal of its own; each number beside its target.

    python tests/bench/tui.py [start] [live] [new] [events] [runs]     (a minute or two; all of them without a name)

The app is `localtune` as a user starts it, at a pseudo terminal of 100 columns and 30 rows, in an empty home; what it
paints is read as text, without colours. Times are from before the process is started, or before a key is written,
until the text that only this can bring has been read.

start: to the first text; one start goes before, so that files are in the system's cache. live: `a` to the title that
it changes, on a run that is written to 20 times a second; the same run goes on beside new. new: Up and Down to the
sentence on the line they go to; Left and Right on a choice to its new value, with pauses of 0.1 to 1 s, so that plans
are asked for and dropped; letters into a name. events: Enter on a run of 100,000 events to its last step. runs: a start
over 10,000 runs to their count, then Page Down. Memory is the largest resident size of the app's process at the end of
a part, shared pages included.
"""

import contextlib
import fcntl
import itertools
import os
import pty
import random
import re
import select
import statistics
import struct
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil

from tests.tui.recorded_run import many_runs, recorded_run, step_line

ROOT = Path(__file__).parents[2]
QUICKSTART = ROOT / "recipes/quickstart"
KEYS = int(os.environ.get("BENCH_KEYS", "60"))
STARTS = int(os.environ.get("BENCH_STARTS", "9"))
EVENTS, RUNS, A_SECOND = 100_000, 10_000, 20
_CONTROL = re.compile(rb"\x1b\[[0-9;:?<>=]*[ -/]*[@-~]|\x1b[\]P_][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b.")
UP, DOWN, RIGHT, LEFT, PAGE_DOWN = "\x1b[A", "\x1b[B", "\x1b[C", "\x1b[D", "\x1b[6~"


class Terminal:
    """`localtune` at a terminal."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.painted = ""
        self._child, self._descriptor = pty.fork()
        if self._child == 0:
            os.chdir(QUICKSTART)
            os.execv(sys.executable, [sys.executable, "-P", "-m", "localtune"])
        fcntl.ioctl(self._descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))

    def press(self, key: str, text: str, seconds: float = 30.0) -> float:
        """Write `key`; seconds until `text` has been painted since."""
        self.painted, began = "", time.perf_counter()
        os.write(self._descriptor, key.encode())
        return self.until(text, seconds) - began

    def until(self, text: str, seconds: float = 30.0) -> float:
        """Read until `text` has been painted; when that was."""
        end = time.perf_counter() + seconds
        while text not in self.painted:
            if time.perf_counter() > end:
                raise TimeoutError(f"{text!r} was not painted: {self.painted[-3000:]!r}")
            self._take(0.02)
        return time.perf_counter()

    def read(self, seconds: float) -> None:
        """Take what is painted within `seconds`."""
        end = time.perf_counter() + seconds
        while (left := end - time.perf_counter()) > 0:
            self._take(left)

    def _take(self, seconds: float) -> None:
        if select.select([self._descriptor], [], [], seconds)[0]:
            self.painted += _CONTROL.sub(b"", os.read(self._descriptor, 1 << 20)).decode("utf-8", "replace")

    def end(self) -> int:
        """Leave the app; the resident size it had."""
        size = int(psutil.Process(self._child).memory_info().rss)
        os.write(self._descriptor, b"\x11")
        with contextlib.suppress(OSError):
            while os.read(self._descriptor, 1 << 16):
                pass
        os.waitpid(self._child, 0)
        os.close(self._descriptor)
        return size


@contextlib.contextmanager
def home() -> Iterator[None]:
    """An empty home, with no runs and no state."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"HOME": folder, "LOCALTUNE_RUNS": f"{folder}/runs", "LOCALTUNE_STATE": f"{folder}/state"}
        os.environ |= {"HF_HUB_OFFLINE": "1", "TERM": "xterm-256color", "COLORTERM": "truecolor", "LANG": "C.UTF-8"}
        yield


@contextlib.contextmanager
def training() -> Iterator[None]:
    """A run that this process writes an update of 20 times a second."""
    run, over = recorded_run(steps=40, state="running"), threading.Event()

    def write() -> None:
        with run.events.open("a", buffering=1) as file:
            for step in itertools.count(41):
                if over.wait(1 / A_SECOND):
                    return
                file.write(step_line(step, EVENTS, loss=2 + random.random()) + "\n")

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def start() -> int:
    """First text."""
    times, size = [], 0
    for _ in range(STARTS + 1):
        terminal = Terminal()
        times.append(terminal.until("localtune") - terminal.began)
        terminal.until("^p")
        size = max(size, terminal.end())
    told("first paint, median", statistics.median(times[1:]), 0.6)
    return size


def live() -> int:
    """A key on Live."""
    with training():
        terminal = Terminal()
        terminal.until("tok/s")
        times = []
        for said in ["loss  log", "loss  last"] * (KEYS // 2):
            terminal.read(random.uniform(0.1, 0.5))
            times.append(terminal.press("a", said))
        told_keys("on Live", times)
        return terminal.end()


def new() -> int:
    """A key on New."""
    with training():
        terminal = Terminal()
        terminal.until("tok/s")
        terminal.press("2", "choose a data file")
        terminal.press("o", "Which recipe?")
        terminal.press("quickstart", "quickstart: ")
        terminal.read(1.0)
        terminal.press("\r", "steps =", 120)
        _to(terminal, "train.learn")
        times = []
        for key, said in [(UP, "as the recipe says"), (DOWN, "train.learn")] * (KEYS // 2):
            terminal.read(random.uniform(0.1, 0.5))
            times.append(terminal.press(key, said))
        told_keys("on New, a move", times)
        times = []
        for key, said in [(RIGHT, "(•) all"), (LEFT, "(•) answers")] * (KEYS // 2):
            terminal.read(random.uniform(0.1, 1.0))
            times.append(terminal.press(key, said))
        told_keys("on New, a choice", times)
        _to(terminal, "(name;", UP)
        terminal.press("\r", "Name")
        times, typed = [], ""
        for letter in "abcdefghijklmnopqrstuvwxyz":
            terminal.read(random.uniform(0.1, 1.0))
            typed += letter
            times.append(terminal.press(letter, typed))
        told_keys("on New, a letter", times)
        terminal.press("\x1b", "Name")
        return terminal.end()


def events() -> int:
    """A long run is opened."""
    run = recorded_run(steps=2)
    with run.events.open("a") as file:
        file.writelines(step_line(step, EVENTS, loss=2 + random.random()) + "\n" for step in range(3, EVENTS + 1))
    terminal = Terminal()
    terminal.until("1 of 1")
    terminal.read(2.0)
    told(f"a run of {EVENTS:,} events is opened", terminal.press("\r", f"step {EVENTS:,}/{EVENTS:,}"), 1.0)
    return terminal.end()


def runs() -> int:
    """A long list."""
    many_runs(RUNS)
    terminal = Terminal()
    told(f"{RUNS:,} runs are listed, from the start", terminal.until(f"{RUNS:,} of {RUNS:,}") - terminal.began, 1.5)
    terminal.read(3.0)
    times = []
    for _ in range(KEYS):
        terminal.read(random.uniform(0.1, 0.3))
        times.append(terminal.press(PAGE_DOWN, "bot-"))
    told_keys(f"among {RUNS:,} runs", times)
    return terminal.end()


PARTS: dict[str, Callable[[], int]] = {"start": start, "live": live, "new": new, "events": events, "runs": runs}


def _to(terminal: Terminal, text: str, key: str = DOWN) -> None:
    """Move the focus until `text` stands in the line that says what it is on."""
    for _ in range(12):
        terminal.read(0.3)
        with contextlib.suppress(TimeoutError):
            terminal.press(key, text, 1.0)
            return
    raise TimeoutError(f"no line says {text!r}")


def told_keys(where: str, times: Sequence[float]) -> None:
    """A line on keys: what all but five in a hundred stay below, and the median."""
    told(f"key to paint {where}, p95", statistics.quantiles(times, n=20)[-1], 0.1, statistics.median(times))


def told(what: str, seconds: float, target: float, median: float | None = None) -> None:
    """A line."""
    verdict = "ok" if seconds <= target else "SLOWER"
    more = "" if median is None else f"   median {median * 1000:,.0f} ms"
    print(f"{what:<48} {seconds * 1000:>7,.0f} ms   target {target * 1000:>6,.0f} ms   {verdict}{more}", flush=True)


def main() -> None:
    """The parts that were named."""
    largest = 0
    for name in sys.argv[1:] or PARTS:
        with home():
            largest = max(largest, PARTS[name]())
    verdict = "ok" if largest <= 250e6 else "LARGER"
    print(f"{'memory, at most':<48} {largest / 1e6:>7,.0f} MB   target    250 MB   {verdict}")


if __name__ == "__main__":
    main()
