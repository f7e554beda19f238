"""Events as they are recorded."""

from pathlib import Path

from localtune.clock import Clock
from localtune.events import Phase, Step, Warn
from localtune.recorder import Recorder
from localtune.runs.folder import Run
from localtune.worked import BEGIN


def _step(number: int) -> Step:
    return Step(number, 9, 1.0, 1.0, 1.0, 1e-4, 1.0, True, 1, 1, 0, 0.1)


def test_a_machine_that_slept_is_noted_before_the_event_that_follows(tmp_path: Path) -> None:
    wall, steady = [1000.0], [0.0]
    recorder = Recorder(Run(tmp_path), clock=Clock(lambda: wall[0], lambda: steady[0]))
    recorder.record(Phase(BEGIN))
    wall[0], steady[0] = 1010.0, 10.0
    recorder.record(_step(1))
    wall[0], steady[0] = 8220.0, 20.0
    recorder.record(_step(2))
    kinds = [type(event) for event, _ in recorder.run.read_events()]
    assert kinds == [Phase, Step, Warn, Step]
    (note,) = (event.text for event, _ in recorder.run.read_events() if isinstance(event, Warn))
    assert note == "the machine slept, or its clock was set forward, by 2h00m"


def test_a_resumed_recorder_knows_what_was_usual(tmp_path: Path) -> None:
    first = Recorder(Run(tmp_path))
    for number in range(1, 40):
        first.record(_step(number))
    second = Recorder(Run(tmp_path))
    second.read()
    assert second.spikes == first.spikes
