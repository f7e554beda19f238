"""What is kept and said when the app itself fails: the traceback goes to a file, a sentence to the screen."""

import sys
import traceback
from pathlib import Path

from localtune.errors import Problem

NAME = "crash.txt"


def keep(folder: Path) -> str:
    """Write the traceback of the exception that is being handled into `folder`; the sentence to leave with."""
    error = sys.exception()
    path = folder / NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(traceback.format_exc(), encoding="utf-8", errors="backslashreplace")
        where = str(path)
    except OSError:
        where = ""
    what = f"the app has failed: {type(error).__name__}: {error}; runs go on without it"
    return str(Problem("tui.internal", what, where, fix="localtune  opens it again; please report it"))
