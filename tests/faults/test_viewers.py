"""Who watches a run, at a terminal that is taken away or told to end: the terminal is as it was, the run goes on."""

import os
import random
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil
import pytest

from localtune.runs.folder import Run
from tests.command import MODEL, QUICKSTART, end_runs, short, wait_until
from tests.goals import FULL, Reached, times
from tests.tui.recorded_run import recorded_run

if sys.platform == "win32":
    pytest.skip("has no pseudo terminals", allow_module_level=True)
from tests.tui.at_terminal import Child, start

SIGNALS = (signal.SIGTERM, signal.SIGHUP)
AT_THE_END = 10.0
"""Seconds that a viewer has to end."""


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs, state and home of this test alone."""
    for name in ("HOME", "LOCALTUNE_RUNS", "LOCALTUNE_STATE"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@dataclass
class Tally:
    """How commands ended that were told to."""

    ends: int = 0
    slowest: float = 0.0
    wrong: list[str] = field(default_factory=list)

    def take(self, child: Child, number: int, what: str) -> None:
        """Send the signal, and look at what is left of the terminal."""
        os.kill(child.pid, number)
        began = time.perf_counter()
        code = child.end()
        took = time.perf_counter() - began
        self.ends, self.slowest = self.ends + 1, max(self.slowest, took)
        # before the command heeds signals the system ends it, which a shell reports with the same code; 0: it was done
        kept = [f"code {code}"] if code not in (128 + number, -number, 0) else []
        kept += ["slow"] if took > AT_THE_END else []
        kept += child.kept()
        os.close(child.terminal)
        if kept:
            self.wrong.append(f"{what}: {', '.join(kept)}")

    @property
    def figure(self) -> str:
        """For the table of promises."""
        return f"{self.ends - len(self.wrong)}/{self.ends} gave the terminal back, slowest {self.slowest:.1f} s"


def _running(steps: int = 40) -> Run:
    """A recorded run that this process seems to train."""
    run = recorded_run(steps=steps, state="running")
    run.write_status(replace(run.status(), heartbeat=4e9))
    return run


def _signalled(count: int, seed: str, begin: Callable[[], Child], longest: float, keys: Sequence[str] = ()) -> Tally:
    """Start it `count` times; a signal comes at a random moment within `longest` seconds, after a key or none."""
    chance, tally = random.Random(seed), Tally()
    for place in range(count):
        child, number, at = begin(), SIGNALS[place % 2], chance.uniform(0.0, longest)
        if keys and place % 3:
            child.read_for(at / 2)
            os.write(child.terminal, chance.choice(keys).encode())
            at /= 2
        child.read_for(at)
        tally.take(child, number, f"{seed} at {at:.2f} s")
    return tally


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_viewer_that_is_told_to_end_shows_the_cursor_again_and_the_run_goes_on(number: signal.Signals) -> None:
    run = _running()
    child, tally = start("tail"), Tally()
    child.until(b"40/60")
    assert child.modes()[b"25"] is False
    tally.take(child, number, "tail")
    assert tally.wrong == []
    assert run.status().state == "running"
    assert run.requests() == set()
    if number == signal.SIGTERM:
        second = start("tail")
        second.until(b"40/60")
        tally.take(second, number, "a second viewer")
        assert tally.wrong == []


def test_a_viewer_whose_terminal_is_gone_ends_with_129() -> None:
    _running()
    child = start("tail")
    child.until(b"40/60")
    os.close(child.terminal)  # the system sends SIGHUP
    assert os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1]) == 129


def test_a_viewer_that_does_not_heed_signals_is_caught() -> None:
    _running()
    careless = "import signal; signal.signal = lambda number, handler: None; from localtune.cli import main; main()"
    child = start("tail", command=(sys.executable, "-c", careless))
    child.until(b"40/60")
    tally = Tally()
    tally.take(child, signal.SIGTERM, "tail")
    assert tally.wrong == ["tail: mode 25"]


def test_the_app_ends_at_any_moment_with_its_terminal_given_back(goal: Reached) -> None:
    """Also while it opens a screen, which then has not all of its parts."""
    run = _running()
    tally = _signalled(times(3, 60), "app", start, 1.2, keys=("1", "2", "3", "4", "6", "?"))
    goal("signals", f"app: {tally.figure}")
    assert tally.wrong == []
    assert run.status().state == "running"


@pytest.mark.skipif(not FULL, reason="only in the full form")
def test_a_second_app_only_watches() -> None:
    _running()
    first = start()
    first.until(b"6 System")
    second = start()
    second.until(f"another localtune (process {first.pid}) steers".encode())
    tally = Tally()
    for child in (first, second):
        tally.take(child, signal.SIGTERM, "app")
    assert tally.wrong == []


@pytest.mark.skipif(not FULL, reason="only in the full form")
def test_viewers_end_at_any_moment_with_their_terminal_given_back(goal: Reached) -> None:
    run = _running()
    tally = _signalled(40, "tail", lambda: start("tail"), 1.2)
    goal("signals", f"tail: {tally.figure}")
    assert tally.wrong == []
    assert run.status().state == "running"


@pytest.mark.skipif(not FULL, reason="only in the full form")
def test_checking_data_ends_at_any_moment_with_its_terminal_given_back(goal: Reached) -> None:
    rows = str(QUICKSTART / "train.jsonl")
    tally = _signalled(20, "data check", lambda: start("data", "check", rows, "-m", str(MODEL)), 2.0)
    goal("signals", f"data check: {tally.figure}")
    assert tally.wrong == []


@pytest.mark.skipif(not FULL, reason="only in the full form")
def test_a_conversation_ends_at_any_moment_with_its_terminal_given_back(goal: Reached) -> None:
    def begin() -> Child:
        return start("chat", str(MODEL), OMP_NUM_THREADS="1")

    tally = _signalled(14, "chat", begin, 8.0)
    for number in (*SIGNALS, *SIGNALS, *SIGNALS):
        child = begin()
        child.until(b"> ")
        tally.take(child, number, "chat at its prompt")
    goal("signals", f"chat: {tally.figure}")
    assert tally.wrong == []


@pytest.mark.skipif(not FULL, reason="only in the full form")
def test_a_run_goes_on_when_its_viewer_ends_at_any_moment(goal: Reached, tmp_path: Path) -> None:
    arguments = short(tmp_path / "data", steps=400)
    chance, tally, went_on = random.Random("run"), Tally(), 0
    for place in range(20):
        child = start("run", *arguments, "--name", f"bot{place}", "--backend", "torch", OMP_NUM_THREADS="1")
        if place % 4:
            child.until(b"/400", 120)
            child.read_for(chance.uniform(0.0, 1.0))
        else:
            child.read_for(chance.uniform(0.0, 6.0))
        tally.take(child, SIGNALS[place % 2], f"run {place}")
        for run in map(Run, (tmp_path / "LOCALTUNE_RUNS").glob(f"bot{place}-*[0-9]")):
            if place % 4:
                _goes_on(run)
                went_on += 1
            _end(run)
    end_runs(tmp_path / "LOCALTUNE_RUNS")  # one that a cut start left to itself
    goal("signals", f"run: {tally.figure}; {went_on}/15 went on, seen by a second viewer")
    assert tally.wrong == []
    assert went_on == 15


def _goes_on(run: Run) -> None:
    """It comes to another update, and a second viewer sees it."""
    before = run.status().step
    second = start("tail", run.name)
    second.until(b"/400", 120)
    wait_until(lambda: run.status().step > before or run.status().state == "done")
    tally = Tally()
    tally.take(second, signal.SIGTERM, "a second viewer")
    assert tally.wrong == []


def _end(run: Run) -> None:
    """Kill what trains it."""
    status = run.status() if run.status_file.exists() else None
    for process in (status.supervisor, status.worker) if status else ():
        if process is not None and process.alive:
            psutil.Process(process.pid).kill()
