"""What a worker is asked for: by files in `control/`, by a signal, or by the death of its supervisor."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from localtune.ending import heed, stop_code
from localtune.runs.folder import Request, Run
from localtune.runs.process import ProcessId
from localtune.score import StopRequested


@dataclass
class Asked:
    """What this run has been asked for."""

    run: Run
    supervisor: ProcessId | None
    signalled: int = 0
    """The signal that asked this process to end."""
    _at_once: bool = False
    _orphan: bool = False
    _looked: float = 0.0
    """When the supervisor was looked for, by the monotonic clock."""

    def __post_init__(self) -> None:
        heed(self._receive)

    @property
    def exit_code(self) -> int:
        """Of a process that was asked to end, and by which signal."""
        return stop_code(self.signalled)

    @property
    def orphan(self) -> bool:
        """Whether the supervisor is gone; looked at once a second."""
        if self.supervisor is not None and not self._orphan and time.monotonic() - self._looked >= 1.0:
            self._looked, self._orphan = time.monotonic(), not self.supervisor.alive
        return self._orphan

    def requests(self) -> set[Request]:
        """Everything asked for; "save" counts once, and whoever pauses has to stop."""
        asked = self.run.requests()
        if "save" in asked:
            self.run.answer("save")
        return asked | {"stop"} if self.signalled or self.orphan or "pause" in asked else asked

    def check(self) -> None:
        """Raise `StopRequested` when it is time to stop; a request to save stays for the update boundary."""
        if self.signalled or self.orphan or self.run.requests() & {"stop", "stop-now", "pause"}:
            raise StopRequested

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """A signal ends the block with `StopRequested` wherever it is: nothing is written there."""
        self._at_once = True
        try:
            self.check()
            yield
        finally:
            self._at_once = False

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.signalled = number
        if self._at_once:
            self._at_once = False
            raise StopRequested
