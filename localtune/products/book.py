"""The record beside exported files: `proof.json`, with each file's size, hash and proof.

A file that is there but not in the record was not written by an export and is never replaced.
"""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from localtune.errors import InputError, Problem
from localtune.products import RECORD, failure, set_aside
from localtune.products.source import Source
from localtune.proof import Proof
from localtune.runs.files import TEMPORARY, read_json, sha256, write_json
from localtune.runs.lock import RunLock

LOCK = ".export.lock"
"""In the folder of the files while they are made."""


def temporary_of(path: Path) -> Path:
    """The name under which `path` is written."""
    return path.with_name(f"{path.name}.{os.getpid()}{TEMPORARY}")


@contextmanager
def exporting(folder: Path) -> Iterator[None]:
    """Nobody else exports into `folder` meanwhile. Raises `InputError` when somebody does."""
    lock = RunLock(folder, LOCK)
    try:
        lock.__enter__()
    except InputError:
        what, fix = "another export is writing to this folder", "wait for it to end, or  -o OTHER"
        raise InputError(Problem("export.busy", what, str(folder), fix=fix)) from None
    try:
        yield
    finally:
        with suppress(OSError):
            lock.path.unlink(missing_ok=True)
        lock.__exit__(None, None, None)


def refuse_foreign(source: Source, names: Sequence[str]) -> None:
    """Raise `InputError` where a file of these names, or the record beside them, is not from an export of `source`."""
    known = _files_in(source.folder / RECORD)
    for name in names:
        path, entry = source.folder / name, known.get(name, {})
        if not path.exists():
            continue
        if entry.get("size") != path.stat().st_size or entry.get("sha256") != sha256(path):
            what = "is there already, and no export from here wrote it"
            raise InputError(Problem("export.exists", what, str(path), fix="move it away, or  -o OTHER"))
        run = entry.get("lineage", {}).get("run")
        own = source.run is not None and source.folder == source.run.export
        if not own and "lineage" in entry and run != source.identity.lineage.get("run"):
            what = f"is there already, made of {run or 'another model'}"
            raise InputError(Problem("export.exists", what, str(path), fix="move it away, or  -o OTHER"))


def enter(source: Source, path: Path, name: str, proof: Proof | None) -> None:
    """Enter the file, which now is at `path`, as `name` in the record beside it; forget files that are gone."""
    book = source.folder / RECORD
    there = {key: entry for key, entry in _files_in(book).items() if (source.folder / key).is_file()}
    entry = proof.to_json() if proof else {"passed": None}
    made = {"size": path.stat().st_size, "sha256": sha256(path), "lineage": dict(source.identity.lineage)}
    write_json(book, {"files": there | {name: made | entry}})


def rejected(source: Source, proof: Proof, temporary: Path, path: Path) -> Exception:
    """Keep what failed its proof under a name that says so; the error to raise."""
    aside = set_aside(temporary, path.with_name(f"{path.stem}.failed.gguf"))
    enter(source, aside, aside.name, proof)
    return failure(proof, aside, source.folder / RECORD)


def summary(proof: Proof | None) -> str:
    """What the file itself says of its proof."""
    if proof is None:
        return json.dumps({"passed": None})
    figures = {check.name: check.figures for check in proof.checks if check.name in ("file", "training")}
    checks = {check.name: check.passed for check in proof.checks}
    whole = {"passed": proof.passed, "positions": proof.positions, "rows": proof.rows, "checks": checks} | figures
    return json.dumps(whole | {"losses": dict(proof.losses)}, default=float)


def _files_in(book: Path) -> dict[str, Any]:
    """What an export's record says of its files."""
    if not book.exists():
        return {}
    try:
        files = read_json(book)["files"]
    except (InputError, KeyError):
        files = None
    if not isinstance(files, dict) or not all(isinstance(entry, dict) for entry in files.values()):
        what = "is there already, and is not the record of an export"
        raise InputError(Problem("export.exists", what, str(book), fix="move it away, or  -o OTHER"))
    return files
