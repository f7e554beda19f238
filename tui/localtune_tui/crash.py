"""What is kept and said when the app itself fails: the traceback goes to a file, a sentence to the screen.

Neither names tokens or the home folder: such a file is attached to reports.
"""

import sys
import traceback
from pathlib import Path

from localtune.durable import write_bytes
from localtune.errors import Problem
from localtune.redacted import redact

NAME = "crash.txt"


def keep(folder: Path) -> str:
    """Write the traceback of the exception that is being handled into `folder`; the sentence to leave with."""
    error = sys.exception()
    path = folder / NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_bytes(path, redact(traceback.format_exc()).encode("utf-8", "backslashreplace"))
        where = str(path)
    except OSError:
        where = ""
    what = f"the app has failed: {type(error).__name__}: {error}; runs go on without it"
    return str(Problem("tui.internal", what, where, fix="localtune  opens it again; please report it"))
