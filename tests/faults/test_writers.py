"""One module writes, and what it promises of every write: no other way round it, usual modes, onto the disk."""

import ast
import errno
import os
import re
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from localtune import durable
from localtune.durable import NoRoom, append, free_space, new_file, require_room, reserve, write_bytes
from localtune.model.tensors import TensorInfo
from localtune.model.weights import write_shard
from localtune.runs.folder import Run
from localtune.supervisor import free_disk
from tests.command import ROOT

SOURCES = ("localtune", "backends", "tui")
WRITING = {
    "write_text", "save_file", "rename", "symlink_to", "hardlink_to", "touch", "copyfile", "copytree", "copy2",
    "NamedTemporaryFile", "mkstemp", "mkdtemp", "TemporaryDirectory", "GGUFWriter", "memmap", "tofile", "ftruncate",
    "os.replace", "os.open", "os.link", "os.truncate", "shutil.copy", "shutil.move", ".write_bytes",
}  # fmt: skip
"""Calls that change a file, or could: by their last name, by module and name, or as a method."""
ALLOWED = {
    "localtune/durable.py": {*WRITING, "open"},
    "localtune/data/jsonl.py": {"open"},
    "localtune/data/segments.py": {"open"},
    "localtune/export/gguf_file.py": {"open", "GGUFWriter"},
    "localtune/export/adapter_file.py": {"GGUFWriter"},
    "localtune/runs/folder.py": {"touch", "os.truncate"},
    "localtune/runs/lock.py": {"os.open", "ftruncate"},
    "localtune/launch.py": {"open"},
    "localtune/supervisor.py": {"open"},
    "localtune/data/bounds.py": {"open", "os.open"},
    "localtune/cli/__init__.py": {"os.open"},
    "localtune/data/prepare.py": {"mkdtemp"},
    "localtune/data/cache.py": {"rename", "os.link"},
    "localtune/deliver/lm_studio.py": {"os.link"},
}
"""Who else may, and what. jsonl: under a temporary name. segments: parts beside the file, gone when it is whole.
gguf_file, adapter_file: the format's library, under a temporary name; a proof into a file that has no name yet.
folder: requests, which are empty, and the end of a record. lock: what it holds matters to nobody. launch, supervisor: a
log that programs append to. bounds: the null device, and what the kernel says. cli: the null device. prepare: data that
nobody keeps. cache: whole folders by one rename. lm_studio: a second name, by one call."""


def _writes(source: str) -> Iterator[tuple[int, str]]:
    """Line and name of each call in `source` that may change a file."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        method = isinstance(node.func, ast.Attribute)
        whole = ast.unparse(node.func)
        last = whole.rpartition(".")[2]
        modes = [arg.value for arg in [*node.args, *(word.value for word in node.keywords)]
                 if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]  # fmt: skip
        if last == "open" and whole != "os.open" and any(re.fullmatch("[rbt]*[wax+][bt+]*", mode) for mode in modes):
            yield node.lineno, "open"
        found = {last, whole, f".{last}" if method else ""} & WRITING
        if found and not (last == "memmap" and "r" in modes):
            yield node.lineno, found.pop()


def test_nobody_writes_but_through_the_one_module() -> None:
    found = [
        f"{name}:{line} {call}"
        for folder in SOURCES
        for path in sorted((ROOT / folder).rglob("*.py"))
        for name in [path.relative_to(ROOT).as_posix()]
        for line, call in _writes(path.read_text(encoding="utf-8"))
        if call not in ALLOWED.get(name, ())
    ]
    assert not found


def test_who_may_write_does() -> None:
    for name, calls in ALLOWED.items():
        made = {call for _, call in _writes((ROOT / name).read_text(encoding="utf-8"))}
        assert made == calls or name == "localtune/durable.py", f"{name} needs {made} only"


@pytest.mark.parametrize(
    "source",
    ["Path('a').write_text('b')", "open('a', 'w')", "path.open(mode='r+b')", "path.write_bytes(b'')",
     "os.replace(a, b)", "shutil.copyfile(a, b)", "save_file(arrays, path)", "os.open(a, os.O_CREAT)"],
)  # fmt: skip
def test_a_write_in_place_would_be_seen(source: str) -> None:
    assert [*_writes(source)]


@pytest.mark.parametrize(
    "source",
    ["path.open('rb')", "open(a)", "memmap(a, mode='r')", "write_bytes(a, b'')", "text.replace('a', 'w')"],
)
def test_reading_is_no_write(source: str) -> None:
    assert not [*_writes(source)]


@pytest.mark.skipif(sys.platform == "win32", reason="modes are of another kind there")
@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_files_have_the_mode_that_the_user_gives_new_files(tmp_path: Path, mask: int, mode: int) -> None:
    tensor = TensorInfo("a", (2,), "F32", 8, "a.safetensors")
    before = os.umask(mask)
    try:
        write_bytes(tmp_path / "a.json", b"{}")
        write_shard(tmp_path / "a.safetensors", [tensor], lambda _: iter([np.zeros(2, np.float32)]))
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {mode}


def test_weights_are_written_over_those_they_are_read_from(tmp_path: Path) -> None:
    path, size = tmp_path / "a.safetensors", 1 << 20
    tensor = TensorInfo("a", (size // 4,), "F32", size, path.name)
    write_shard(path, [tensor], lambda _: iter([np.arange(size // 4, dtype=np.float32)]))
    there = np.memmap(path, np.uint8, "r")
    write_shard(path, [tensor], lambda _: iter([bytes(there[-size:])]))
    assert bytes(there) == path.read_bytes()
    assert there[-1] != 0


@pytest.mark.parametrize("supported", [True, False])
def test_on_a_mac_the_drives_own_memory_is_emptied_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, supported: bool
) -> None:
    calls: list[str] = []

    def control(descriptor: int, command: int) -> int:
        calls.append(f"fcntl {command}")
        if not supported:
            raise OSError(errno.ENOTSUP, "not on this file system")
        return 0

    monkeypatch.setattr(durable, "sys", SimpleNamespace(platform="darwin"))
    monkeypatch.setitem(sys.modules, "fcntl", SimpleNamespace(fcntl=control, F_FULLFSYNC=51))
    monkeypatch.setattr(os, "fsync", lambda descriptor: calls.append("fsync"))
    write_bytes(tmp_path / "a", b"x")
    assert calls == ["fcntl 51"] * 2 if supported else ["fcntl 51", "fsync"] * 2


@pytest.mark.parametrize(
    ("room", "other", "left"),
    [
        (3, b"", b"whole\n"),
        (0, b"", b"whole\n"),
        (3, b"other\n", b"whole\ntorother\n"),
        (0, b"other\n", b"whole\nother\n"),
    ],
)
def test_a_line_that_a_full_disk_takes_half_of_is_taken_back_and_nothing_of_another_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int, other: bytes, left: bytes
) -> None:
    path, real = tmp_path / "events.jsonl", Path.open
    append(path, b"whole\n")

    class Short:
        """A file on a disk with little room left, to which another process appends before it is full."""

        def __init__(self, file: object) -> None:
            self.file, self.room = file, room

        def write(self, content: memoryview) -> int:
            if not self.room:
                with real(path, "ab") as file:
                    file.write(other)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            taken, self.room = min(self.room, len(content)), 0
            return int(self.file.write(content[:taken]))  # type: ignore[attr-defined]

        def __getattr__(self, name: str) -> object:
            return getattr(self.file, name)

        def __enter__(self) -> "Short":
            return self

        def __exit__(self, *error: object) -> None:
            self.file.close()  # type: ignore[attr-defined]

    monkeypatch.setattr(Path, "open", lambda *arguments, **more: Short(real(*arguments, **more)))
    with pytest.raises(OSError, match="No space"):
        append(path, b"torn\n")
    monkeypatch.undo()
    assert path.read_bytes() == left


@pytest.mark.skipif(sys.platform == "win32", reason="folders are not brought onto the disk there")
@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EIO])
def test_a_file_system_that_syncs_no_folders_is_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def sync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(durable, "sys", SimpleNamespace(platform="linux"))
    if number == errno.EIO:  # which is no inability
        with pytest.raises(OSError, match=os.strerror(number)):
            write_bytes(tmp_path / "a", b"x")
    else:
        write_bytes(tmp_path / "a", b"x")
    assert (tmp_path / "a").read_bytes() == b"x"


@pytest.mark.parametrize("total", [0, 100])
def test_a_file_system_that_tells_no_sizes_is_not_taken_for_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, total: int
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(total=total, used=total, free=0))
    full = total > 0
    assert (free_space(tmp_path) == free_disk(Run(tmp_path)) == 0) is full
    if full:
        with pytest.raises(NoRoom, match="0 are free"):
            require_room(tmp_path, 1)
    else:
        require_room(tmp_path, 1 << 60)
        assert free_disk(Run(tmp_path)) >= 1 << 60
        assert "free" not in str(NoRoom(tmp_path, 5))


def test_what_does_not_fit_is_refused_before_a_byte_with_the_bytes_that_are_needed(tmp_path: Path) -> None:
    needed = 1 << 60
    with pytest.raises(NoRoom, match=f"{needed:,} bytes are needed") as refused, new_file(tmp_path / "a", needed):
        pytest.fail("it began")
    assert refused.value.needed == needed > refused.value.free
    assert not os.listdir(tmp_path)
    with pytest.raises(NoRoom):
        require_room(tmp_path, needed)


@pytest.mark.skipif(sys.platform != "linux", reason="only there room is taken before it is used")
def test_room_is_taken_before_it_is_used(tmp_path: Path) -> None:
    with (tmp_path / "a").open("wb") as file:
        reserve(file, 1 << 20)
        assert os.fstat(file.fileno()).st_blocks * 512 >= 1 << 20
