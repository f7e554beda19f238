"""Runs are found by name, prefix, path or "last", and their state is what a reader must believe."""

import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest

from localtune.errors import InputError
from localtune.events import Checkpoint, Phase, Step, to_json
from localtune.runs import checkpoints
from localtune.runs.checkpoints import Progress
from localtune.runs.files import append_line
from localtune.runs.folder import Run, Status
from localtune.runs.process import ProcessId, process_id
from localtune.runs.store import all_runs, find_run, free_path


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LOCALTUNE_RUNS", str(tmp_path))
    for name in ("bot-20260101-120000", "bot-20260102-090000", "faq-20250101-000000"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "plan.json").write_text("{}")
    (tmp_path / "unrelated").mkdir()
    return tmp_path


@pytest.fixture
def run(tmp_path: Path) -> Run:
    (tmp_path / "checkpoints").mkdir()
    return Run(tmp_path)


def _save(run: Run, step: int, best: int = 0) -> None:
    def write(folder: Path) -> None:
        (folder / "weights").write_bytes(b"w" * step)

    checkpoints.save(run, Progress(step, best), write)


def test_runs_are_ordered_by_their_time_stamp(runs: Path) -> None:
    assert [run.name for run in all_runs()] == ["faq-20250101-000000", "bot-20260101-120000", "bot-20260102-090000"]


def test_a_run_is_found_by_last_prefix_name_and_path(runs: Path) -> None:
    assert find_run("last").name == "bot-20260102-090000"
    assert find_run("faq").name == "faq-20250101-000000"
    assert find_run("bot-20260101-120000").name == "bot-20260101-120000"
    assert find_run(str(runs / "faq-20250101-000000")).name == "faq-20250101-000000"


def test_an_unknown_or_ambiguous_name_says_so(runs: Path) -> None:
    with pytest.raises(InputError, match="no run is called 'nope'"):
        find_run("nope")
    with pytest.raises(InputError, match="fits 2 runs"):
        find_run("bot")


def test_two_runs_of_one_second_get_two_folders(runs: Path) -> None:
    first = free_path("x")
    first.mkdir()
    assert free_path("x") != first


def test_a_dead_process_has_crashed_and_a_silent_one_stalled() -> None:
    now = time.time()
    status = Status("running", 3, 10, supervisor=process_id(), heartbeat=now)
    assert status.seen(now).state == "running"
    assert status.seen(now + 3600).state == "stalled"
    gone = ProcessId(1 << 22, 0.0)
    assert replace(status, supervisor=gone).seen(now).state == "crashed"
    assert replace(status, supervisor=gone, worker=process_id()).seen(now).state == "running"
    assert replace(status, state="done", supervisor=gone).seen(now).state == "done"


def test_status_comes_back_as_it_was_written(run: Run) -> None:
    assert run.status().state == "created"
    status = Status("running", 3, 10, "x", process_id(), process_id(), time.time())
    run.write_status(status)
    assert run.status() == status


def test_requests_are_left_and_answered(run: Run) -> None:
    run.request("save")
    run.request("stop")
    (run.control / "nonsense").touch()
    assert run.requests() == {"save", "stop"}
    run.answer("save")
    assert run.requests() == {"stop"}


def test_the_last_two_checkpoints_and_the_best_are_kept(run: Run) -> None:
    for step in (10, 20, 30, 40, 50):
        _save(run, step, best=20)
    assert checkpoints.steps(run) == [20, 40, 50]


def test_a_damaged_checkpoint_is_passed_over(run: Run) -> None:
    _save(run, 10)
    _save(run, 20)
    (checkpoints.path_of(run, 20) / "weights").write_bytes(b"v" * 20)
    found = checkpoints.latest(run)
    assert found is not None
    assert found[0].step == 10
    assert checkpoints.intact(run, 20) is None
    assert checkpoints.intact(run, 10) == found[1]


def test_the_litter_of_a_cut_save_is_neither_a_checkpoint_nor_in_the_way(run: Run) -> None:
    _save(run, 10)
    litter = run.checkpoints / f"step-000020.{1 << 22}.partial"
    shutil.copytree(checkpoints.path_of(run, 10), litter)
    mine = run.checkpoints / f"step-000030.{os.getpid()}.partial"
    mine.mkdir()
    assert checkpoints.steps(run) == [10]
    checkpoints.rewind(run)
    assert not litter.exists()
    assert not mine.exists()  # the owner of the run is writing nothing while it sweeps


def test_events_lost_in_a_power_cut_are_not_replaced_by_zeros(run: Run) -> None:
    end = append_line(run.events, to_json(Phase("training")))
    append_line(run.events, to_json(Phase("lost")))
    checkpoints.save(run, Progress(10, events_offset=run.events.stat().st_size), lambda folder: None)
    os.truncate(run.events, end + 7)
    checkpoints.rewind(run)
    assert run.events.stat().st_size == end


def test_events_behind_the_newest_checkpoint_are_forgotten_but_its_own_record_stays(run: Run) -> None:
    append_line(run.events, to_json(Phase("training")))
    offset = append_line(run.events, to_json(Step(10, 20, 1.0, 1.0, 1.0, 1.0, 1.0, True, 1, 1, 1, 1.0)))
    checkpoints.save(run, Progress(10, events_offset=offset), lambda folder: None)
    append_line(run.events, to_json(Checkpoint(10, "step-000010", 1, 0.1)))
    append_line(run.events, to_json(Step(11, 20, 1.0, 1.0, 1.0, 1.0, 1.0, True, 1, 1, 1, 1.0)))
    checkpoints.rewind(run)
    assert [type(event).__name__ for event, _ in run.read_events()] == ["Phase", "Step", "Checkpoint"]


def test_without_a_checkpoint_a_run_starts_again_with_no_events(run: Run) -> None:
    append_line(run.events, to_json(Phase("training")))
    checkpoints.rewind(run)
    assert list(run.read_events()) == []
