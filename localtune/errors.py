"""What went wrong, where, and the command that mends it: every failure a user can cause or meet ends as one of these.

The exit codes are part of the interface: 1 the run failed, 2 input, 3 environment, 4 resources.
"""

import re
from dataclasses import dataclass
from typing import ClassVar

from localtune.redacted import redact


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, in lower case and without a traceback."""

    code: str
    """Stable name such as "recipe.unknown-key"."""
    what: str
    """The sentence: what is wrong, with the value and what was expected."""
    where: str = ""
    """File, and line and column where there are any: "recipe.yaml:14:3"."""
    evidence: str = ""
    """The offending line, or the largest numbers; several lines are allowed."""
    fix: str = ""
    """A command that can be typed, or the edit to make."""

    def __str__(self) -> str:
        where = f"{self.where}  " if self.where else ""
        lines = [f"error[{self.code}]: {where}{self.what}"]
        lines += [f"  {line}" for line in self.evidence.splitlines()]
        if self.fix:
            lines.append(f"  fix: {self.fix}")
        return "\n".join(safe(line.replace("\n", "\\n"), limit=600) for line in lines)


class LocaltuneError(Exception):
    """One or more problems, reported together."""

    exit_code: ClassVar[int] = 1

    def __init__(self, *problems: Problem) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


class RunFailed(LocaltuneError):
    """The run itself failed: numbers, a crash, a product that could not be made."""

    exit_code = 1


class InputError(LocaltuneError):
    """The recipe, the data, the model or the command line is wrong."""

    exit_code = 2


class MachineError(LocaltuneError):
    """Something this machine lacks: a backend, a licence accepted, a connection."""

    exit_code = 3


class ResourceError(LocaltuneError):
    """It does not fit: memory or disk."""

    exit_code = 4


_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


_BEHIND = 4096
"""Characters looked at behind the last one shown: a token that ends there must not be shown by half."""


def safe(text: str, limit: int = 2000) -> str:
    """`text` for a screen, as `escaped`, and with tokens and the home folder redacted."""
    return escaped(redact(text[: limit + _BEHIND]), limit)


def escaped(text: str, limit: int = 2000, keep: str = "") -> str:
    """`text` with control, bidirectional and zero-width characters as escapes; at most `limit` characters.

    The characters of `keep` are shown as they are. For content, which is shown word for word: rows, a model's answers.
    """

    def shown_as(match: re.Match[str]) -> str:
        found = match.group()
        return found if found in keep else found.encode("unicode_escape", "surrogatepass").decode()

    shown = _UNSAFE.sub(shown_as, text[: limit + 1])
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"
