"""The cache gives back what was kept or nothing, and never stands in the way."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from localtune.data.cache import MANIFEST, find, hand_over, keep, key, root
from localtune.errors import InputError, Problem

DAY = 86400


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The empty cache."""
    monkeypatch.setenv("LOCALTUNE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "data"


def writes(text: str, size: int = 1) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / "train.safetensors").write_text(text * size)
        (folder / "report.json").write_text("{}")

    return write


def kept(name: str = "a", text: str = "tokens", size: int = 1) -> Path:
    entry = keep(name, writes(text, size))
    assert entry is not None
    return entry


def unused(entry: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(entry / MANIFEST, (then, then))


def test_what_was_kept_is_found(folder: Path) -> None:
    assert find("a") is None
    entry = kept()
    assert entry == find("a") == find("a", verify=True) == folder / "a"
    assert (entry / "train.safetensors").read_text() == "tokens"
    assert find("b") is None
    assert [path.name for path in folder.iterdir()] == ["a"]


def test_every_part_decides_the_key_and_their_order_does_not() -> None:
    parts = {"files": ["a", "b"], "seed": 1, "learn": "answers", "samples": ["é"]}
    one = key(parts)
    assert one == key(dict(reversed(parts.items())))
    others: list[dict[str, object]] = [{"files": ["b", "a"]}, {"seed": 2}, {"learn": "all"}, {"samples": []}, {"x": ""}]
    assert len({one, *(key(parts | other) for other in others)}) == 6
    assert key({"a": "b,c"}) != key({"a": ["b", "c"]})


@pytest.mark.parametrize("name", ["train.safetensors", "report.json", MANIFEST])
@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-1])])
def test_a_torn_entry_is_not_found_and_made_anew(name: str, damage: Callable[[Path], None]) -> None:
    damage(kept() / name)
    assert find("a") is None
    entry = kept(text="new")
    assert (entry / "train.safetensors").read_text() == "new"
    assert find("a", verify=True) == entry


@pytest.mark.parametrize("content", ["[]", "3", "{}", '{"format": 2, "files": {}}', '{"format": 1, "files": {"x": 1}}'])
def test_a_foreign_manifest_is_no_entry(content: str) -> None:
    (kept() / MANIFEST).write_text(content)
    assert find("a") is None


def test_a_change_that_keeps_the_size_is_noticed() -> None:
    path = kept() / "train.safetensors"
    was = path.stat()
    path.write_text("TOKENS")
    os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns + 1000))
    assert find("a") is None


def test_hashing_notices_what_sizes_and_times_cannot() -> None:
    path = kept() / "train.safetensors"
    was = path.stat()
    path.write_text("TOKENS")
    os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))
    assert find("a") is not None
    assert find("a", verify=True) is None


def test_an_entry_that_is_whole_is_not_replaced() -> None:
    assert (kept() / "train.safetensors").read_text() == (kept(text="later") / "train.safetensors").read_text()


def test_an_input_error_while_writing_is_raised_and_leaves_nothing(folder: Path) -> None:
    def write(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise InputError(Problem("data.json", "not JSON"))

    with pytest.raises(InputError):
        keep("a", write)
    assert list(folder.iterdir()) == []


def test_a_cache_that_cannot_be_made_is_said_and_no_error(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file stands where the folder should")
    said: list[str] = []
    assert keep("a", writes("x"), say=said.append) is None
    assert find("a") is None
    assert len(said) == 1
    assert "not kept for the next run" in said[0]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_said_and_leaves_nothing(folder: Path) -> None:
    def write(folder: Path) -> None:
        (folder / "half").write_text("x")
        with open("/dev/full", "wb", buffering=0) as file:
            file.write(b"x")

    said: list[str] = []
    assert keep("a", write, say=said.append) is None
    assert "No space left" in said[0]
    assert list(folder.iterdir()) == []


RACE = """
import sys, time
from localtune.data.cache import keep
def write(folder):
    (folder / "x").write_text("x" * 100_000)
    time.sleep(max(0.0, float(sys.argv[1]) - time.time()))  # so that all are done at once
print(keep("a", write))
"""


def test_processes_that_keep_the_same_at_once_all_get_it(folder: Path) -> None:
    command = [sys.executable, "-c", RACE, str(time.time() + 1.5)]
    racing = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert {process.communicate()[0].strip() for process in racing} == {str(folder / "a")}
    assert find("a", verify=True) is not None
    assert [path.name for path in folder.iterdir()] == ["a"]


def test_what_a_killed_process_left_is_no_entry_and_goes_after_a_day(folder: Path) -> None:
    code = "import os\nfrom localtune.data.cache import keep\nkeep('a', lambda f: (f / 'x').touch() or os._exit(9))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 9
    (left,) = folder.iterdir()
    assert find("a") is None
    kept("b")
    assert left.exists()
    for path in (left / "x", left):
        os.utime(path, (time.time() - 2 * DAY,) * 2)
    kept("c")
    assert not left.exists()


def test_entries_nobody_used_for_thirty_days_go(folder: Path) -> None:
    for name in ("old", "used", "young"):
        kept(name)
    for name, days in (("old", 31), ("used", 31), ("young", 29)):
        unused(folder / name, days * DAY)
    assert find("used")
    kept("new")
    assert sorted(path.name for path in folder.iterdir()) == ["new", "used", "young"]


def test_the_longest_unused_go_where_all_are_too_large(folder: Path) -> None:
    for name in ("now", "b", "c", "d"):
        kept(name, size=1000)
    for hours, name in enumerate(("now", "b", "c", "d")):
        unused(folder / name, hours * 3700)
    entry = keep("new", writes("tokens", 1000), limit=20_000)
    assert entry is not None
    assert sorted(path.name for path in folder.iterdir()) == ["b", "new", "now"]
    keep("newer", writes("tokens"), limit=0)
    assert sorted(path.name for path in folder.iterdir()) == ["new", "newer", "now"]


def test_a_run_gets_the_files_without_taking_room(tmp_path: Path) -> None:
    entry, run = kept(), tmp_path / "run"
    run.mkdir()
    hand_over(entry, run)
    assert sorted(path.name for path in run.iterdir()) == ["report.json", "train.safetensors"]
    assert (run / "train.safetensors").stat().st_ino == (entry / "train.safetensors").stat().st_ino
    assert find("a", verify=True) == entry


def test_a_run_file_that_is_changed_in_place_is_not_handed_to_another_run(tmp_path: Path) -> None:
    entry = kept()
    hand_over(entry, tmp_path)
    with (tmp_path / "train.safetensors").open("r+") as file:
        file.write("T")
    assert find("a") is None


def test_files_are_copied_where_they_cannot_be_linked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: object, target: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    entry = kept()
    hand_over(entry, tmp_path)
    assert (tmp_path / "train.safetensors").read_text() == "tokens"
    assert (tmp_path / "train.safetensors").stat().st_ino != (entry / "train.safetensors").stat().st_ino


def test_without_a_setting_it_lies_where_caches_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCALTUNE_CACHE")
    assert root().is_absolute()
    assert "localtune" in root().parts
