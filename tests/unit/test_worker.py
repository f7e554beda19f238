"""What the worker does when even writing down a failure fails."""

import errno
from pathlib import Path

import pytest

from localtune import worker
from localtune.events import Event
from localtune.job import Job
from localtune.runs.folder import Run


def test_a_full_disk_ends_with_its_code_although_nothing_can_be_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def no_space(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def job(run: Run) -> Job:
        no_space()
        raise AssertionError

    def record(run: Run, event: Event) -> None:
        no_space()

    monkeypatch.setattr(worker, "read_job", job)
    monkeypatch.setattr(Run, "record", record)
    assert worker.work(Run(tmp_path)) == 4
    said = capfd.readouterr().err
    assert "disk.full" in said
    assert f"localtune run --resume {tmp_path.name}" in said
