"""A data file as it was found: what it is read as, and opening it so that nothing else is read than what was found.

Only regular files are opened, so a pipe or a device never blocks. A file whose size or time of change is not what it
was when it was found is refused, before and after reading. Whatever the disk or the compression says is an
`InputError` that names the file.
"""

import gzip
import io
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, cast

from localtune.errors import InputError, Problem
from localtune.typed import typed

Kind = Literal["jsonl", "json", "csv", "tsv", "parquet", "txt"]
LONGEST = 16 * 2**20
"""Bytes or characters of a line or of a value of a JSON file; of a CSV cell too. A document of a text file is what it
is: nothing is made of it but text."""


@dataclass(frozen=True)
class File:
    """A file that can be read."""

    path: Path
    shown: str
    """Its name in messages."""
    kind: Kind
    gz: bool
    size: int
    """Bytes on disk."""
    changed: int
    """Time of the last change, nanoseconds."""
    codec: str = "utf-8"
    """Python's name of the encoding; of text only."""
    delimiter: str = ","
    """Of CSV and TSV."""
    passed_over: tuple[str, ...] = ()
    """Columns of a Parquet file that hold neither text nor numbers."""
    said: tuple[str, ...] = ()
    """What was decided and is not obvious, as sentences."""


def regular(path: Path, shown: str) -> os.stat_result:
    """Size and times of the file at `path`; raises `InputError` for what is missing, a folder, a pipe, a device."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        fix = "check the path; in a recipe it counts from the recipe's folder"
        raise InputError(Problem("data.missing", "no such file", shown, fix=fix)) from None
    except (OSError, ValueError) as error:
        raise unreadable(error, shown) from None
    if stat.S_ISDIR(found.st_mode):
        raise InputError(Problem("data.folder", "is a folder, and a file is meant", shown, fix=f"ls {typed(shown)}"))
    if not stat.S_ISREG(found.st_mode):
        what = "is a pipe, a socket or a device: rows are read more than once, so they must be in a file"
        raise InputError(Problem("data.not-a-file", what, shown, fix=f"cat {typed(shown)} > data.jsonl"))
    return found


@contextmanager
def opened(file: File) -> Iterator[BinaryIO]:
    """The bytes of `file`, unpacked, buffered; every failure while they are read is an `InputError`."""
    check_unchanged(file)
    with translated(file.shown), file.path.open("rb") as raw:
        if file.gz:
            yield io.BufferedReader(cast(io.RawIOBase, gzip.GzipFile(fileobj=raw)), 2**18)
        else:
            yield raw
    check_unchanged(file)


def check_unchanged(file: File) -> None:
    """Raise `InputError` when the file is not the one that was found."""
    now = regular(file.path, file.shown)
    if (now.st_size, now.st_mtime_ns) != (file.size, file.changed):
        what = f"has changed since it was found: {file.size:,} bytes then, {now.st_size:,} now"
        raise InputError(Problem("data.changed", what, file.shown, fix="run it again when the file is complete"))


@contextmanager
def translated(shown: str) -> Iterator[None]:
    """Failures of the disk and of gzip inside the block become an `InputError`."""
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        torn = "is torn: the compressed file ends in the middle"
        what = torn if isinstance(error, EOFError) else f"is no sound gzip file: {error}"
        fix = f"copy or download it again, then check it:  gzip -t {typed(shown)}"
        raise InputError(Problem("data.gzip", what, shown, fix=fix)) from None
    except OSError as error:
        raise unreadable(error, shown) from None


def unreadable(error: OSError | ValueError, shown: str) -> InputError:
    """The error for a file that the system refuses."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    fix = f"ls -l {typed(shown)}"
    return InputError(Problem("data.unreadable", f"cannot be read: {reason.lower()}", shown, fix=fix))
