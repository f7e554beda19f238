"""Which checkpoints are kept, and that a run whose every one is damaged is no new run."""

from pathlib import Path

import pytest

from localtune.errors import InputError
from localtune.events import Phase
from localtune.runs import checkpoints
from localtune.runs.checkpoints import Progress, path_of
from localtune.runs.folder import Run


def _save(run: Run, step: int, best: int = 0) -> None:
    def write(folder: Path) -> None:
        (folder / "weights").write_bytes(bytes([step % 256]) * 8)

    checkpoints.save(run, Progress(step, best), write)


def _damage(run: Run, step: int) -> None:
    (path_of(run, step) / "weights").write_bytes(b"damaged!")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = Run(tmp_path / "run")
    run.folder.mkdir()
    return run


def test_a_damaged_newer_checkpoint_takes_no_place_of_a_good_one(run: Run) -> None:
    for step in (100, 200, 300):
        _save(run, step)
    _damage(run, 300)
    found = checkpoints.latest(run)
    assert found is not None
    assert checkpoints.passed_over(run, found[0]) == [300]
    _save(run, 250)
    assert [step for step in checkpoints.steps(run) if checkpoints.intact(run, step)] == [200, 250]


def test_the_best_is_kept_beside_the_last_two(run: Run) -> None:
    for step in (1, 2, 3, 4):
        _save(run, step, best=1)
    assert checkpoints.steps(run) == [1, 3, 4]


def test_a_run_without_an_intact_checkpoint_keeps_its_record_and_says_so(run: Run) -> None:
    _save(run, 3)
    run.record(Phase("training"))
    _damage(run, 3)
    with pytest.raises(InputError, match=r"none of its checkpoints can be used: update 3"):
        checkpoints.rewind(run)
    assert [event for event, _ in run.read_events()] == [Phase("training")]


def test_a_run_that_has_none_begins_anew(run: Run) -> None:
    run.record(Phase("training"))
    assert checkpoints.rewind(run) == Progress()
    assert not list(run.read_events())
