"""What can be healed, and how often it is tried: rules of the supervisor, without its processes. Seconds and bytes."""

import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import psutil

from localtune.ending import Ending
from localtune.errors import LocaltuneError
from localtune.job import read_plan
from localtune.runs import checkpoints
from localtune.runs.files import folder_size
from localtune.runs.folder import RESERVE, Run

TRIES = 3
"""Workers that may be started again without getting further than the one before."""
WAITS = (0.0, 2.0, 10.0)
"""Before each of them: a driver that was reset needs a moment."""
RETRIED = ("disk", "device", "crash")
"""Kinds of endings after which the same may be tried again."""
IDLE_CPU = 1.0
"""Seconds of processor time below which a process counts as idle over its whole patience."""
LOOK = 30.0
"""Between two looks at its processor time; a machine that slept meanwhile has not waited longer."""
PATIENCE = 600.0
"""How long a worker may record nothing and compute nothing."""


@dataclass
class Healing:
    """Counts the tries in which a run got no further."""

    tries: int = 0
    furthest: int = -1
    """Updates that were reached so far."""

    def may(self, ending: Ending, step: int) -> bool:
        """Whether the run, which reached update `step`, may be tried again after `ending`."""
        if ending.kind not in RETRIED:
            return False
        self.tries = self.tries + 1 if step <= self.furthest else 1
        self.furthest = max(self.furthest, step)
        return self.tries <= TRIES

    @property
    def wait(self) -> float:
        """Before the try that comes now."""
        return WAITS[min(self.tries, len(WAITS)) - 1]


def disk_needed(run: Run) -> int:
    """Bytes that must be free for a run to go on: what its plan says less what it has, one checkpoint at least."""
    saved = checkpoints.steps(run)
    newest = folder_size(checkpoints.path_of(run, saved[-1])) if saved else 0
    planned = 0
    with suppress(LocaltuneError, OSError):
        planned = read_plan(run).disk - folder_size(run.folder)
    return max(planned, newest, 0) + 2 * RESERVE


def _cpu_seconds(pid: int) -> float:
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_STOPPED:
            return math.nan  # somebody halted it on purpose
        return sum(sum(each.cpu_times()[:2]) for each in [process, *process.children(recursive=True)])
    except psutil.Error:
        return math.nan


@dataclass
class Pulse:
    """Notices a worker that does nothing: no event and no processor time for `patience` seconds."""

    pid: int
    patience: float = PATIENCE
    clock: Callable[[], float] = time.monotonic
    cpu_seconds: Callable[[int], float] = _cpu_seconds
    _looked: float = -math.inf
    _events: int = -1
    _cpu: float = math.nan
    _idle: float = 0.0
    """Seconds since it was last seen to do something."""

    def stuck(self, events: int) -> bool:
        """Whether it is stuck now that it has recorded `events` bytes; a look counts for `LOOK` seconds at most."""
        passed = self.clock() - self._looked
        if passed < LOOK:
            return False
        cpu, self._looked = self.cpu_seconds(self.pid), self.clock()
        if events == self._events and 0 <= cpu - self._cpu < IDLE_CPU:  # false where either is not a number
            self._idle += LOOK
        else:
            self._idle, self._events, self._cpu = 0.0, events, cpu
        return self._idle >= self.patience
