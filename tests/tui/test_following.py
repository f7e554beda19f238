"""A follower sees what is in a run's folder, whatever happens to it."""

import json
import shutil
from pathlib import Path
from time import process_time

import pytest
from localtune_tui.following import Follower
from localtune_tui.run_view import is_good, judgement

from localtune.events import Checkpoint, Done, Evaluation, Failed, Step, to_json
from localtune.runs.folder import Run
from tests.tui.recorded_run import recorded_lines, recorded_run, step_line


def _append(run: Run, text: str) -> None:
    with run.events.open("a", encoding="utf-8") as file:
        file.write(text)


def _valid(step: int, loss: float, *, best: bool = False) -> str:
    return to_json(Evaluation(step, "valid", "tuned", loss, 100, 0.5, best, 1.0)) + "\n"


def _followed(tmp_path: Path, text: str) -> Follower:
    run = Run(tmp_path / "bot-20270115-080000")
    run.folder.mkdir(exist_ok=True)
    run.events.write_text(text, encoding="utf-8")
    follower = Follower(run)
    follower.poll()
    return follower


def test_a_recorded_run_is_known_whole() -> None:
    follower = Follower(recorded_run())
    follower.poll()
    view = follower.view
    assert (view.state, view.step, view.steps, len(view.losses)) == ("done", 60, 60, 60)
    assert [found.step for found in view.evaluations] == [0, 12, 24, 36, 48, 60]
    assert view.best is not None
    assert view.best.step == 60
    assert view.samples[-1].tuned == '{"intent": "taxi", "from": "station", "to": "zoo"}'
    assert view.trouble == ""
    assert judgement(view).startswith("done: val loss fell in each of the last 5 evals")


def test_only_what_is_new_is_handed_out() -> None:
    run = recorded_run(steps=30, state="running")
    follower = Follower(run)
    assert follower.poll()
    assert follower.poll() == []
    _append(run, step_line(31, 60) + "\n" + to_json(Checkpoint(31, "step-000031", 10, 0.1)) + "\n")
    assert [type(event) for event in follower.poll()] == [Checkpoint]
    assert follower.view.step == 31


def test_a_torn_last_line_waits_until_it_is_whole() -> None:
    run = recorded_run(steps=30, state="running")
    follower = Follower(run)
    line = step_line(31, 60)
    _append(run, line[:100])
    follower.poll()
    assert follower.view.step == 30
    _append(run, line[100:] + "\n")
    follower.poll()
    assert (follower.view.step, follower.view.trouble) == (31, "")


def test_a_torn_last_line_of_an_ended_run_is_said() -> None:
    run = recorded_run(steps=30, state="failed")
    follower = Follower(run)
    _append(run, '{"format": 1, "ty')
    follower.poll()
    assert follower.view.trouble == "the last line of events.jsonl is not whole (17 bytes); it is left out"


@pytest.mark.parametrize(
    "line",
    [b"\xff\xfe\x00garbage", b"[" * 100_000, b"hello", b'{"format": 1', b"]},{[", b"x" * (3 << 20)],
    ids=["bytes", "nested", "words", "cut", "brackets", "3 MB"],
)
def test_a_foreign_line_is_left_out_and_counted(line: bytes) -> None:
    run = recorded_run(steps=10, state="running")
    with run.events.open("ab") as file:
        file.write(line + b"\n" + step_line(11, 60).encode() + b"\n")
    follower = Follower(run)
    follower.poll()
    assert follower.view.step == 11
    assert follower.view.trouble == "1 lines of events.jsonl are not events; they are left out"


@pytest.mark.parametrize(
    "value",
    [
        [],
        7,
        "x",
        {"type": "step", "format": 1},
        {"type": "step", "format": 1, "step": "x", "steps": None},
        {"type": "later", "format": 9},
        {"type": "warning", "format": 1, "time": 1.0, "code": 5, "text": None},
        {"type": "evaluation", "format": 1, "time": "noon", "step": "x", "split": 1},
        {"type": "sample", "format": 1, "time": 1e999, "step": 1, "prompt": [], "base": 1, "tuned": {}},
    ],
)
def test_an_event_of_another_shape_is_left_out_and_counted(value: object) -> None:
    run = recorded_run(steps=10, state="running")
    _append(run, json.dumps(value) + "\n")
    follower = Follower(run)
    follower.poll()
    assert follower.view.step == 10
    assert follower.view.trouble == "1 events are not known to this version"


def test_a_file_that_was_cut_back_is_read_again() -> None:
    run = recorded_run(steps=30, state="running")
    follower = Follower(run)
    follower.poll()
    recorded = recorded_lines()
    run.events.write_text("\n".join(recorded[:14]) + "\n" + step_line(99, 100) + "\n" + "\n".join(recorded[:40]) + "\n")
    follower.poll()
    assert 99 in follower.view.steps_at
    assert follower.view.steps_at.tolist().count(1.0) == 2


def test_a_folder_that_is_deleted_is_gone() -> None:
    run = recorded_run(steps=30, state="running")
    follower = Follower(run)
    follower.poll()
    shutil.rmtree(run.folder)
    assert follower.poll() == []
    assert follower.view.state == "gone"
    assert "folder is gone" in judgement(follower.view)
    assert follower.view.step == 30


def test_a_status_that_cannot_be_read_is_said_and_the_events_hold() -> None:
    run = recorded_run()
    run.status_file.write_text('{"format": 1, "state":')
    follower = Follower(run)
    follower.poll()
    assert follower.view.step == 60
    assert "status.json cannot be read" in follower.view.trouble


def test_a_dead_process_has_crashed_and_a_silent_one_stalled() -> None:
    crashed, stalled = Follower(recorded_run(steps=30, state="crashed")), None
    crashed.poll()
    assert judgement(crashed.view) == "crashed (its process is gone): r resumes from the last checkpoint"
    stalled = Follower(recorded_run("bot-20270101-000000", steps=30, state="stalled"))
    stalled.poll()
    assert judgement(stalled.view).startswith("stalled: silent for 12")


def test_requests_are_seen_until_they_are_answered() -> None:
    run = recorded_run(steps=30, state="running")
    follower = Follower(run)
    run.request("stop")
    follower.poll()
    assert judgement(follower.view) == "asked to save and stop: it does so at the next update"
    run.answer("stop")
    follower.poll()
    assert not follower.view.requests


def test_time_to_the_end_is_hidden_for_ten_updates_and_then_has_a_spread(tmp_path: Path) -> None:
    lines = [step_line(step, 100, seconds=1.0 + step % 2) for step in range(1, 21)]
    early = _followed(tmp_path, "\n".join(lines[:9]) + "\n")
    assert early.view.pace.left is None
    pace = _followed(tmp_path, "\n".join(lines) + "\n").view.pace
    assert pace.left == pytest.approx(120.0)
    assert 5 < pace.spread < 40


def test_rising_validation_loss_is_called_overfitting(tmp_path: Path) -> None:
    text = "".join(f"{step_line(step, 600)}\n" for step in range(1, 500))
    rising = _valid(0, 3.0) + _valid(300, 1.0, best=True) + text + _valid(400, 1.1) + _valid(499, 1.2)
    view = _followed(tmp_path, rising).view
    assert judgement(view).startswith("this run was never started")
    alive = Follower(recorded_run("bot-20270101-000000", steps=1, state="running"))
    alive.run.events.write_text(rising)
    alive.poll()
    assert judgement(alive.view) == "val loss has risen 2 evals: likely overfitting; best is step 300"
    assert is_good(alive.view) is False


def test_a_loss_that_is_not_a_number_is_said_and_not_smoothed() -> None:
    run = recorded_run(steps=30, state="running")
    _append(run, step_line(31, 60, applied=False, loss="nan") + "\n")  # type: ignore[arg-type]
    follower = Follower(run)
    follower.poll()
    assert judgement(follower.view).startswith("loss was not finite at step 31: that update was not applied")
    assert follower.view.smoothed[-1] == follower.view.smoothed[-2]


def test_a_failure_is_said_in_its_own_words() -> None:
    run = recorded_run(steps=30, state="failed")
    _append(run, to_json(Failed("memory.out", "error[memory.out]: no more memory\n  fix: less")) + "\n")
    follower = Follower(run)
    follower.poll()
    assert judgement(follower.view) == "failed: error[memory.out]: no more memory"


def test_a_hundred_thousand_events_take_little_time(tmp_path: Path) -> None:
    run = Run(tmp_path / "big-20270101-000000")
    run.folder.mkdir()
    run.events.write_text("".join(f"{step_line(step, 100_000)}\n" for step in range(100_000)))
    began = process_time()
    follower = Follower(run)
    follower.poll()
    assert len(follower.view.losses) == 100_000
    assert process_time() - began < 2.5  # about 0.7 on two cores


def test_events_of_a_run_that_is_done_end_with_done() -> None:
    follower = Follower(recorded_run())
    events = follower.poll()
    assert isinstance(events[-1], Done)
    assert not any(isinstance(event, Step) for event in events)
