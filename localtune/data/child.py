"""A process of its own that renders, seen from the process that asks: it is started when it is needed, and may die.

It is a fresh interpreter of the same program, not a fork; it knows a question only by what is written to its input,
and it ends when that input does. It is in no terminal's foreground, so Ctrl+C is for the asking process alone.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from typing import IO, Any

import psutil

from localtune.data.bounds import ENFORCED, MEMORY, SECONDS
from localtune.data.wire import receive, send
from localtune.errors import InputError, MachineError, Problem

ENDLESS, STARVED = 1, 3
"""Exit codes: time has run out; memory has."""
_NO_FASTBINS = "glibc.malloc.mxfast=0"
"""Encodings are made and freed by the million; glibc's fast bins make that an eighth slower. Ignored elsewhere."""
_GLANCE = 0.05
"""Seconds between two looks at the memory of a process, where the system does not bound it."""


class Died(Exception):
    """The process ended before it answered."""

    def __init__(self, why: str, row: int, said: str) -> None:
        super().__init__(why)
        self.why = why
        """endless, memory or failed."""
        self.row = row
        """`Place.id` of the row that was being rendered; -1 for another text, 0 for none."""
        self.said = said
        """The last line it wrote to its standard error."""


class Child:
    """One process, or none yet."""

    def __init__(self, opening: dict[str, Any]) -> None:
        """`opening` is the first question to every process that is started."""
        self._opening = opening
        self._process: subprocess.Popen[bytes] | None = None
        self._progress: IO[bytes] | None = None
        self._held = 0
        self._began = 0.0
        self._starved = False
        self._closed = False

    def ask(self, question: Any) -> tuple[Any, bytes]:
        """The answer, and the arrays behind it. Raises `Died`, or `InputError` where the answer is problems."""
        if self._process is None:
            self._start()
        return self._asked(question)

    def stop(self) -> None:
        """End the process now, whatever it does; a later question starts none."""
        self._closed = True
        self._end()

    def _start(self) -> None:
        if self._closed:
            raise Died("failed", 0, "stopped")
        tunables = filter(None, (os.environ.get("GLIBC_TUNABLES"), _NO_FASTBINS))
        alone = {"GLIBC_TUNABLES": ":".join(tunables), "RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        alone |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self._starved = False
        try:
            self._progress = tempfile.TemporaryFile()  # noqa: SIM115
            self._progress.write(bytes(8))
            self._progress.flush()
            self._process = self._popen(alone)
        except OSError as error:
            what = f"the process that renders chat templates cannot be started: {error.strerror or error}"
            raise MachineError(Problem("machine.process", what, error.filename or "", fix="localtune doctor")) from None
        self._asked(self._opening)
        if not ENFORCED:
            self._held = psutil.Process(self._process.pid).memory_info().rss

    def _popen(self, alone: Mapping[str, str]) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [sys.executable, "-P", "-c", "from localtune.data.served import serve; serve()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._progress,
            env={**os.environ, **alone},
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )

    def _asked(self, question: Any) -> tuple[Any, bytes]:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        answer = None
        self._began = time.monotonic()
        with self._watched(process), contextlib.suppress(OSError, ValueError):  # ValueError: stopped meanwhile
            send(process.stdin, question)
            answer = receive(process.stdout)
        if answer is None:
            raise self._death()
        if isinstance(answer[0], dict) and "problems" in answer[0]:
            raise InputError(*(Problem(**problem) for problem in answer[0]["problems"]))
        return answer

    def _death(self) -> Died:
        process, progress = self._process, self._progress
        if process is None or progress is None:
            return Died("failed", 0, "stopped")
        code = process.wait()
        progress.seek(0)
        row, said = int.from_bytes(progress.read(8), "little", signed=True), progress.read(2000)
        self._end()
        late = code < 0 and time.monotonic() - self._began >= SECONDS  # the timer's dump can itself crash
        endless = row != 0 and (code == ENDLESS or late)
        why = "memory" if self._starved or code == STARVED else "endless" if endless else "failed"
        lines = said.decode("utf-8", "replace").strip().splitlines()
        return Died(why, row, lines[-1] if lines else f"exit code {code}")

    def _end(self) -> None:
        process, self._process = self._process, None
        progress, self._progress = self._progress, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    pipe.close()  # type: ignore[union-attr]
        if progress is not None:
            progress.close()

    @contextlib.contextmanager
    def _watched(self, process: subprocess.Popen[bytes]) -> Iterator[None]:
        """Where the system does not bound memory, a look from outside does, roughly."""
        if ENFORCED or not self._held:
            yield
            return
        done = threading.Event()
        watch = threading.Thread(target=self._watch, args=(process, done, self._held + MEMORY), daemon=True)
        watch.start()
        try:
            yield
        finally:
            done.set()
            watch.join()

    def _watch(self, process: subprocess.Popen[bytes], done: threading.Event, limit: int) -> None:
        with contextlib.suppress(psutil.Error):
            seen = psutil.Process(process.pid)
            while not done.wait(_GLANCE):
                if seen.memory_info().rss > limit:
                    self._starved = True
                    process.kill()
                    return
