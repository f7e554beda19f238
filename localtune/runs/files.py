"""Folders and JSON that survive a crash at any moment, by the means of `localtune.durable`.

A folder is written under a temporary name, with a `manifest.json` of sizes and SHA-256 last, and renamed; one without a
valid manifest does not count. One that replaces another moves it aside first; a crash just between leaves neither until
the next `sweep`, or the next write, puts the old one back.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from localtune.durable import (
    TEMPORARY,
    append,
    aside_of,
    clear,
    folder_size,
    replace,
    settle,
    sha256,
    sweep,
    sync_folder,
    temporary_of,
    write_bytes,
)
from localtune.errors import InputError, Problem

__all__ = [
    "FORMAT", "MANIFEST", "TEMPORARY", "altered", "append_line", "folder_size", "is_complete", "new_folder",
    "read_json", "replace", "settle", "sha256", "sweep", "write_bytes", "write_json",
]  # fmt: skip

FORMAT = 1
MANIFEST = "manifest.json"


def write_json(path: Path, value: dict[str, Any], *, durable: bool = True) -> None:
    """Replace `path` by `value` with its format number."""
    text = json.dumps({"format": FORMAT} | value, indent=2, ensure_ascii=False, allow_nan=False)
    write_bytes(path, (text + "\n").encode("utf-8", "backslashreplace"), durable=durable)


def read_json(path: Path) -> dict[str, Any]:
    """The object in `path`. Raises `InputError` when it is absent, torn or of another format."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(Problem("run.unreadable", f"cannot be read: {error}", where=str(path))) from None
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise InputError(Problem("run.format", "was written by another version of localtune", where=str(path)))
    return value


def append_line(path: Path, line: str) -> int:
    """Append `line` whole or not at all and return the file's new size."""
    return append(path, (line + "\n").encode("utf-8", "backslashreplace"))


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A temporary folder that becomes `path`, complete with its manifest, when the block ends without an error."""
    clear(path)
    temporary, aside = temporary_of(path), aside_of(path)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        _write_manifest(temporary)
        if path.exists():
            replace(path, aside)
        replace(temporary, path)
        sync_folder(path.parent)
    except BaseException:
        with suppress(OSError):
            clear(path)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def is_complete(folder: Path, *, verify: bool = False) -> bool:
    """Whether `folder` holds everything its manifest names, in the right sizes; `verify` also hashes."""
    try:
        files = read_json(folder / MANIFEST)["files"]
        return all(_matches(folder, name, entry, verify) for name, entry in files.items())
    except (InputError, OSError, KeyError, TypeError, ValueError, AttributeError):
        return False


def altered(folder: Path) -> list[str]:
    """Names in `folder` that are not as its manifest has them; the manifest's own where that is not to be read."""
    try:
        files = read_json(folder / MANIFEST)["files"]
        return [name for name, entry in files.items() if not _as_written(folder, name, entry)]
    except (InputError, KeyError, TypeError, AttributeError):
        return [MANIFEST]


def _as_written(folder: Path, name: str, entry: dict[str, Any]) -> bool:
    try:
        return _matches(folder, name, entry, verify=True)
    except (OSError, ValueError):
        return False


def _matches(folder: Path, name: str, entry: dict[str, Any], verify: bool) -> bool:
    path = folder / name
    if ".." in path.parts or not path.is_relative_to(folder):
        raise ValueError(f"{name!r} leads out of the folder")
    return path.stat().st_size == entry["size"] and (not verify or sha256(path) == entry["sha256"])


def _write_manifest(folder: Path) -> None:
    entries = {}
    for path in sorted(folder.rglob("*")):
        if path.is_dir():
            sync_folder(path)
        elif path.is_file():
            entries[path.relative_to(folder).as_posix()] = {"size": settle(path), "sha256": sha256(path)}
    write_json(folder / MANIFEST, {"files": entries})
