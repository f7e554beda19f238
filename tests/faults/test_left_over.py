"""What a writer that is gone has left: removed or put back by the next write or `sweep`, and nothing else is."""

import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from localtune import durable
from localtune.durable import new_path, write_bytes
from localtune.runs.files import is_complete, new_folder, sweep


def _gone() -> int:
    """The number of a process that has ended."""
    process = os.fork()
    if process == 0:
        os._exit(0)
    os.waitpid(process, 0)
    return process


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a process that has ended")
def test_what_was_set_aside_comes_back_when_nothing_took_its_place(tmp_path: Path) -> None:
    pid = _gone()
    for name in ("fused", "adapter"):
        with new_folder(tmp_path / name) as folder:
            (folder / "weights").write_text("old")
        os.replace(tmp_path / name, tmp_path / f"{name}.{pid}.old.partial")
    (tmp_path / f"fused.{pid}.partial").mkdir()
    sweep(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["adapter", "fused"]
    assert is_complete(tmp_path / "fused", verify=True)
    os.replace(tmp_path / "adapter", tmp_path / f"adapter.{pid}.old.partial")
    with pytest.raises(ZeroDivisionError), new_folder(tmp_path / "adapter"):
        raise ZeroDivisionError
    assert (tmp_path / "adapter" / "weights").read_text() == "old"
    assert sorted(os.listdir(tmp_path)) == ["adapter", "fused"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a process that has ended")
def test_the_next_write_removes_what_earlier_ones_of_the_same_name_left_and_nothing_else(tmp_path: Path) -> None:
    pid = _gone()
    kept = {"a.json.bak", f"b.json.{pid}.partial", "a.json.partial", f"a.json.{os.getppid()}.partial"}
    for name in {*kept, f"a.json.{pid}.partial"}:
        (tmp_path / name).write_text("half")
    with new_path(tmp_path / "a.json") as temporary:
        temporary.write_text("whole")
    assert {*os.listdir(tmp_path)} == {*kept, "a.json"}


def test_a_number_that_no_process_has_is_passed_over(tmp_path: Path) -> None:
    names = {f"a.json.{'9' * digits}.partial" for digits in (10, 30)}
    for name in names:
        (tmp_path / name).touch()
    write_bytes(tmp_path / "a.json", b"{}")
    sweep(tmp_path)
    assert {*os.listdir(tmp_path)} == {"a.json", *names}


def test_what_was_written_or_set_aside_just_now_stays_where_only_older_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {f"a.{os.getpid()}.partial", f"b.{os.getpid()}.old.partial"}
    for name in names:
        (tmp_path / name.partition(".")[0]).mkdir()
        os.utime(tmp_path / name.partition(".")[0], (0, 0))
        os.replace(tmp_path / name.partition(".")[0], tmp_path / name)
    sweep(tmp_path, older=3600)
    assert {*os.listdir(tmp_path)} == names
    now = time.time()
    monkeypatch.setattr(durable, "time", SimpleNamespace(time=lambda: now + 3601))
    sweep(tmp_path, older=3600)
    assert os.listdir(tmp_path) == ["b"]
