"""Writing so that a crash at any moment leaves either the old or the new, never half of one.

A file: temporary name in the same folder, fsync, rename, fsync of the folder. A folder: the same, with a
`manifest.json` of sizes and SHA-256 written last; a folder without a valid manifest does not count. One that replaces
another moves it aside first, so a crash just between leaves neither. A line: one write.
"""

import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from localtune.errors import InputError, Problem

FORMAT = 1
MANIFEST = "manifest.json"
TEMPORARY = ".partial"


def write_bytes(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Replace `path` by `content`; without `durable` a power cut may bring the old content back."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}{TEMPORARY}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            if durable:
                _sync(file.fileno())
        replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        _sync_folder(path.parent)


def write_json(path: Path, value: dict[str, Any], *, durable: bool = True) -> None:
    """Replace `path` by `value` with its format number."""
    text = json.dumps({"format": FORMAT} | value, indent=2, ensure_ascii=False, allow_nan=False)
    write_bytes(path, (text + "\n").encode("utf-8", "backslashreplace"), durable=durable)


def read_json(path: Path) -> dict[str, Any]:
    """The object in `path`. Raises `InputError` when it is absent, torn or of another format."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(Problem("run.unreadable", f"cannot be read: {error}", where=str(path))) from None
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise InputError(Problem("run.format", "was written by another version of localtune", where=str(path)))
    return value


def append_line(path: Path, line: str) -> int:
    """Append `line` in one write and return the file's new size."""
    with path.open("ab", buffering=0) as file:
        file.write((line + "\n").encode("utf-8", "backslashreplace"))
        return file.tell()


def settle(path: Path) -> int:
    """Bring what was appended to `path` onto the disk and return its size."""
    with path.open("ab") as file:
        _sync(file.fileno())
        return file.tell()


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A temporary folder that becomes `path`, complete with its manifest, when the block ends without an error."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}{TEMPORARY}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        _write_manifest(temporary)
        aside = path.with_name(f"{path.name}.old.{os.getpid()}{TEMPORARY}")
        if path.exists():
            replace(path, aside)
        replace(temporary, path)
        _sync_folder(path.parent)
        shutil.rmtree(aside, ignore_errors=True)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def is_complete(folder: Path, *, verify: bool = False) -> bool:
    """Whether `folder` holds everything its manifest names, in the right sizes; `verify` also hashes."""
    try:
        files = read_json(folder / MANIFEST)["files"]
        return all(_matches(folder / name, entry, verify) for name, entry in files.items())
    except (InputError, OSError, KeyError, TypeError, AttributeError):
        return False


def folder_size(folder: Path) -> int:
    """Bytes of all files below `folder`, or of `folder` where it is a file."""
    files = [folder] if folder.is_file() else [path for path in folder.rglob("*") if path.is_file()]
    return sum(path.stat().st_size for path in files)


def sha256(path: Path) -> str:
    """Hex digest of a file, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def replace(source: Path, target: Path) -> None:
    """Rename `source` to `target`, whose place it takes."""
    attempts = 20 if sys.platform == "win32" else 1  # a virus scanner may hold the file for a moment
    for attempt in range(attempts):
        try:
            os.replace(source, target)
            return
        except PermissionError:
            if attempt == attempts - 1:
                raise
            time.sleep(0.05)


def sweep(folder: Path) -> None:
    """Remove what interrupted writes left in `folder`: names of our own pattern whose process is gone."""
    for path in folder.glob(f"*{TEMPORARY}"):
        writer = path.name.removesuffix(TEMPORARY).rpartition(".")[2]
        if writer.isdecimal() and not psutil.pid_exists(int(writer)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _matches(path: Path, entry: dict[str, Any], verify: bool) -> bool:
    return path.stat().st_size == entry["size"] and (not verify or sha256(path) == entry["sha256"])


def _write_manifest(folder: Path) -> None:
    entries = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb+") as file:
                _sync(file.fileno())
            name = path.relative_to(folder).as_posix()
            entries[name] = {"size": path.stat().st_size, "sha256": sha256(path)}
    write_json(folder / MANIFEST, {"files": entries})


def _sync(descriptor: int) -> None:
    if sys.platform == "darwin":
        import fcntl

        try:
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
            return
        except OSError:  # not every file system has it
            pass
    os.fsync(descriptor)


def _sync_folder(folder: Path) -> None:
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
