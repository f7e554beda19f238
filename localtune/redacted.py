"""What is nobody else's business stays out of what is said and written: the values of tokens, and the home folder.

A token is what the hub's library reads from the environment or keeps on disk, what looks like one, and the value of any
other variable named …TOKEN, …KEY, …SECRET or …PASSWORD, if it looks like a secret: dummies, such as "lm-studio", are
ordinary words elsewhere. Where a person reads, the home folder is `~`; what a program reads (JSON, a run's events, the
`path` verbs, and a product's path on a stdout that is no terminal) keeps whole paths, but no token.
"""

import os
import re
import sys
from collections.abc import Callable, Iterator
from functools import cache
from typing import TextIO, cast

SHORTEST = 8
"""Characters of the shortest token that the hub's library is given: a shorter value would hide ordinary words."""
LONG = 16
"""Characters of the shortest value of another variable that is taken for a secret."""
HIDDEN = "***"
SHAPES = (
    r"\bhf_[A-Za-z0-9]{20,}|\bsk-[A-Za-z0-9_-]{20,}|\bgh[pousr]_[A-Za-z0-9]{36}|\bgithub_pat_[A-Za-z0-9_]{22,}|"
    r"\bAKIA[0-9A-Z]{16}\b|\bxox[abprs]-[A-Za-z0-9-]{10,}"
)
"""Tokens of the hub, of OpenAI, GitHub, Amazon and Slack."""
_NAMES = re.compile(r"(?:^|_)(?:TOKEN|KEY|SECRET|PASSWORD)$", re.IGNORECASE)
_OF_THE_HUB = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
_SAID = "LOCALTUNE_SERVE_KEY"
"""`localtune serve --json` says it: clients are told by that what to send."""
_SECRET = re.compile(rf"(?=.{{{LONG}}})(?:.*\d|(?=.*[a-z]).*[A-Z])")
"""Long enough, with a digit or in mixed case."""
_COLOURED = "|".join(rf"(?<=\x1b\[[\d;]{{{length}}}m.)" for length in range(40))
"""Behind a terminal's code for colours, whose "m" is no letter of a word; a look behind has one length."""
_MOST = 1 << 16
"""Bytes that are read of a file of tokens."""


def redact(text: str) -> str:
    """`text` for a person: tokens hidden, `~` for the home folder."""
    return _home().sub("~", without_tokens(text))


def without_tokens(text: str) -> str:
    """`text` with its tokens hidden, and paths as they are."""
    return _tokens().sub(HIDDEN, text)


def from_home(path: str) -> str | None:
    """What follows the home folder and a separator in `path`, "" for that folder itself; None for any other path."""
    found = _home().match(path)
    rest = path[found.end() :] if found else "."
    return rest.lstrip("/\\") if rest[:1] in ("", "/", "\\") else None


def guard() -> None:
    """From now on no token leaves this process by `sys.stdout`, and neither token nor home folder by `sys.stderr`."""
    sys.stdout = cast(TextIO, _Guarded(sys.stdout, without_tokens))
    sys.stderr = cast(TextIO, _Guarded(sys.stderr, redact))


def forget() -> None:
    """Look anew at the environment and the disk when next asked."""
    _home.cache_clear()
    _tokens.cache_clear()


class _Guarded:
    """A stream whose text goes through a function first."""

    def __init__(self, stream: TextIO, clean: Callable[[str], str]) -> None:
        self._stream, self._clean = stream, clean

    def write(self, text: str) -> int:
        self._stream.write(self._clean(text))
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> object:
        if name == "buffer" and self._stream.isatty():  # click writes into that of a Windows console
            raise AttributeError(name)
        return getattr(self._stream, name)


@cache
def _home() -> re.Pattern[str]:
    """The home folder as written here or in JSON, where a path can begin; after "\\n" written as an escape, too."""
    home = os.path.expanduser("~")
    found = {_written(each) for each in (home, os.path.realpath(home)) if os.path.isabs(home)} - {""}
    flags = re.IGNORECASE if sys.platform == "win32" else 0
    return re.compile(rf"(?:{'|'.join(sorted(found, key=len, reverse=True)) or '(?!)'})(?![\w-]|\.\w)", flags)


def _written(home: str) -> str:
    """Its first character comes first in the pattern: that is looked for fast. "" for the root of all folders."""
    first, names = home[0], [re.escape(name) for name in re.split(r"[/\\]+", home[1:]) if name]
    if not names or names == [":"]:
        return ""
    return rf"{re.escape(first)}(?:(?<![\w.~-].)|(?<=\\[nrt].)|(?<=m.)(?:{_COLOURED}))" + r"[/\\]+".join(names)


@cache
def _tokens() -> re.Pattern[str]:
    values = {value for value in (*_of_environment(), *_of_disk()) if len(value) >= SHORTEST}
    return re.compile("|".join([*map(re.escape, sorted(values, key=len, reverse=True)), SHAPES]))


def _of_environment() -> Iterator[str]:
    for name, value in os.environ.items():
        if _NAMES.search(name) and name != _SAID:
            lines = map(str.strip, value.splitlines())
            yield from lines if name in _OF_THE_HUB else filter(_SECRET.match, lines)


def _of_disk() -> Iterator[str]:
    """What `hf auth login` has written: the token in use, and all of them as lines "name = token"."""
    where = os.environ
    caches = where.get("XDG_CACHE_HOME") or "~/.cache"
    folder = os.path.expanduser(where.get("HF_HOME") or f"{caches}/huggingface")
    token = os.path.expanduser(where.get("HF_TOKEN_PATH") or f"{folder}/token")
    for path in {token, f"{os.path.dirname(token)}/stored_tokens", f"{folder}/stored_tokens"}:
        try:
            with open(path, "rb") as file:
                lines = file.read(_MOST).decode("utf-8", "replace").splitlines()
        except (OSError, ValueError):
            continue
        for line in lines:
            yield from () if line.startswith("[") else (line.strip(), line.partition("=")[2].strip())
