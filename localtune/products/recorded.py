"""Exported files that may go to others: those of the record beside them, as they were when they were compared.

A card says of each file what was compared; of any other file, or of one that was changed since, that would be untrue.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from localtune.errors import InputError, Problem
from localtune.modelcard import CARD
from localtune.products import RECORD
from localtune.products.card import record_of
from localtune.products.delivery import is_made_card
from localtune.runs.files import sha256


def recorded(folder: Path) -> dict[str, Any]:
    """The record in `folder`, of the files alone that are there and did not fail; empty without one.

    Raises `InputError` (push.changed) where one of them is not the file that was entered.
    """
    record = record_of(folder, RECORD)
    files = {name: entry for name, entry in _sendable(record).items() if (folder / name).is_file()}
    problems = [
        Problem("push.changed", "is not the file that was exported: its content was changed since", str(folder / name),
                fix="move it away and export again, then push")
        for name, entry in files.items() if not _is(folder / name, entry)
    ]  # fmt: skip
    if problems:
        raise InputError(*problems)
    return record | {"files": files} if record else {}


def refuse_stale_card(folder: Path) -> None:
    """Raise `InputError` (push.changed) where a card of ours speaks of files that are gone."""
    gone = [name for name in _sendable(record_of(folder, RECORD)) if not (folder / name).is_file()]
    if gone and is_made_card(folder / CARD):
        what = f"says what was compared of {', '.join(gone)}, which is no longer there"
        fix = "export again, which writes the card again, then push"
        raise InputError(Problem("push.changed", what, str(folder / CARD), fix=fix))


def _sendable(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: entry for name, entry in record.get("files", {}).items() if entry["passed"] is not False}


def _is(path: Path, entry: Mapping[str, Any]) -> bool:
    return bool(path.stat().st_size == entry["size"] and sha256(path) == entry["sha256"])
