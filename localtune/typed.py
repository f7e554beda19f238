"""Command lines as they can be typed here: what every command that is shown to somebody is put together with.

A POSIX shell takes single quotes; cmd.exe only double ones, and gives the line to the program, which splits it by the
rules of Microsoft's C runtime. A POSIX shell puts in the home folder for `~`. On Windows it is spelled out: cmd.exe and
PowerShell agree on no name for it. Where that is shown with `~\\…`, localtune's own commands put it in themselves
(there click does so for every argument); other programs do not.
"""

import re
import shlex
import sys
from pathlib import Path

from localtune.redacted import from_home

WINDOWS = sys.platform == "win32"
_PLAIN = re.compile(r"[\w./\\:+=~%-]+")
"""What neither cmd.exe nor PowerShell takes for more than a word."""


def typed(*words: str | Path, windows: bool = WINDOWS) -> str:
    """`words` as a line, each of them one word for the program whatever it holds."""
    return " ".join(_for_cmd(str(word)) if windows else _for_posix(str(word)) for word in words)


def _for_posix(word: str) -> str:
    """No shell sees a home folder in a quoted "~"."""
    below = from_home(word)
    return shlex.quote(word) if below is None else "~/" + (shlex.quote(below) if below else "")


def _for_cmd(word: str) -> str:
    """As `subprocess.list2cmdline`, but quoted too where cmd.exe would break the line off, as at "&"."""
    if _PLAIN.fullmatch(word):
        return word
    escaped = re.sub(r'(\\*)("|$)', lambda found: found[1] * 2 + found[2].replace('"', '\\"'), word)
    return f'"{escaped}"'
