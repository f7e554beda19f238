"""A run whose events are cut back, as a new worker does it, and what a viewer shows meanwhile."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from localtune.cli.follow import Viewer
from localtune.events import Checkpoint, Event, Phase, Step, Warn, to_json
from localtune.runs.folder import Run
from localtune.worked import BEGIN
from tests.tui.recorded_run import recorded_run, step_line


def run_of_ten() -> Run:
    """A run of ten updates that seems to go on, with a checkpoint of the tenth."""
    run = recorded_run(steps=0, state="running")
    run.events.write_text("", encoding="utf-8")
    write(run, Phase(BEGIN))
    updates(run, range(1, 11), 1.0)
    write(run, Checkpoint(10, "checkpoints/step-000010", 100, 0.1))
    return run


def write(run: Run, event: Event) -> None:
    """Record an event."""
    with run.events.open("a", encoding="utf-8") as file:
        file.write(to_json(event) + "\n")


def updates(run: Run, steps: Sequence[int], loss: float, *, session: int = 0) -> None:
    """Updates as a worker records them; those of another session have another time."""
    with run.events.open("a", encoding="utf-8") as file:
        for step in steps:
            file.write(step_line(step, 60, loss, time=1_799_990_000.125 + 1000 * session + step) + "\n")


def new_worker(run: Run, cut: int) -> None:
    """What a supervisor does before the next worker: cut back to the checkpoint, say why, start."""
    run.truncate_events(cut)
    write(run, Warn("run.healed.note", "memory ran out: going on after update 10 with half the rows at once"))
    write(run, Phase(BEGIN))


def steps_of(events: Sequence[Event]) -> list[int]:
    """The numbers of the updates among them."""
    return [event.step for event in events if isinstance(event, Step)]


@dataclass
class _Kept:
    """A display that only remembers."""

    events: list[Event] = field(default_factory=list)

    def show(self, event: Event) -> None:
        """Remember it."""
        self.events.append(event)

    def close(self) -> None:
        """Nothing is open."""


def watched(run: Run, acts: Sequence[Callable[[], None]], monkeypatch: pytest.MonkeyPatch) -> list[Event]:
    """What a viewer shows while `acts` are done, one between two looks."""
    left, shown = iter(acts), _Kept()
    monkeypatch.setattr("localtune.cli.follow.time.sleep", lambda seconds: next(left, lambda: None)())
    Viewer(run, shown).to_the_end()
    return shown.events
