"""Following a run: a live display in a terminal, one line per report elsewhere, JSON lines for programs.

It only reads the run folder. Ctrl+C ends the viewer or, asked for, the run; SIGTERM and SIGHUP end the viewer; the run
itself belongs to its supervisor. Where a new worker repeats updates, so does what is shown, from the last checkpoint.
"""

import contextlib
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from localtune import pace
from localtune.cli.growing import Growing
from localtune.cli.show import speed, step_line
from localtune.errors import Problem, safe
from localtune.events import Event, Failed, Step, Warn, to_json
from localtune.runs.folder import ALIVE, Run, Status
from localtune.sizes import readable
from localtune.words import duration, event_lines

POLL = 0.2
"""Seconds between two looks at the folder."""


class Shown(Protocol):
    """One way to show a run."""

    def show(self, event: Event) -> None:
        """Show `event`, if it is due."""
        ...

    def close(self) -> None:
        """Give back what was taken."""
        ...


@dataclass
class Pace:
    """How long it will take, from the last updates."""

    recent: deque[float] = field(default_factory=lambda: deque(maxlen=pace.RECENT))

    def remaining(self, step: Step) -> float | None:
        """Seconds to the end; None for the first ten updates."""
        self.recent.append(step.seconds)
        return pace.remaining(tuple(self.recent), step.steps - step.step)


@dataclass
class Reports:
    """Lines for a stream without a terminal: an update now and then, everything else at once."""

    every: float = 5.0
    """Seconds between two lines of updates, at least."""
    pace: Pace = field(default_factory=Pace)
    last: float = 0.0

    def show(self, event: Event) -> None:
        """Print `event` on stderr if it is due."""
        if isinstance(event, Step):
            remaining = self.pace.remaining(event)
            if time.monotonic() - self.last < self.every and event.applied and event.step != event.steps:
                return
            self.last = time.monotonic()
            click.echo(step_line(event, remaining), err=True)
        for line in event_lines(event):
            click.echo(line, err=True)

    def close(self) -> None:
        """Nothing is kept open."""


class Live:
    """A bar at the bottom of a terminal, and the lines of everything else above it."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False)
        columns = (TextColumn("step {task.fields[at]}"), BarColumn(), TextColumn("{task.fields[numbers]}"))
        self.progress = Progress(*columns, console=self.console, transient=True)
        self.pace = Pace()
        self.task: TaskID | None = None

    def show(self, event: Event) -> None:
        """Move the bar, or print above it."""
        if isinstance(event, Step):
            self._move(event)
        for line in event_lines(event):
            self.console.print(line, markup=False, soft_wrap=True)

    def close(self) -> None:
        """Give the terminal back."""
        self.progress.stop()

    def _move(self, step: Step) -> None:
        remaining = self.pace.remaining(step)
        eta = f"  eta {duration(remaining)}" if remaining is not None else ""
        if self.task is None:
            self.progress.start()
            self.task = self.progress.add_task("", total=step.steps, at="", numbers="")
        numbers = f"loss {step.loss:.3f}  {speed(step):,.0f} tok/s  {readable(step.peak_bytes)}{eta}"
        self.progress.update(self.task, completed=step.step, at=f"{step.step}/{step.steps}", numbers=numbers)


class Lines:
    """Every event as JSON on stdout."""

    def show(self, event: Event) -> None:
        """Print `event`."""
        click.echo(to_json(event, ascii_only=True))

    def close(self) -> None:
        """Nothing is kept open."""


class Viewer:
    """Shows a run from byte `offset` of its events; interrupted, it can go on where it was."""

    def __init__(self, run: Run, shown: Shown, offset: int = 0) -> None:
        self.run, self.shown = run, shown
        self._events = Growing(run.events, offset)
        self._last: Event | None = None
        self._waits = ""

    def to_the_end(self) -> Status:
        """Show the run until it ends; returns its last status."""
        try:
            status = self._watch()
        finally:
            with contextlib.suppress(OSError):  # nothing can be written where the terminal is gone
                self.shown.close()
        if status.state == "crashed" and not isinstance(self._last, Failed):
            click.echo(str(crashed(self.run, status)), err=True)
        return status

    def _watch(self) -> Status:
        while True:
            status = self.run.status()
            for event in self._events.fresh():
                self._last = event
                self.shown.show(event)
            self._say_why_it_waits(status)
            if status.state not in ALIVE:
                again = self.run.status()  # it may have ended properly just after its process was looked for
                if again == status:
                    return status
                continue
            time.sleep(POLL)

    def _say_why_it_waits(self, status: Status) -> None:
        """Once for each pause: on a full disk there may be no room for the event that says so."""
        why = safe(status.detail) if status.state == "paused" else ""
        recorded = isinstance(self._last, Warn) and self._last.code == "run.paused"
        if why and why != self._waits and not recorded:
            click.echo(f"paused: {why}; it goes on by itself, or ends by  localtune stop {self.run.name}", err=True)
        self._waits = why


def viewer(run: Run, *, as_json: bool, offset: int = 0) -> Viewer:
    """The viewer that suits where the output goes."""
    return Viewer(run, Lines() if as_json else Live() if sys.stderr.isatty() else Reports(), offset)


def crashed(run: Run, status: Status) -> Problem:
    """What is said of a run whose process is gone."""
    return Problem("run.crashed", status.detail, where=run.name, fix=f"localtune run --resume {run.name}")


def exit_code(status: Status) -> int:
    """What the command that followed a run ends with."""
    if status.exit_code is not None and status.exit_code >= 0:
        return status.exit_code
    return 1


def ask_on_interrupt(run: Run) -> bool:
    """After Ctrl+C: True when the run was asked to save and stop, False when it goes on without a viewer."""
    if sys.stdin.isatty():
        question = "\nstop and save (s), or leave it running (l)?"
        try:
            answer = click.prompt(question, type=click.Choice(["s", "l"]), default="s", err=True)
        except click.Abort:
            answer = "l"
        if answer == "l":
            click.echo(f"\nit goes on; localtune tail {run.name}", err=True)
            return False
    run.request("stop")
    click.echo("saving a checkpoint …", err=True)
    return True
