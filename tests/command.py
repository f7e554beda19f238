"""Runs the command line as a user does, in a process of its own, on the quickstart's model."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from localtune.runs.folder import Run

ROOT = Path(__file__).parents[1]
QUICKSTART = ROOT / "recipes" / "quickstart"
MODEL = QUICKSTART / "model"


@dataclass(frozen=True)
class Result:
    """What a command said and how it ended."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """stdout as one value."""
        return json.loads(self.out)


@dataclass(frozen=True)
class Command:
    """`localtune` with its runs in a folder of the test's own."""

    runs: Path
    environment: tuple[tuple[str, str], ...] = ()

    def __call__(self, *arguments: str | Path, cwd: Path | None = None, timeout: float = 240) -> Result:
        with self.start(*arguments, cwd=cwd) as child:
            out, err = child.communicate(timeout=timeout)
        return Result(child.returncode, out, err)

    def start(self, *arguments: str | Path, cwd: Path | None = None) -> "subprocess.Popen[str]":
        """The command as a process that has only begun."""
        environment = os.environ | {"LOCALTUNE_RUNS": str(self.runs), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        with _signals_as_in_a_terminal():
            return self._popen(arguments, cwd, environment)

    def _popen(
        self, arguments: Sequence[str | Path], cwd: Path | None, environment: dict[str, str]
    ) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "localtune", *map(str, arguments)],
            cwd=cwd or self.runs.parent,
            env=environment | dict(self.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )


@contextmanager
def _signals_as_in_a_terminal() -> Iterator[None]:
    """What is started here heeds SIGINT and SIGHUP, also where the tests themselves run in the background or nohup."""
    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGHUP") if hasattr(signal, name)]
    before = [signal.signal(number, signal.SIG_DFL) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def end_runs(folder: Path) -> None:
    """End whatever a failed test left running."""
    for path in folder.glob("*/status.json"):
        status = Run(path.parent).status()
        for process in (status.supervisor, status.worker):
            if process is not None and process.alive:
                psutil.Process(process.pid).kill()


def short(folder: Path, *, steps: int = 8) -> Sequence[str]:
    """Arguments of a run that takes seconds: few rows, few updates, a checkpoint every third."""
    rows = (QUICKSTART / "train.jsonl").read_text(encoding="utf-8").splitlines()
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "rows.jsonl"
    data.write_text("\n".join(rows[:40]) + "\n", encoding="utf-8")
    changes = {
        "data.max_tokens": 256,
        "train.steps": steps,
        "train.batch_size": 4,
        "train.precision": "float32",
        "train.learning_rate": 1e-3,
        "watch.save_every": 3,
        "watch.eval_every": 4,
        "lora.dropout": 0.1,
    }
    flags = [f"--set={key}={value}" for key, value in changes.items()]
    return [str(data), "-m", str(MODEL), *flags]


def returned(generator: Any) -> Any:
    """What a generator returns, once it has yielded everything."""
    while True:
        try:
            next(generator)
        except StopIteration as stop:
            return stop.value


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Look until `condition` holds; an `AssertionError` after `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.01)
