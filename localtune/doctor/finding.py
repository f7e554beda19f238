"""One thing that was looked at, and the looks themselves: each bounded in time, none able to take another down."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from localtune.errors import safe

Status = Literal["ok", "missing", "warning"]


@dataclass(frozen=True)
class Finding:
    """What was found under one name, and what would mend it."""

    name: str
    """Such as "torch" or "hub cache"."""
    status: Status
    """missing: is not there, or cannot be used; warning: works, but not as it could."""
    text: str
    fix: str = ""
    """A command to type or a change to make; "" with something missing: nothing needs it."""
    needed: bool = False
    """Without it nothing can be trained."""
    group: str = ""
    """What it belongs to; the look that found it sets it."""


@dataclass(frozen=True)
class Look:
    """One question to this machine."""

    group: str
    name: str
    """Of the finding that says so when the look itself fails."""
    find: Callable[[], Iterator[Finding]]
    seconds: float
    """After these it is given up; what it has found by then counts."""
    needed: bool = False


def examine(looks: Sequence[Look]) -> list[Finding]:
    """Every finding in the order of `looks`, which run at the same time."""
    running = [_Running(look) for look in looks]
    return [replace(finding, group=each.look.group) for each in running for finding in each.result()]


def can_train(findings: Sequence[Finding]) -> bool:
    """Whether nothing is missing that training needs."""
    return not any(finding.needed and finding.status == "missing" for finding in findings)


class _Running:
    """A look in a thread of its own, which is left behind when it takes too long."""

    def __init__(self, look: Look) -> None:
        self.look = look
        self._found: list[Finding] = []
        self._end = time.monotonic() + look.seconds
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def result(self) -> list[Finding]:
        self._thread.join(max(0.0, self._end - time.monotonic()))
        late = self._thread.is_alive()
        found = list(self._found)
        return [*found, self._failed(f"gave no answer within {self.look.seconds:g} s")] if late else found

    def _run(self) -> None:
        try:
            for finding in self.look.find():
                self._found.append(finding)
        except Exception as error:
            self._found.append(self._failed(f"could not be looked at: {_reason(error)}"))

    def _failed(self, text: str) -> Finding:
        status: Status = "missing" if self.look.needed else "warning"
        return Finding(self.look.name, status, text, needed=self.look.needed)


def _reason(error: Exception) -> str:
    """The kind of error, and its words only where they cannot hold what a person keeps secret."""
    if isinstance(error, OSError):
        return f"{error.strerror or type(error).__name__} {error.filename or ''}".rstrip()
    return safe(str(error), 200) if isinstance(error, ImportError) else type(error).__name__
