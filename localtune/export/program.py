"""Other people's programs, run with a list of arguments: how they ended and what they said."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from localtune.errors import LocaltuneError, MachineError, Problem, ResourceError, RunFailed

_NO_SPACE = ("No space left on device", "There is not enough space on the disk", "Disk quota exceeded")
_SHOWN = 12
"""Lines of what a program said last that stand in an error."""


@dataclass(frozen=True)
class Ended:
    """A program that ran."""

    code: int
    output: str
    """Both its streams, as they came."""

    @property
    def last(self) -> str:
        """The end of what it said."""
        return "\n".join([line for line in self.output.splitlines() if line.strip()][-_SHOWN:])


def run(command: Sequence[str]) -> Ended:
    """Run a program to its end, without a shell or a terminal. Raises `MachineError` where it cannot be started."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
        )
    except OSError as error:
        what, fix = f"cannot be started: {error.strerror or error}", "check that it is a program for this machine"
        raise MachineError(Problem("gguf.program", what, command[0], fix=fix)) from None
    return Ended(done.returncode, done.stdout.decode("utf-8", "replace"))


def failure(code: str, ended: Ended, program: str, target: Path) -> LocaltuneError:
    """The error for a program that did not write `target`."""
    if any(words in ended.output for words in _NO_SPACE):
        what = "the disk is full, or your share of it is"
        fix = "free some space and export again"
        return ResourceError(Problem("gguf.disk-full", what, str(target.parent), ended.last, fix))
    what = f"wrote no file and ended with code {ended.code}; its last words:"
    return RunFailed(Problem(code, what, program, ended.last, fix="mend what it says, or export another type"))
