"""Every writer of a file or folder that somebody keeps, cut before its calls and refused them: the old or the new.

After each cut nothing is under a final name but what was there or what was to be; the next try succeeds and leaves no
litter. Short: a few calls of each writer, evenly chosen; full: all of them.
"""

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from localtune.job import read_job
from localtune.products.fused import fused
from localtune.runs.files import sweep
from tests import goals
from tests.command import returned
from tests.faults import untrained
from tests.faults.cuts import cut_everywhere, partials, whole
from tests.faults.writers import WRITERS, Found, Made, Writer

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="cuts are made in forked processes")
HOWS = {"cut": None, "full": errno.ENOSPC, "broken": errno.EIO}
"""Ended before a call, or refused it by a full disk or a broken one."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOCALTUNE_RUNS", str(folder / "runs"))
        patch.setenv("LOCALTUNE_CACHE", str(folder / "cache"))
        patch.setenv("PYTHONDONTWRITEBYTECODE", "1")
        job = read_job(untrained.make_run(folder / "data"))
        returned(fused(job, check=False))
        (folder / "other").mkdir()
        yield Made(folder, job, untrained.write_adapter(folder / "other", job.model, seed=2))


def _try_all(writer: Writer, root: Path, how: str) -> int:
    """Cut or refuse `writer` at its calls and look after each; returns how many."""
    before, error = root.with_name("before"), HOWS[how]
    shutil.copytree(root, before)
    old = writer.found()
    writer.act()  # here too, so that no import is counted
    new = writer.found()
    assert new != old
    shutil.rmtree(root)
    before.rename(root)
    gone = {name for name in old if name not in new}

    def check(call: int) -> None:
        if error is not None and writer.found() != new:
            assert not list(partials(root)), "an error leaves litter"
        if not old.keys() <= writer.found().keys():  # between two renames of folders
            sweep(root)
        there = writer.found()
        assert old.keys() - gone <= there.keys(), f"call {call} has lost what was there"
        for name, content in there.items():
            assert content in (old.get(name), new.get(name)), f"call {call} left half of {name}"
        assert whole(writer.act) == 0 or there == new
        assert writer.found() == new
        assert writer.litter or not list(partials(root))

    most = None if goals.FULL else (3 if error is None else 2)
    return cut_everywhere(root, writer.act, check, full=error is not None,
                          error=error or 0, most=most)  # fmt: skip


@pytest.mark.parametrize("how", [*HOWS] if goals.FULL else ["cut", "full"])
@pytest.mark.parametrize("name", WRITERS)
def test_a_writer_that_is_cut_or_refused_leaves_the_old_or_the_new(
    name: str, how: str, made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, goal: goals.Reached
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    if name == "run folder":
        monkeypatch.setenv("LOCALTUNE_RUNS", str(root))
    if name == "prepared data":
        monkeypatch.setenv("LOCALTUNE_CACHE", str(root))
    tried = _try_all(WRITERS[name](made, root), root, how)
    goal("save", f"{name}: 0 losses in {tried} calls, {how}")


def test_half_a_file_under_its_name_is_seen(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    path = root / "rows.jsonl"
    path.write_bytes(b"{}\n")

    def in_place() -> None:
        with path.open("wb") as file:
            for _ in range(3):
                file.write(b"{}\n")
                file.flush()

    with pytest.raises(AssertionError, match="half of rows"):
        _try_all(Writer(in_place, lambda: {path.name: path.read_bytes()}), root, "cut")


def test_a_folder_that_is_lost_between_two_renames_is_seen(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "adapter").mkdir(parents=True)

    def careless() -> None:
        shutil.rmtree(root / "adapter", ignore_errors=True)
        (root / "adapter.new").mkdir(exist_ok=True)
        os.replace(root / "adapter.new", root / "adapter")
        (root / "more").mkdir(exist_ok=True)

    def found() -> Found:
        return {path.name: True for path in root.iterdir() if path.name != "adapter.new"}

    with pytest.raises(AssertionError, match="has lost"):
        _try_all(Writer(careless, found), root, "cut")
