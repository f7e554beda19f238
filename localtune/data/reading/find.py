"""From names to sources: files, folders, patterns, data sets of the hub, or several of these together.

A path that exists wins over a pattern, and both over the hub. Order is sorted by name within a folder or a pattern and
as given between names, so that it depends on nothing else. Nothing in a folder is passed over in silence.
"""

import glob
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from localtune.data.reading import hub
from localtune.data.reading.file import File
from localtune.data.reading.look import READ, kind_of, look
from localtune.data.reading.source import Source
from localtune.errors import InputError, Problem, safe
from localtune.settings import is_hub_data
from localtune.typed import typed

Part = Literal["train", "valid", "test"]
PARTS: dict[str, Part] = {
    "train": "train", "training": "train", "valid": "valid", "validation": "valid", "val": "valid", "dev": "valid",
    "eval": "valid", "test": "test", "testing": "test",
}  # fmt: skip
"""Names of files, without suffix, -> what they are for."""
_SHARD = re.compile(r"(.+?)(?:[-_.]\d+(?:[-_]of[-_]\d+)?)?")
_NOT_ROWS = re.compile(r"(readme|licen[cs]e|changelog|contributing).*|(dataset_infos?|state|datapackage)\.json", re.I)


def find(names: str | Sequence[str], base: Path, separator: str | None = None, first: int = 0) -> Source:
    """What `names` stand for; relative paths count from `base`.

    `separator` stands between the documents of text files; None = a file is one document. `first` is the number of the
    first file. Raises `InputError` for what is not there or cannot be read, `MachineError` for a hub out of reach.
    """
    separator = separator.replace("\r\n", "\n") if separator else None
    given = [names] if isinstance(names, str) else list(names)
    if not given:
        raise InputError(Problem("data.missing", "no file is named", fix="name a file, such as data.jsonl"))
    found = [_one(name, base, separator) for name in given]
    return replace(found[0] if len(found) == 1 else _together(found), first=first)


def _one(name: str, base: Path, separator: str | None) -> Source:
    path = base / name
    if os.path.isdir(path):
        return _folder(name, path, separator)
    if not os.path.lexists(path) and _is_pattern(name):
        return _pattern(name, base, separator)
    if not os.path.lexists(path) and is_hub_data(name) and not _folder_of(name, base):
        return _hub(name)
    return Source(name, (look(path, name, separator),), separator=separator)


def _folder_of(name: str, base: Path) -> bool:
    """Whether `name` is a file that is missing in a folder that is there, and so no data set of the hub."""
    return not name.startswith(hub.SCHEME) and os.path.isdir(base / name.partition("/")[0])


def _together(found: list[Source]) -> Source:
    """Several names: their rows one after another, and their validation and test rows likewise."""
    files = [shown for source in found for shown in source.files]
    twice = sorted({shown for shown in files if files.count(shown) > 1})
    said = tuple(note for source in found for note in source.notes)
    return Source(
        ", ".join(source.name for source in found),
        tuple(part for source in found for part in source.parts),
        _beside([source.valid for source in found]),
        _beside([source.test for source in found]),
        found[0].separator,
        notes=said + tuple(f"{safe(shown, 300)}: named twice, read twice" for shown in twice),
    )


def _beside(found: list[Source | None]) -> Source | None:
    some = [source for source in found if source is not None]
    return _together(some) if len(some) > 1 else next(iter(some), None)


def _is_pattern(name: str) -> bool:
    return any(mark in name for mark in "*?[")


def _pattern(name: str, base: Path, separator: str | None) -> Source:
    found = sorted(glob.glob(name, root_dir=base, recursive=True))
    names = [entry for entry in found if os.path.isfile(base / entry)]
    known = [entry for entry in names if kind_of(Path(entry))]
    if not known:
        what = (
            "no file has a name of this pattern" if not names else f"no file of this pattern is of a known kind; {READ}"
        )
        raise InputError(Problem("data.missing", what, name, fix=f"ls {name}"))
    over = [entry for entry in found if entry not in known and not os.path.isdir(base / entry)]
    notes = _passed_over(name, over, "of no kind that is read")
    files = tuple(look(base / entry, entry, separator) for entry in known)
    return Source(name, files, separator=separator, notes=notes)


def _folder(name: str, path: Path, separator: str | None) -> Source:
    shown = "" if name in (".", "./") else name.rstrip("/") + "/"
    entries = _entries(path, name)
    data = [
        entry
        for entry in entries
        if kind_of(Path(entry)) and not entry.startswith(".") and os.path.isfile(path / entry)
    ]
    parts = {entry: part for entry in data if (part := part_of(entry))}
    rows = [entry for entry in data if entry in parts or not _NOT_ROWS.fullmatch(entry)]
    train = [entry for entry in parts if parts[entry] == "train"] or [entry for entry in rows if entry not in parts]
    if not train:
        raise _no_rows(name, path, entries, parts)

    def source(chosen: list[str], notes: tuple[str, ...] = ()) -> Source:
        files: tuple[File, ...] = tuple(look(path / entry, shown + entry, separator) for entry in chosen)
        return Source(name, files, separator=separator, notes=notes)

    beside = {part: [entry for entry in parts if parts[entry] == part] for part in ("valid", "test")}
    over = [entry for entry in entries if entry not in train and entry not in parts]
    found = source(train, _passed_over(name, over, "no rows for training"))
    return replace(
        found,
        valid=source(beside["valid"]) if beside["valid"] else None,
        test=source(beside["test"]) if beside["test"] else None,
    )


def part_of(entry: str) -> Part | None:
    """What a file is for, as its name tells: train.jsonl, val.csv.gz, test-00000-of-00002.parquet."""
    stem = Path(entry.lower().removesuffix(".gz")).stem
    match = _SHARD.fullmatch(stem)
    return PARTS.get(match[1]) if match else None


def _entries(path: Path, name: str) -> list[str]:
    try:
        return sorted(os.listdir(path))
    except OSError as error:
        what = f"the folder cannot be read: {(error.strerror or str(error)).lower()}"
        raise InputError(Problem("data.unreadable", what, name, fix=f"ls -l {typed(name)}")) from None


def _no_rows(name: str, path: Path, entries: list[str], parts: dict[str, Part]) -> InputError:
    inner = next((entry for entry in entries if os.path.isdir(path / entry) and _holds_data(path / entry)), None)
    shown = name.rstrip("/")
    if parts:
        what = f"the folder holds {', '.join(sorted(set(parts.values())))} rows and none for training"
        return InputError(Problem("data.no-train", what, name, fix=f"name a file in it: {shown}/{next(iter(parts))}"))
    fix = f"name the folder in it: {shown}/{inner}" if inner else f"ls {typed(shown)}"
    return InputError(Problem("data.folder", f"the folder holds no data files; {READ}", name, fix=fix))


def _holds_data(path: Path) -> bool:
    try:
        return any(kind_of(Path(entry)) for entry in os.listdir(path))
    except OSError:
        return False


def _passed_over(name: str, entries: list[str], why: str) -> tuple[str, ...]:
    if not entries:
        return ()
    shown = ", ".join(safe(entry, 80) for entry in entries[:5]) + (", …" if len(entries) > 5 else "")
    return (f"{safe(name, 300)}: passed over, {why}: {shown}",)


def _hub(name: str) -> Source:
    splits = hub.resolve(name)
    found = {part: [split for split in splits if PARTS.get(split.split) == part] for part in ("train", "valid", "test")}
    train = found["train"] or (splits if len(splits) == 1 else [])
    if not train:
        offered = ", ".join(split.split for split in splits)
        what = f"the data set has no split called train; it has {safe(offered, 300)}"
        raise InputError(Problem("data.no-train", what, name, fix="download it and name the file to train on"))
    beside = {part: Source(name, tuple(found[part][:1])) if found[part] and found[part] != train else None
              for part in ("valid", "test")}  # fmt: skip
    return Source(name, tuple(train[:1]), beside["valid"], beside["test"])
