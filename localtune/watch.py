"""What a supervisor knows of its run and says of it: status, heartbeat, notes, and whether it was asked to end."""

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from types import FrameType
from typing import Any

from localtune.ending import heed
from localtune.events import Event, Failed, Phase, Step, Warn
from localtune.runs import checkpoints
from localtune.runs.folder import Run, State, Status
from localtune.runs.process import process_id
from localtune.worked import TRAINING


@dataclass
class Watch:
    """One supervisor's view of its run."""

    run: Run
    launch: str
    offset: int = 0
    """Bytes of the events it has read."""
    failed: Failed | None = None
    """How the worker recorded its own failure."""
    stuck: bool = False
    """The present worker did nothing, and was ended for it."""
    trained: bool = False
    """The present worker has opened the model and begun to train."""
    signalled: int | None = None
    """The signal that asked this process to end."""
    notes: list[Warn] = field(default_factory=list)
    """What this process recorded: kept where events are forgotten, for they do not happen again."""
    _worker: "subprocess.Popen[bytes] | None" = None

    def __post_init__(self) -> None:
        self.status = Status("starting", launch=self.launch, supervisor=process_id())

    @property
    def step(self) -> int:
        """The last update on record."""
        return self.status.step

    @property
    def asked_to_stop(self) -> bool:
        """Whether the run is to end."""
        return self.signalled is not None or bool(self.run.requests() & {"stop", "stop-now"})

    def receive_signals(self) -> None:
        """From now on a signal asks the worker to save and stop."""
        heed(self._receive)

    def began(self, worker: "subprocess.Popen[bytes]") -> None:
        """A worker has been started."""
        self._worker, self.trained, self.stuck = worker, False, False
        self.say("running", worker=process_id(worker.pid), sessions=self.status.sessions + 1, detail="")

    def look(self) -> None:
        """Read what was recorded since the last look, and write the heartbeat."""
        for event, offset in self.run.read_events(self.offset):
            self.offset = offset
            self.trained |= isinstance(event, Phase) and event.name == TRAINING
            if isinstance(event, Step):
                self.status = replace(self.status, step=event.step, steps=event.steps)
            self.failed = event if isinstance(event, Failed) else self.failed
        self._write(durable=False)

    def say(self, state: State, *, durable: bool = True, **changes: Any) -> bool:
        """Write the status; whether the disk took it."""
        self.status = replace(self.status, state=state, **changes)
        return self._write(durable=durable)

    def note(self, code: str, text: str) -> None:
        """Record what the user should know, whatever becomes of the events around it."""
        self.notes.append(Warn(code, text))
        self.record(self.notes[-1])

    def record(self, event: Event) -> None:
        """Record `event`; a disk that is full is given the reserve."""
        self._despite_a_full_disk(lambda: self.run.record(event))

    def rewind(self) -> None:
        """Forget what lies behind the newest checkpoint, but for the notes."""
        progress, self.offset = checkpoints.rewind(self.run), 0
        kept: Counter[Warn] = Counter()
        for event, offset in self.run.read_events():
            self.offset = offset
            if isinstance(event, Warn):
                kept[event] += 1
        for note, times in (Counter(self.notes) - kept).items():
            for _ in range(times):
                self.record(note)
        self.status = replace(self.status, step=progress.step, worker=None)

    def _write(self, *, durable: bool = True) -> bool:
        self.status = replace(self.status, heartbeat=time.time())
        return self._despite_a_full_disk(lambda: self.run.write_status(self.status, durable=durable))

    def _despite_a_full_disk(self, write: Callable[[], None]) -> bool:
        for last in (False, True):
            try:
                write()
                return True
            except OSError as error:
                with suppress(OSError):  # the log lies on the same disk
                    self.run.spend_reserve()
                    sys.stderr.write(f"not written{' either' if last else ''}: {error}\n")
                    sys.stderr.flush()
        return False

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.signalled = number
        try:
            self.run.request("stop")
        except OSError:  # on a full disk nothing can be asked for by a file
            if self._worker is not None and self._worker.poll() is None:
                self._worker.terminate()
