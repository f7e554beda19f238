"""What the tests of the doctor share."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from localtune.doctor import Finding

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="fakes are shell scripts")


def program(folder: Path, name: str, script: str = "exit 0") -> None:
    """A program of that name that runs `script`."""
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def only(find: Callable[[], Iterator[Finding]]) -> Finding:
    """The one finding of a look."""
    (finding,) = find()
    return finding
