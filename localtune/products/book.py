"""The record beside exported files: `proof.json`, with each file's size, hash and proof.

A file that is there but not in the record was not written by an export and is never replaced. Before a file gets its
name it is announced, under "coming": a kill at any moment leaves either the file that stands in the record, or the
announced one, which then counts.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from localtune.errors import InputError, Problem
from localtune.products import RECORD, failure, set_aside
from localtune.products.source import Source
from localtune.proof import Proof
from localtune.runs.files import read_json, replace, sha256, write_json
from localtune.runs.lock import RunLock

LOCK = ".export.lock"
"""In the folder of the files while they are made."""


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
        if not _is(path, entry):
            what = "is there already, and no export from here wrote it"
            raise InputError(Problem("export.exists", what, str(path), fix="move it away, or  -o OTHER"))
        lineage = entry.get("lineage", {})
        own = source.run is not None and source.folder == source.run.export
        if not own and "lineage" in entry and _origin(lineage) != _origin(source.identity.lineage):
            what = f"is there already, made of {lineage.get('run', 'another model')}"
            raise InputError(Problem("export.exists", what, str(path), fix="move it away, or  -o OTHER"))


def enter(source: Source, temporary: Path, path: Path, proof: Proof | None, conversion: Proof | None = None) -> None:
    """Give the file at `temporary` the name `path`, and enter it in the record beside it; forget files that are gone.

    `conversion` is the proof of the exact file that was written for that alone.
    """
    book = path.parent / RECORD
    there, made = _files_in(book), {path.name: _entry(source, temporary, proof, conversion)}
    write_json(book, {"files": there, "coming": made})
    replace(temporary, path)
    write_json(book, {"files": there | made})


def rejected(source: Source, proof: Proof, temporary: Path, path: Path) -> Exception:
    """Keep what failed its proof under a name that says so; the error to raise."""
    aside, book = set_aside(temporary, path.with_name(f"{path.stem}.failed.gguf")), path.parent / RECORD
    write_json(book, {"files": _files_in(book) | {aside.name: _entry(source, aside, proof)}})
    return failure(proof, aside, book)


def summary(proof: Proof | None) -> str:
    """What the file itself says of its proof."""
    if proof is None:
        return json.dumps({"passed": None})
    figures = {check.name: check.figures for check in proof.checks if check.name in ("file", "training")}
    checks = {check.name: check.passed for check in proof.checks}
    whole = {"passed": proof.passed, "positions": proof.positions, "rows": proof.rows, "checks": checks} | figures
    return json.dumps(whole | {"losses": dict(proof.losses)}, default=float)


def _entry(source: Source, path: Path, proof: Proof | None, conversion: Proof | None = None) -> dict[str, Any]:
    """What is said of the file, which now is at `path`."""
    made = {"size": path.stat().st_size, "sha256": sha256(path), "lineage": dict(source.identity.lineage)}
    found = proof.to_json() if proof else {"passed": None}
    return made | found | ({"conversion": conversion.to_json()} if conversion else {})


def _origin(lineage: Mapping[str, str]) -> object:
    """What is the same of all files of one origin: the run, else whatever else is known of it."""
    return lineage.get("run") or {key: value for key, value in lineage.items() if key != "version"}


def _is(path: Path, entry: Mapping[str, Any]) -> bool:
    """Whether the file at `path` is the one that `entry` is of."""
    return entry.get("size") == path.stat().st_size and entry.get("sha256") == sha256(path)


def _files_in(book: Path) -> dict[str, Any]:
    """What an export's record says of the files that are there."""
    if not book.exists():
        return {}
    try:
        record = read_json(book)
        files, coming = record["files"], record.get("coming", {})
    except (InputError, KeyError):
        files = coming = None
    if not all(isinstance(part, dict) and all(isinstance(e, dict) for e in part.values()) for part in (files, coming)):
        what = "is there already, and is not the record of an export"
        raise InputError(Problem("export.exists", what, str(book), fix="move it away, or  -o OTHER"))
    there = {name: entry for name, entry in files.items() if (book.parent / name).is_file()}
    came = {name: entry for name, entry in coming.items() if (at := book.parent / name).is_file() and _is(at, entry)}
    return there | came
