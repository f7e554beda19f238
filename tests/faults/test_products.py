"""Products under kill -9, a full disk and a request to stop: whole or absent, and the next try succeeds."""

import errno
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from localtune.errors import ResourceError
from localtune.job import read_job
from localtune.products import fused as fusing
from localtune.products import gguf
from localtune.runs.files import is_complete
from localtune.runs.folder import Run
from localtune.score import StopRequested
from tests.command import Command, returned, short
from tests.goals import FULL, times


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Command:
    return Command(tmp_path_factory.mktemp("cut") / "runs")


@pytest.fixture(scope="module")
def run(command: Command) -> Run:
    done = command("run", *short(command.runs.parent / "data", steps=3), "--name", "cut")
    assert done.code == 0, done.err
    (folder,) = command.runs.glob("cut-*")
    return Run(folder)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_kill_at_any_moment_leaves_whole_products_or_none(run: Run, command: Command) -> None:
    chance = random.Random(5)
    for _ in range(times(1, 20)):
        shutil.rmtree(run.fused, ignore_errors=True)
        shutil.rmtree(run.export, ignore_errors=True)
        with command.start("export", run.name, "--gguf", "F16") as child:
            time.sleep(chance.uniform(1.0, 5.0))
            child.send_signal(signal.SIGKILL)
        assert not run.fused.exists() or is_complete(run.fused, verify=True)
        for path in run.export.glob("*.gguf"):
            assert path.name in (run.export / "proof.json").read_text(encoding="utf-8")
    done = command("export", run.name, "--gguf", "F16")
    assert done.code == 0, done.err
    assert not list(run.folder.rglob("*.partial"))


def _full(monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> None:
    def refuse(*arguments: Any, **more: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module, name, refuse)


MOMENTS = [(fusing, "fuse"), (fusing, "_describe"), (gguf, "enter")]


@pytest.mark.parametrize(("module", "name"), MOMENTS if FULL else MOMENTS[-1:])
def test_a_full_disk_is_told_with_the_folder_and_leaves_nothing_under_a_final_name(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: Any, name: str
) -> None:
    copy = Run(tmp_path / "full-20260101-000000")
    shutil.copytree(run.folder, copy.folder)
    for folder in (copy.fused, copy.export):
        shutil.rmtree(folder, ignore_errors=True)
    job = read_job(copy)
    with monkeypatch.context() as patch:
        _full(patch, module, name)
        with pytest.raises(ResourceError, match="no space is left"):
            returned(gguf.export_run(job, ["F16"]))
    assert not list(copy.folder.rglob("*.gguf"))
    assert copy.fused.exists() == (module is gguf)
    assert not list(copy.folder.rglob("*.partial"))
    assert returned(gguf.export_run(job, ["F16"]))


def _after(calls: int) -> Callable[[], None]:
    left = [calls]

    def heed() -> None:
        left[0] -= 1
        if left[0] < 0:
            raise StopRequested

    return heed


@pytest.mark.parametrize("calls", [2, 30, 300])
def test_a_request_to_stop_is_heard_in_the_middle_of_a_proof(run: Run, tmp_path: Path, calls: int) -> None:
    copy = Run(tmp_path / "stop-20260101-000000")
    shutil.copytree(run.folder, copy.folder)
    shutil.rmtree(copy.fused, ignore_errors=True)
    with pytest.raises(StopRequested):
        returned(gguf.export_run(read_job(copy), ["Q8_0"], heed=_after(calls)))
    assert not list(tmp_path.rglob("*.partial"))
    assert not list(copy.export.glob("*-Q8_0.gguf"))
