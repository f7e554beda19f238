"""Writes a run's events down, and remembers what is needed of them later, so that the file is read once."""

from dataclasses import dataclass, field

from localtune.clock import Clock
from localtune.events import Evaluation, Event, Sample, Step, Warn
from localtune.runs.folder import Run
from localtune.spikes import Spikes
from localtune.words import duration
from localtune.worked import JUMPED


@dataclass
class Recorder:
    """A run's events, as they are recorded."""

    run: Run
    base_answers: dict[str, str] = field(default_factory=dict)
    base_loss: float | None = None
    peak: int = 0
    refused: list[int] = field(default_factory=list)
    """Updates that were not applied."""
    clock: Clock = field(default_factory=Clock)
    spikes: Spikes = field(default_factory=Spikes)
    unusual: str = ""
    """What is unusual about the last update; "" = nothing."""

    def read(self) -> None:
        """Take in what an earlier process recorded."""
        for event, _ in self.run.read_events():
            self._take(event)

    def record(self, event: Event) -> None:
        """Write `event` down, behind a note where the clock has jumped since the event before."""
        if jumped := self.clock.jump():
            what = "the machine slept, or its clock was set forward, by" if jumped > 0 else "the clock was set back by"
            self.run.record(Warn(JUMPED, f"{what} {duration(abs(jumped))}"))
        self.run.record(event)
        self._take(event)

    def _take(self, event: Event) -> None:
        match event:
            case Sample(prompt=prompt, base=base):
                self.base_answers.setdefault(prompt, base)
            case Evaluation(split="valid", step=0, loss=loss):
                self.base_loss = loss
            case Step(step=step, applied=applied, peak_bytes=peak):
                self.peak = max(self.peak, peak)
                self.refused += [] if applied else [step]
                self.unusual = self.spikes.look(event)
