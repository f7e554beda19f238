"""What a name of the recipe stands for, and its rows."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Optional

from localtune.data.reading import document, hub, json_list, jsonl, parquet, table
from localtune.data.reading.file import File, check_unchanged, translated
from localtune.data.reading.hub import Split
from localtune.data.rows import BadRows, Row
from localtune.errors import InputError, Problem


@dataclass(frozen=True)
class Source:
    """Files, or a part of a data set of the hub."""

    name: str
    """As given; several names with commas between."""
    parts: tuple[File | Split, ...]
    """In the order they are read."""
    valid: Optional["Source"] = None
    """The validation rows that a folder or a data set of the hub offers beside."""
    test: Optional["Source"] = None
    """The test rows likewise."""
    separator: str | None = None
    """Between the documents of a text file."""
    first: int = 0
    """Number of the first part."""
    notes: tuple[str, ...] = ()
    """What was passed over when the names were looked up."""

    @property
    def files(self) -> tuple[str, ...]:
        """Shown names in order: part i has the number `first` + i."""
        return tuple(part.shown for part in self.parts)

    def rows(self, bad: BadRows) -> Iterator[Row]:
        """All rows, lazily; unusable ones go to `bad`. Raises `InputError` for a file without any, and for one that
        broke off, vanished or changed since it was found; `MachineError` where the hub is out of reach.
        """
        for number, part in enumerate(self.parts, start=self.first):
            before, rows = bad.count, self._rows_of(part, number, bad)
            row = next(rows, None)
            if row is not None:
                yield row
                yield from rows
            elif bad.count == before:
                raise InputError(Problem("data.empty", "holds no rows", part.shown, fix="name a file with rows"))

    def said(self) -> tuple[str, ...]:
        """How it is read, where that is not obvious, as sentences."""
        return self.notes + tuple(sentence for part in self.parts for sentence in part.said)

    def fingerprint(self) -> str:
        """SHA-256 over names, sizes and contents of the files, or over the names and commits of the hub; as hex."""
        total = hashlib.sha256(json.dumps([self.separator, len(self.parts)]).encode())
        for part in self.parts:
            about = [part.shown, part.size, _content(part)] if isinstance(part, File) else part.identity
            total.update(json.dumps(about).encode())
        return total.hexdigest()

    def hashes(self) -> tuple[str, ...]:
        """SHA-256 of each file's bytes as hex; the commit of a data set of the hub, "" of one in a folder."""
        return tuple(_content(part) if isinstance(part, File) else part.revision or "" for part in self.parts)

    def numbered(self, first: int) -> "Source":
        """The same, its first part having the number `first`."""
        return replace(self, first=first)

    def _rows_of(self, part: File | Split, number: int, bad: BadRows) -> Iterator[Row]:
        if isinstance(part, Split):
            return hub.rows(part, number, bad)
        if part.kind == "txt":
            return document.rows(part, number, bad, self.separator)
        readers = {"jsonl": jsonl, "json": json_list, "csv": table, "tsv": table, "parquet": parquet}
        read: Iterator[Row] = readers[part.kind].rows(part, number, bad)
        return read


def _content(file: File) -> str:
    """SHA-256 of the bytes on disk, as hex."""
    check_unchanged(file)
    with translated(file.shown), file.path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
