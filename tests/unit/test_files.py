"""Writes survive a crash: the old or the new, never half of one."""

import json
import os
from pathlib import Path

import pytest

from localtune.errors import InputError
from localtune.runs.files import append_line, is_complete, new_folder, read_json, sweep, write_bytes, write_json


class PowerCut(BaseException):
    """Stands for the machine going away."""


def _cut_before(monkeypatch: pytest.MonkeyPatch, number: int) -> list[str]:
    """Raise `PowerCut` at the system call `number` of a write; returns the list of the calls made."""
    calls: list[str] = []

    def counted(name: str) -> None:
        real = getattr(os, name)

        def call(*args: object, **kwargs: object) -> object:
            if len(calls) == number:
                raise PowerCut(name)
            calls.append(name)
            return real(*args, **kwargs)

        monkeypatch.setattr(os, name, call)

    for name in ("fsync", "replace"):
        counted(name)
    return calls


def test_a_file_is_old_or_new_whenever_the_write_is_cut(tmp_path: Path) -> None:
    for number in range(4):
        path = tmp_path / f"{number}.json"
        path.write_text("old")
        with pytest.MonkeyPatch.context() as patch:
            _cut_before(patch, number)
            try:
                write_bytes(path, b"new")
                finished = True
            except PowerCut:
                finished = False
        assert path.read_text() in (("new",) if finished else ("old", "new"))


def test_a_folder_is_complete_or_absent_whenever_its_write_is_cut(tmp_path: Path) -> None:
    outcomes = set()
    for number in range(12):
        target = tmp_path / f"step-{number}"
        with pytest.MonkeyPatch.context() as patch:
            _cut_before(patch, number)
            try:
                with new_folder(target) as folder:
                    (folder / "weights").write_bytes(b"x" * 1000)
                    (folder / "state").write_bytes(b"y")
            except PowerCut:
                pass
        outcomes.add(target.exists())
        assert not target.exists() or is_complete(target, verify=True)
    assert outcomes == {True, False}


def test_a_folder_with_one_changed_byte_is_not_complete(tmp_path: Path) -> None:
    target = tmp_path / "step-1"
    with new_folder(target) as folder:
        (folder / "weights").write_bytes(b"0123456789")
    assert is_complete(target, verify=True)
    (target / "weights").write_bytes(b"0123456780")
    assert is_complete(target)
    assert not is_complete(target, verify=True)
    (target / "weights").write_bytes(b"012345678")
    assert not is_complete(target)


def test_a_folder_without_a_manifest_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "step-1").mkdir()
    assert not is_complete(tmp_path / "step-1")


def test_a_failing_block_leaves_the_old_folder_and_no_litter(tmp_path: Path) -> None:
    target = tmp_path / "adapter"
    with new_folder(target) as folder:
        (folder / "weights").write_bytes(b"old")

    def fail() -> None:
        with new_folder(target) as folder:
            (folder / "weights").write_bytes(b"new")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert (target / "weights").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


def test_sweep_removes_only_what_interrupted_writes_left(tmp_path: Path) -> None:
    (tmp_path / f"step-1.{1 << 22}.partial").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_json_of_another_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    write_json(path, {"steps": 3})
    assert read_json(path) == {"format": 1, "steps": 3}
    path.write_text(json.dumps({"format": 99}))
    with pytest.raises(InputError, match="another version"):
        read_json(path)
    path.write_text('{"format": 1, "st')
    with pytest.raises(InputError, match="cannot be read"):
        read_json(path)


def test_lone_surrogates_do_not_stop_a_record(tmp_path: Path) -> None:
    size = append_line(tmp_path / "events.jsonl", "a \ud800 b")
    assert (tmp_path / "events.jsonl").read_bytes() == b"a \\ud800 b\n"
    assert size == 11
