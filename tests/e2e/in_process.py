"""The command line within this process: the same verbs, words, files and exit codes, without another start of Python.

Only the supervisor, the worker and llama.cpp are processes of their own, as they are of a real command. What needs a
real one (signals, a terminal, something on stdin, another environment) takes `Command.start` or a plain `Command`.
"""

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from localtune import launch, probe
from localtune.cli import main
from localtune.probe import Probe
from tests.command import Command, Result


@dataclass(frozen=True)
class InProcess(Command):
    """`localtune` with its runs in a folder of the test's own."""

    def __call__(self, *arguments: str | Path, cwd: Path | None = None, timeout: float = 240) -> Result:
        assert not self.environment, "another environment needs a process of its own"
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            patch.setenv("LOCALTUNE_RUNS", str(self.runs))
            patch.setenv("HF_HUB_OFFLINE", "1")
            patch.chdir(cwd or self.runs.parent)
            patch.setattr(sys, "stdin", io.StringIO())
            patch.setattr(sys, "argv", ["localtune", *map(str, arguments)])
            for module in (launch, probe):
                patch.setattr(module, "Probe", _kept)
            with pytest.raises(SystemExit) as ended:
                main()
        assert isinstance(ended.value.code, int)
        return Result(ended.value.code, out.getvalue(), err.getvalue())


class _Kept(Probe):
    """A child that answers every test: it has imported a backend once."""

    def close(self) -> None:
        """It is ended with this process."""


@cache
def _kept(name: str) -> Probe:
    return _Kept(name)
