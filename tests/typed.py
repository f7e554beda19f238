"""What a program gets of a line that is typed here."""

import re
import shlex

from localtune.typed import WINDOWS


def words(line: str, *, windows: bool = WINDOWS) -> list[str]:
    """`line` split as a POSIX shell does, or as a program on Windows splits its own."""
    return _by_microsoft(line) if windows else shlex.split(line)


def _by_microsoft(line: str) -> list[str]:
    """2n backslashes before a double quote are n and the quote opens or closes; one more, and it is a character."""
    found, word, quoted = list[str](), None, False
    for slashes, other in re.findall(r"(\\*)([^\\]|$)", line):
        if other == '"':
            word = (word or "") + slashes[: len(slashes) // 2]
            if len(slashes) % 2:
                word += other
            else:
                quoted = not quoted
        elif other in ("", " ", "\t") and not quoted:
            word = (word or "") + slashes if slashes else word
            found += [word] if word is not None else []
            word = None
        else:
            word = (word or "") + slashes + other
    return found
