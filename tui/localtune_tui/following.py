"""Follows a run by its folder: each look reads only what was written since, and makes a new `RunView`.

It survives whatever becomes of the folder: a torn last line waits until it is whole, a foreign one is counted, a file
that was cut back (every new worker does that) is read again, a folder that is gone is a state. 100,000 events take
under a second. For threads: one at a time may poll, any may read `view`.
"""

import json
import math
import statistics
from array import array
from collections import deque
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from localtune import pace
from localtune.errors import LocaltuneError
from localtune.events import FORMAT, Evaluation, Event, Phase, Step, Unknown, from_json
from localtune.runs.folder import Run, Status
from localtune.worked import Worked
from localtune_tui.curves import Smoother
from localtune_tui.json_tail import Tail
from localtune_tui.run_view import Moment, Pace, RunView

MOMENTS, KEPT, REFUSED = 500, 1000, 100
"""How many are kept: of all that happened, of each kind but updates, of refused updates."""


class Follower:
    """Reads the folder of one run again and again."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.view = RunView(run.name)
        self._tail = Tail(run.events)
        self._seen = _Seen()

    def poll(self) -> list[Event]:
        """Look once: renews `view` and returns what happened since, but for updates, which only the view has."""
        if not self.run.folder.is_dir():
            self.view = replace(self.view, state="gone", detail="", trouble="")
            return []
        status, trouble = self._status()
        before, fresh = self.view, list[Event]()
        try:
            if self._tail.was_replaced():
                self._tail, self._seen = Tail(self.run.events), _Seen()
                before = RunView(before.name, before.state, before.detail)  # its curves may be as long as the new ones
            for values in self._tail.read():
                fresh += self._seen.take(values)
        except OSError as error:
            trouble = trouble or f"events.jsonl cannot be read: {error.strerror or error}"
        made = self._seen.view(self.run.name, before, status, trouble or self._tail.trouble(status))
        if not fresh and len(made.moments) == len(before.moments):
            made = replace(made, moments=before.moments)  # the very same: nothing to paint again
        self.view = replace(made, requests=self._requests())
        return fresh

    def _requests(self) -> frozenset[str]:
        try:
            return frozenset(self.run.requests())
        except OSError:
            return frozenset()

    def _status(self) -> tuple[Status | None, str]:
        try:
            return self.run.status(), ""
        except (LocaltuneError, OSError, TypeError, ValueError, AttributeError):
            return None, "status.json cannot be read; what is shown comes from the events"


@dataclass
class _Seen:
    """All that the events have said so far."""

    at: "array[float]" = field(default_factory=lambda: array("d"))
    losses: "array[float]" = field(default_factory=lambda: array("d"))
    means: "array[float]" = field(default_factory=lambda: array("d"))
    smoother: Smoother = field(default_factory=Smoother)
    last: dict[str, Any] | None = None
    left: int = 0
    """Updates to go."""
    recent: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=pace.RECENT))
    refused: deque[int] = field(default_factory=lambda: deque(maxlen=REFUSED))
    moments: deque[Moment] = field(default_factory=lambda: deque(maxlen=MOMENTS))
    kinds: dict[str, deque[Any]] = field(default_factory=dict)
    began: float = 0.0
    worked: Worked = field(default_factory=Worked)
    tokens: int = 0
    targets: int = 0
    peak: int = 0
    unknown: int = 0

    def take(self, values: list[Any]) -> list[Event]:
        """Note some values; returns the events among them that are no updates."""
        fresh = []
        for value in values:
            if not isinstance(value, dict):
                self.unknown += 1
            elif value.get("type") != "step" or value.get("format") != FORMAT:
                fresh += self._note(value)
            else:
                self._update(value)
        return fresh

    def _update(self, value: dict[str, Any]) -> None:
        try:
            loss, at, steps = float(value["loss"]), int(value["step"]), int(value["steps"])
            tokens, targets, peak = int(value["tokens"]), int(value["targets"]), int(value["peak_bytes"])
            when, seconds = float(value["time"]), float(value["seconds"])
        except (KeyError, TypeError, ValueError, OverflowError):
            self.unknown += 1
            return
        self.at.append(at)
        self.losses.append(loss)
        self.means.append(self.smoother.take(loss))
        self.recent.append((seconds, tokens))
        self.last, self.left = value, steps - at
        self.tokens += tokens
        self.targets += targets
        self.peak = max(self.peak, peak)
        self._clock(when, value)
        if value.get("applied") is False:
            self.refused.append(at)

    def _note(self, value: dict[str, Any]) -> list[Event]:
        try:
            event = from_json(json.dumps(value))
            when = float(value.get("time", 0.0))
        except (TypeError, ValueError, OverflowError, RecursionError):
            self.unknown += 1
            return []
        if isinstance(event, Unknown):
            self.unknown += 1
            return []
        self._clock(when, value)
        self.moments.append(Moment(when, event))
        self.kinds.setdefault(event.kind, deque(maxlen=KEPT)).append(event)
        return [event]

    def _clock(self, when: float, value: dict[str, Any]) -> None:
        self.began = self.began or (when if math.isfinite(when) else 0.0)
        self.worked.take(value)

    def view(self, name: str, before: RunView, status: Status | None, trouble: str) -> RunView:
        """All of it as a view; a status that could not be read leaves the state as it was."""
        phase: Phase | None = self._last("phase")
        worker = status.worker if status else None
        rows: tuple[Evaluation, ...] = self._all("evaluation")
        same = len(self.at) == len(before.steps_at)
        return RunView(
            name=name,
            state=status.state if status else before.state,
            detail=status.detail if status else before.detail,
            trouble=trouble or (f"{self.unknown:,} events are not known to this version" if self.unknown else ""),
            pid=worker.pid if worker else None,
            process_began=worker.began if worker else 0.0,
            began=self.began,
            seen=self.worked.seen,
            worked=self.worked.seconds,
            phase=phase.name if phase else "",
            phase_detail=phase.detail if phase else "",
            last=self._step(),
            steps_at=before.steps_at if same else np.array(self.at),
            losses=before.losses if same else np.array(self.losses),
            smoothed=before.smoothed if same else np.array(self.means),
            tokens=self.tokens,
            targets=self.targets,
            refused=tuple(self.refused),
            evaluations=tuple(found for found in rows if found.split == "valid"),
            tests=(*(found for found in rows if found.split == "test"), *self._all("match")),
            samples=self._all("sample"),
            moments=tuple(self.moments),
            warnings=self._all("warning"),
            checkpoints=self._all("checkpoint"),
            products=self._all("product"),
            proofs=self._all("proof"),
            done=self._last("done"),
            failed=self._last("failed"),
            pace=self._pace(),
            peak_bytes=self.peak,
        )

    def _all(self, kind: str) -> tuple[Any, ...]:
        return tuple(self.kinds.get(kind, ()))

    def _last(self, kind: str) -> Any:
        return self.kinds[kind][-1] if kind in self.kinds else None

    def _step(self) -> Step | None:
        if self.last is None:
            return None
        try:
            event = from_json(json.dumps(self.last))
        except ValueError:
            return None
        return event if isinstance(event, Step) else None

    def _pace(self) -> Pace:
        if not self.recent:
            return Pace()
        count = pace.recent([each for each, _ in self.recent])
        now = list(self.recent)[-count:]
        seconds = [each for each, _ in now]
        total, mean = sum(seconds), statistics.fmean(seconds)
        speed = sum(tokens for _, tokens in now) / total if total > 0 else 0.0
        left = pace.remaining(seconds, self.left) if self.left >= 0 else None
        if left is None:
            return Pace(mean, speed)
        spread = 2 * statistics.stdev(seconds) * math.sqrt(self.left + self.left**2 / count)
        return Pace(mean, speed, left, spread)
