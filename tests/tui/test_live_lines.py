"""What Live says in numbers: of the update they are of, of the time somebody worked, and in the width there is."""

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
from localtune_tui.facts import Facts
from localtune_tui.following import Follower
from localtune_tui.live_lines import folded, now_lines, tabs
from localtune_tui.run_rows import read_row
from localtune_tui.run_view import RunView, judgement

from localtune.events import Evaluation, to_json
from localtune.runs.folder import Run
from tests.tui.recorded_run import recorded_run, step_line


def _seen(run: Run) -> RunView:
    follower = Follower(run)
    follower.poll()
    return follower.view


def _of(folder: Path, *lines: str) -> RunView:
    run = Run(folder)
    run.events.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return _seen(run)


def test_what_lies_between_a_stop_and_a_resume_is_no_work() -> None:
    run = recorded_run(steps=30, state="running")
    lines = [json.loads(line) for line in run.events.read_text(encoding="utf-8").splitlines()]
    worked = lines[-1]["time"] - lines[0]["time"]
    again = {"format": 1, "type": "phase", "time": 1_799_990_000.0, "name": "loading", "detail": "again"}
    with run.events.open("a", encoding="utf-8") as file:
        file.write(json.dumps(again) + "\n" + step_line(31, 60) + "\n")
    view = _seen(run)
    assert view.worked == pytest.approx(worked + 31)
    assert read_row(run).took == pytest.approx(worked + 31)
    assert view.elapsed(max(view.seen, view.process_began) + 5) == pytest.approx(worked + 36)
    assert replace(view, state="stopped").elapsed(time.time() + 1e9) == pytest.approx(worked + 31)


def test_the_gap_is_that_of_the_evaluations_own_update(tmp_path: Path) -> None:
    base = to_json(Evaluation(0, "valid", "base", 4.84, 10, 0.5, False, 1.0))
    found = to_json(Evaluation(4, "valid", "tuned", 3.0, 10, 0.5, True, 1.0))
    steps = [step_line(step, 100, 5.0 / step) for step in range(1, 20)]
    assert now_lines(_of(tmp_path, base, *steps), Facts(), 40)[1] == "val loss       4.84"
    view = _of(tmp_path, base, *steps[:4], found, *steps[4:])
    assert view.gap == pytest.approx(3.0 - view.smoothed[3])
    assert now_lines(view, Facts(), 40)[1] == f"val loss       3.00  ▼ gap {view.gap:+.2f}"
    assert judgement(replace(view, state="done")).startswith("done: val loss fell to 3 at its last eval. Next")


def test_two_lines_hold_the_numbers_and_the_tokens_where_there_is_room() -> None:
    view = _seen(recorded_run())
    first, second = folded(view, Facts(memory_limit=21_900_000_000, memory_needed=618_000_000), 78)
    assert first == "train 0.013 ▼  val 0.009 ▼  lr 3.7e-6  grad 0.05  3,926 tok/s  61.9 k tok"
    assert second.endswith(" peak 719 MB/21.9 GB")
    first, second = folded(view, Facts(), 58)
    assert first.endswith("tok/s")
    assert second.endswith("  61.9 k tok")


def test_tabs_name_every_pane_and_mark_the_one_that_is_shown() -> None:
    assert tabs("events", ("samples", "events", "log")) == "samples [events] log"
