"""What a watcher knows of a run at one moment, and the one sentence of judgement on it.

A `RunView` never changes: a thread makes a new one after each look, the screen shows the last.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from localtune.events import Checkpoint, Done, Evaluation, Event, Failed, Match, Product, Proof, Sample, Step, Warn
from localtune.runs.folder import ALIVE
from localtune_tui.curves import Array, curve

State = Literal["created", "starting", "running", "paused", "done", "stopped", "failed", "crashed", "stalled", "gone"]
EMPTY = curve("", (), ()).xs
RECENTLY = 50
"""Updates for which one that was not applied is spoken of."""
TOO_FEW = 10
"""Updates before the training loss is judged by."""


@dataclass(frozen=True)
class Moment:
    """Something that happened, but for updates."""

    when: float
    """Seconds since 1970."""
    event: Event


@dataclass(frozen=True)
class Pace:
    """Speed over the last updates, as many as `localtune.pace` takes."""

    seconds: float = 0.0
    """Of an update, in the mean."""
    tokens: float = 0.0
    """Per second, without padding."""
    left: float | None = None
    """Seconds to the last update; None for the first ten updates."""
    spread: float = 0.0
    """Seconds that `left` may be off by: two standard errors, from the spread of the updates."""


@dataclass(frozen=True)
class RunView:
    """A run as it is now."""

    name: str
    state: State = "created"
    detail: str = ""
    """Why it is in that state, where its folder says."""
    trouble: str = ""
    """What of the folder cannot be read, as a sentence."""
    requests: frozenset[str] = frozenset()
    """What the run was asked for and has not answered."""
    pid: int | None = None
    """Process that trains."""
    process_began: float = 0.0
    """It did, seconds since 1970: what was recorded before is of an earlier session."""
    began: float = 0.0
    """Time of the first event, seconds since 1970; 0 = none yet."""
    seen: float = 0.0
    """Time of the last event."""
    worked: float = 0.0
    """Seconds that its sessions took, up to the last event."""
    phase: str = ""
    phase_detail: str = ""
    last: Step | None = None
    """The newest update."""
    steps_at: Array = field(default_factory=lambda: EMPTY)
    """Updates whose losses are known."""
    losses: Array = field(default_factory=lambda: EMPTY)
    smoothed: Array = field(default_factory=lambda: EMPTY)
    tokens: int = 0
    """Seen so far, without padding."""
    targets: int = 0
    refused: tuple[int, ...] = ()
    """Updates that were not applied: their loss or gradient was not finite. The last 100 of them."""
    evaluations: tuple[Evaluation, ...] = ()
    """On the validation rows, in order."""
    tests: tuple[Evaluation | Match, ...] = ()
    """On the test rows."""
    samples: tuple[Sample, ...] = ()
    """In order."""
    moments: tuple[Moment, ...] = ()
    """The last 500, in order."""
    warnings: tuple[Warn, ...] = ()
    checkpoints: tuple[Checkpoint, ...] = ()
    products: tuple[Product, ...] = ()
    proofs: tuple[Proof, ...] = ()
    done: Done | None = None
    failed: Failed | None = None
    pace: Pace = Pace()
    peak_bytes: int = 0

    @property
    def alive(self) -> bool:
        """Whether somebody works on it, or goes on with it by itself."""
        return self.state in ALIVE

    @property
    def works(self) -> bool:
        """Whether a process trains: not while it is paused."""
        return self.alive and self.state != "paused"

    @property
    def step(self) -> int:
        """Updates done."""
        return self.last.step if self.last else 0

    @property
    def steps(self) -> int:
        """Updates in all, as far as an update has said so."""
        return self.last.steps if self.last else 0

    @property
    def best(self) -> Evaluation | None:
        """The lowest validation loss."""
        finite = [found for found in self.evaluations if math.isfinite(found.loss)]
        return min(finite, key=lambda found: found.loss, default=None)

    def elapsed(self, now: float) -> float:
        """Seconds that somebody has worked on it: without what lies between a stop and a resume."""
        since = max(self.seen, self.process_began)
        return self.worked + (max(0.0, now - since) if self.works and self.began and since else 0.0)

    @property
    def gap(self) -> float | None:
        """By how much the newest validation loss is above the smoothed training loss of its own update."""
        if not self.evaluations:
            return None
        last = self.evaluations[-1]
        places = np.flatnonzero(self.steps_at == last.step)
        return last.loss - float(self.smoothed[places[-1]]) if len(places) else None

    def change(self, updates: int = 100) -> tuple[float, int] | None:
        """How the smoothed loss moved over the last `updates`, or fewer at the beginning, and over how many."""
        span = min(updates, len(self.smoothed) - 1)
        return (float(self.smoothed[-1] - self.smoothed[-1 - span]), span) if span >= 1 else None


def judgement(view: RunView) -> str:
    """One plain sentence: how it stands, and where there is something to do, what."""
    if view.state in _ENDED:
        return _ENDED[view.state].format(step=f"{view.step:,}", detail=f" ({view.detail})" if view.detail else "")
    if view.state == "failed":
        return _failure(view)
    if view.works and view.requests:
        return _asked(view)
    if view.state == "paused":
        return _waiting(view)
    refused = view.refused[-1:]
    if refused and view.step - refused[0] < RECENTLY:
        return f"loss was not finite at step {refused[0]:,}: that update was not applied{_last_saved(view)}"
    if view.state == "done":
        return f"done: {_trend(view).rpartition(_BETTER)[2]}. Next: c compares in chat, x exports"
    if view.state == "stalled":
        return f"stalled: {view.detail or 'silent for a minute'}; its process lives. s stops it"
    return _trend(view) if view.step else view.phase_detail or "waiting for the first update"


_BETTER = "improving: "
_ENDED = {
    "gone": "this run's folder is gone; 1 shows the runs that are there",
    "created": "this run was never started: r starts it",
    "crashed": "crashed{detail}: r resumes from the last checkpoint",
    "stopped": "stopped at step {step}: r goes on from there",
}


def is_good(view: RunView) -> bool | None:
    """Whether the judgement is good news, a reason to look, or neither (None)."""
    if view.state in ("failed", "crashed", "stalled", "paused", "gone"):
        return False
    if view.refused and view.step - view.refused[-1] < RECENTLY:
        return False
    rises = sum(found.step > view.best.step for found in view.evaluations) if view.best else 0
    if rises:
        return False if rises >= 2 else None
    return True if view.state == "done" or len(view.evaluations) >= 2 else None


_REQUESTS = {"stop": "save and stop", "pause": "save and pause", "save": "save a checkpoint"}


def _asked(view: RunView) -> str:
    if "stop-now" in view.requests:
        return "asked to stop now: it ends at the next update, without a new checkpoint"
    what = next((said for asked, said in _REQUESTS.items() if asked in view.requests), "do something")
    return f"asked to {what}: it does so at the next update"


def _waiting(view: RunView) -> str:
    ends = view.requests & {"stop", "stop-now"}
    return f"paused: {view.detail or 'it waits'}; {'asked to end' if ends else 'it goes on by itself. s ends it'}"


def _failure(view: RunView) -> str:
    lines = view.failed.text.splitlines() if view.failed else []
    return f"failed: {lines[0] if lines else view.detail or 'the log says why'}"


def _last_saved(view: RunView) -> str:
    return f", last checkpoint {view.checkpoints[-1].step:,}" if view.checkpoints else ""


def _trend(view: RunView) -> str:
    """What validation says; without it, what the training loss does."""
    rows = [found for found in view.evaluations if found.step]
    best = view.best
    if best is None or not rows:
        return _training_trend(view)
    falls, rises = _streak(view.evaluations, falling=True), _streak(view.evaluations, falling=False)
    since = sum(found.step > best.step for found in view.evaluations)
    if since >= 2 and rises >= 2:
        return f"val loss has risen {rises} evals: likely overfitting; best is step {best.step:,}"
    if since >= 2:
        return f"no better val loss for {since} evals; best is step {best.step:,}"
    if since == 1:
        return f"val loss rose at the last eval; best is step {best.step:,}"
    if falls == 1:
        return f"{_BETTER}val loss fell to {best.loss:.3g} at its last eval"
    return f"still {_BETTER}val loss fell in each of the last {min(falls, 9)} evals"


def _training_trend(view: RunView) -> str:
    change = view.change()
    if change is None or change[1] < TOO_FEW:
        return "too early to say"
    word = "falls" if change[0] < 0 else "does not fall"
    return f"train loss {word} ({change[0]:+.2g} in {change[1]} steps); no validation loss to judge by yet"


def _streak(rows: Sequence[Evaluation], *, falling: bool) -> int:
    """How many evaluations in a row, up to the last, fell or rose."""
    count = 0
    for before, after in zip(rows[-2::-1], rows[:0:-1], strict=True):
        if (after.loss < before.loss) != falling:
            break
        count += 1
    return count
