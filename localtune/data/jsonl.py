"""JSONL files that appear whole or not at all: written beside their place, flushed, then renamed."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from localtune.durable import new_path
from localtune.errors import InputError, Problem

Write = Callable[[dict[str, Any]], None]
"""Appends one row."""


def line_of(value: dict[str, Any]) -> bytes:
    """`value` as a line: keys in their order, text as it is, UTF-8."""
    try:
        return (json.dumps(value, ensure_ascii=False, default=str) + "\n").encode("utf-8")
    except UnicodeEncodeError:  # half a surrogate pair has no UTF-8; as an escape it stays what it is
        return (json.dumps(value, default=str) + "\n").encode("ascii")


def refuse_existing(path: Path, force: bool) -> None:
    """Raise `InputError` where something is at `path`, unless `force` is to replace a file."""
    if os.path.isdir(path):
        raise InputError(Problem("data.exists", "is a folder", str(path), fix="name a file"))
    if os.path.exists(path) and not force:
        raise InputError(Problem("data.exists", "is there already", str(path), fix="-o another.jsonl, or --force"))


@contextmanager
def new_jsonl(path: Path, *, force: bool = False) -> Iterator[Write]:
    """A function that appends rows to a file; the file is at `path` once the block has ended without an error.

    Raises `InputError` where a file is there already, unless `force` is to replace it. Folders are made.
    """
    refuse_existing(path, force)
    path.parent.mkdir(parents=True, exist_ok=True)
    with new_path(path) as temporary, temporary.open("wb") as file:
        yield lambda value: _append(file, value)


def _append(file: BinaryIO, value: dict[str, Any]) -> None:
    file.write(line_of(value))
