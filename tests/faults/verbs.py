"""Runs command lines one after the other in one process: `python -m tests.faults.verbs`, JSON in and out.

It saves what a process and its imports cost each time. What each prints is taken from the file descriptors, so that
what children and native code print is there, too.
"""

import json
import os
import re
import sys
import tempfile
from collections.abc import Sequence
from typing import IO, TextIO

from localtune import redacted
from localtune.cli import main


def say(arguments: Sequence[str]) -> dict[str, object]:
    """Run one command line; its code and what it printed."""
    environment = dict(os.environ)
    os.environ["SOCKETS_BY"] = " ".join(arguments)
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        code = _code(arguments)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        said = [_text(file) for file in (out, err)]
    os.environ.clear()
    os.environ.update(environment)
    return {"arguments": list(arguments), "code": code, "out": said[0], "err": said[1]}


def _code(arguments: Sequence[str]) -> int:
    streams: tuple[TextIO, TextIO] = sys.stdout, sys.stderr
    sys.argv = ["localtune", *arguments]
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    except Exception:
        sys.excepthook(*sys.exc_info())
        return 1
    finally:
        sys.stdout, sys.stderr = streams
    return 0


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode("utf-8", "replace")


def _redact_nothing() -> None:
    nothing = re.compile("(?!)")
    redacted._home = redacted._tokens = lambda: nothing  # type: ignore[assignment]


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    answers = os.dup(1)
    if not asked["redacted"]:
        _redact_nothing()
    found = [say(line) for line in asked["lines"]]
    os.write(answers, json.dumps(found).encode())
