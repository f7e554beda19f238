"""Rows that a user keeps of a conversation: lines appended to JSONL files, never in the place of another."""

import json
import os
from pathlib import Path
from typing import Any

from localtune.data.jsonl import line_of
from localtune.errors import InputError, Problem

_LOOK = 1 << 20
"""Bytes of a first line that are looked at."""


def keep(row: dict[str, Any], path: Path) -> None:
    """Append `row` to the JSONL file `path` in one write; the file and its folders are made where they are missing.

    Raises `InputError` for a file that holds something else, and what the system refuses.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b", buffering=0) as file:
            if not _holds_rows(path):
                what = "holds no rows of JSON, and is left as it is"
                raise InputError(Problem("chat.save", what, str(path), fix="name another file, such as chat.jsonl"))
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 1))
            gap = b"\n" if size and file.read(1) != b"\n" else b""
            file.write(gap + line_of(row))
            os.fsync(file.fileno())
    except (OSError, ValueError) as error:  # a ValueError is a name with a zero byte
        why = getattr(error, "strerror", None) or error
        fix = "name a file in a folder that you may write to"
        raise InputError(Problem("chat.save", f"cannot be written: {why}", str(path), fix=fix)) from None


def _holds_rows(path: Path) -> bool:
    """Whether a file is empty or begins with a JSON object on a line of its own."""
    with path.open("rb") as file:
        first = file.readline(_LOOK)
        if not first.strip():
            return not file.read(_LOOK).strip()
    try:
        return isinstance(json.loads(first), dict)
    except (ValueError, RecursionError):
        return False
