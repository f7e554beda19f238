"""Rows that a user keeps of a conversation: lines appended to JSONL files, never in the place of another."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localtune.data.conversations import Message
from localtune.data.jsonl import line_of
from localtune.durable import append, settle
from localtune.errors import InputError, Problem

MOST = 100
"""Answers of a chat that can still be rated."""
_LOOK = 1 << 20
"""Bytes of a first line that are looked at."""


def keep(row: dict[str, Any], path: Path) -> None:
    """Append `row` to the JSONL file `path` in one write; the file and its folders are made where they are missing.

    Raises `InputError` for a file that holds something else, and what the system refuses.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        append(path, b"")  # so that it is there, and may be written
        if not _holds_rows(path):
            what = "holds no rows of JSON, and is left as it is"
            raise InputError(Problem("chat.save", what, str(path), fix="name another file, such as chat.jsonl"))
        append(path, _gap(path) + line_of(row))
        settle(path)
    except (OSError, ValueError) as error:  # a ValueError is a name with a zero byte
        why = getattr(error, "strerror", None) or error
        fix = "name a file in a folder that you may write to"
        raise InputError(Problem("chat.save", f"cannot be written: {why}", str(path), fix=fix)) from None


def row_of(heard: Sequence[Message], answer: str, *, template: bool) -> dict[str, Any]:
    """An answer as a row of data: all that was heard before it, of which only this answer is learned.

    Without a template nothing but the question was heard, and the row is prompt and completion.
    """
    if not template:
        return {"prompt": heard[-1].content, "completion": answer}
    earlier = [
        {"role": turn.role, "content": turn.content} | ({"weight": 0} if turn.role == "assistant" else {})
        for turn in heard
    ]
    return {"messages": [*earlier, {"role": "assistant", "content": answer}]}


@dataclass
class _Answered:
    heard: Sequence[Message]
    text: str
    whole: bool
    """It was not cut off."""
    rated: str = ""


class Kept:
    """The last answers of a chat by their ids, to be kept as good or bad once their user says so."""

    def __init__(self) -> None:
        self._answers: dict[int | str, _Answered] = {}

    def note(self, number: int | str, heard: Sequence[Message], text: str, *, whole: bool) -> None:
        """Remember what was answered; the oldest of more than `MOST` is forgotten."""
        self._answers.pop(number, None)
        self._answers[number] = _Answered(heard, text, whole)
        if len(self._answers) > MOST:
            del self._answers[next(iter(self._answers))]

    def rate(self, number: int | str, folder: Path, *, good: bool, template: bool) -> Path:
        """Append an answer to good.jsonl or bad.jsonl of `folder`, and return the file. Raises `InputError`."""
        found, kind = self._answers.get(number), "good" if good else "bad"
        if found is None or not found.text:
            raise InputError(Problem("chat.rating", "there is no such answer to rate"))
        if found.rated:
            raise InputError(Problem("chat.rating", f"this answer is noted as {found.rated} already"))
        if good and not found.whole:
            raise InputError(Problem("chat.rating", "the answer was cut off, and would teach to stop there"))
        path = folder / f"{kind}.jsonl"
        keep(row_of(found.heard, found.text, template=template), path)
        found.rated = kind
        return path


def _gap(path: Path) -> bytes:
    """What ends the last line of a file where that has no end."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        return b"\n" if size and file.read(1) != b"\n" else b""


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
