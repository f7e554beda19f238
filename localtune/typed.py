"""Command lines as they can be typed here: what every command that is shown to somebody is put together with.

A POSIX shell takes single quotes; cmd.exe only double ones, and gives the line to the program, which splits it by the
rules of Microsoft's C runtime.
"""

import re
import shlex
import sys
from pathlib import Path

WINDOWS = sys.platform == "win32"
_PLAIN = re.compile(r"[\w./\\:+=~%-]+")
"""What neither cmd.exe nor PowerShell takes for more than a word."""


def typed(*words: str | Path, windows: bool = WINDOWS) -> str:
    """`words` as a line, each of them one word for the program whatever it holds."""
    return " ".join(_for_cmd(str(word)) if windows else shlex.quote(str(word)) for word in words)


def _for_cmd(word: str) -> str:
    """As `subprocess.list2cmdline`, but quoted too where cmd.exe would break the line off, as at "&"."""
    if _PLAIN.fullmatch(word):
        return word
    escaped = re.sub(r'(\\*)("|$)', lambda found: found[1] * 2 + found[2].replace('"', '\\"'), word)
    return f'"{escaped}"'
