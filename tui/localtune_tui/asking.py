"""Questions to the command line: a `localtune` child process, its answer, and its end.

Everything that needs a model, a backend or much of a file is asked this way, so the app stays small and quick. A child
inherits the environment, has no terminal, and dies with the app: its whole process group is ended on `cancel`, and of
every child when the app leaves. A run that a child has started is in a session of its own, and lives on.
"""

import atexit
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from localtune.errors import safe

CANCELLED = 130
"""The code of an answer that nobody waits for any more."""
_LONGEST = 20_000
"""Characters kept of what a child says on stderr."""


class AskError(Exception):
    """The command line said no: its exit code and its own words."""

    def __init__(self, code: int, text: str, value: Any = None) -> None:
        super().__init__(text)
        self.code = code
        """2 input, 3 environment, 4 resources, 1 anything else; 130 for what was cancelled."""
        self.text = text
        """What it printed on stderr, safe for a screen, in lines."""
        self.value = value
        """What it answered on stdout all the same, such as a plan that does not fit; None for nothing."""

    @property
    def cancelled(self) -> bool:
        """Whether somebody asked for the end, so there is nothing to tell."""
        return self.code == CANCELLED

    @property
    def name(self) -> str:
        """The stable name of the first problem, such as "data.missing"; empty where the text has none."""
        _, found, rest = self.text.partition("error[")
        return rest.partition("]")[0] if found else ""


class Asked:
    """One question. Its methods block, so they are for threads; `cancel` may be called from any."""

    def __init__(self, *, folder: Path | None = None, environment: Mapping[str, str] | None = None) -> None:
        """`folder`: what relative paths count from; `environment`: what is added to the app's own."""
        self._folder, self._environment = folder, dict(environment or {})
        self._child: subprocess.Popen[bytes] | None = None
        self._cancelled = False
        self._lock = threading.Lock()

    def run_json(self, *args: str) -> Any:
        """The answer of `localtune ARGS`, as JSON. Raises `AskError`, also for an answer that is none."""
        said: list[bytes] = []
        code, text = self._run(args, said.append)
        value = _value(b"".join(said))
        if code or value is None:
            raise AskError(code or 1, text or "the command line gave no answer", value)
        return value

    def stream(self, *args: str, on_line: Callable[[str], None]) -> None:
        """Run `localtune ARGS`; `on_line` gets each line of stdout as it comes. Raises `AskError`."""
        code, text = self._run(args, lambda line: on_line(line.decode("utf-8", "replace").rstrip("\r\n")))
        if code:
            raise AskError(code, text)

    def cancel(self) -> None:
        """End the child and everything it started in its group; a question not yet asked will not be."""
        with self._lock:
            self._cancelled = True
            if self._child is not None:
                end_child(self._child)

    def _run(self, args: tuple[str, ...], on_line: Callable[[bytes], None]) -> tuple[int, str]:
        """The exit code, and what was said on stderr: that goes to a file, so that neither pipe can block the other."""
        with tempfile.TemporaryFile() as talk:
            child = self._start(args, talk)
            try:
                assert child.stdout is not None
                for line in child.stdout:
                    on_line(line)
                code = child.wait()
            finally:
                end_child(child)
                children.discard(child)
            talk.seek(0)
            text = talk.read(_LONGEST).decode("utf-8", "replace")
        if self._cancelled:
            raise AskError(CANCELLED, "")
        return code, "\n".join(safe(line, 600) for line in text.strip().splitlines())

    def _start(self, args: tuple[str, ...], talk: Any) -> "subprocess.Popen[bytes]":
        with self._lock:
            if self._cancelled:
                raise AskError(CANCELLED, "")
            try:
                self._child = subprocess.Popen(
                    [sys.executable, "-P", "-m", "localtune", *args],
                    cwd=self._folder,
                    env=os.environ | self._environment,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=talk,
                    start_new_session=os.name == "posix",
                )
            except (OSError, ValueError) as error:  # no such folder, too many processes, a NUL in a name
                reason = getattr(error, "strerror", None) or str(error)
                raise AskError(1, safe(f"the command line cannot be started: {reason}")) from None
            children.add(self._child)
            return self._child


def end_all() -> None:
    """End every child that still runs: for the app's way out."""
    for child in list(children):
        end_child(child)


children: set["subprocess.Popen[bytes]"] = set()
atexit.register(end_all)


def end_child(child: "subprocess.Popen[bytes]") -> None:
    """Kill the group of `child` while it has not been waited for; afterwards its number may be somebody else's."""
    if child.poll() is not None:
        return
    try:
        if os.name == "posix":
            os.killpg(child.pid, signal.SIGKILL)
        else:
            child.kill()
    except (ProcessLookupError, PermissionError):
        return
    child.wait()


def _value(out: bytes) -> Any:
    try:
        return json.loads(out)
    except ValueError:
        return None
