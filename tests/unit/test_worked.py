"""How long a run took, over several sessions."""

import io
import json
from typing import Any

from localtune.events import Warn, to_json
from localtune.worked import JUMPED, Worked, seconds_worked


def _line(when: float, name: str = "training", **more: Any) -> str:
    return json.dumps({"format": 1, "type": "phase", "time": when, "name": name} | more) + "\n"


def _seconds(*lines: str) -> float:
    return seconds_worked(io.BytesIO("".join(lines).encode()))


def test_what_lies_between_a_stop_and_a_resume_is_not_counted() -> None:
    first = [_line(100.0, "loading"), _line(130.0)]
    second = [_line(90_000.0, "loading"), _line(90_012.5)]
    assert _seconds(*first, *second) == 42.5
    assert _seconds(*first) == 30.0
    assert _seconds() == 0.0


def test_a_text_about_loading_begins_no_session() -> None:
    sample = _line(120.0, type="sample", name='"loading"', detail="loading")
    assert _seconds(_line(100.0, "loading"), sample, _line(130.0)) == 30.0


def test_lines_that_are_no_events_are_let_be() -> None:
    torn = '{"format": 1, "type": "step", "time": 900'
    assert _seconds(_line(100.0, "loading"), "[]\n", '{"time": "noon"}\n', _line(110.0), torn) == 10.0


def test_a_clock_that_was_set_back_takes_nothing_away() -> None:
    worked = Worked()
    for when in (100.0, 50.0):
        worked.take({"time": when})
    assert worked.seconds == 0.0


def test_a_machine_that_slept_did_not_work() -> None:
    slept = to_json(Warn(JUMPED, "the machine slept"), 7300.0) + "\n"
    assert _seconds(_line(100.0, "loading"), _line(130.0), slept, _line(7310.0)) == 40.0
    back = to_json(Warn(JUMPED, "the clock was set back"), 50.0) + "\n"
    assert _seconds(_line(100.0, "loading"), _line(130.0), back, _line(60.0)) == 40.0
