"""The other side of `python -P -m localtune.llamacpp`: starts it, asks it, and says in words how it failed."""

import contextlib
import http.client
import json
import os
import re
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from localtune.errors import InputError, LocaltuneError, MachineError, Problem, RunFailed
from localtune.llamacpp.options import ServerOptions

_ERROR = re.compile(r"^[\d.]+ E +(?:[a-z]+ +)?\w+: (?:error loading model: )?(?P<said>.*)$")
_SAYS_NOTHING = re.compile(
    "failed to load model|trying to fit params|exiting due to|failed to create.context|failed to load lora adapter '"
)
PATIENT = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000"}
"""OpenMP's threads spin while they wait; beside other work on two cores, 40 tokens took 25 s instead of 0.04 s."""
SILENCE = 600.0
"""Seconds without a byte after which llama.cpp hangs. The slowest honest work between two bytes is 2,048 tokens read in
four passes over the weights: at most 150 s each, also where they come from a disk."""
LOADING, SLOW = 120.0, 10e6
"""Seconds for loading any file, in which a driver may compile what a new card needs; and bytes that are read in each
further one. llama.cpp tries the chat template then, which may never end."""
_LATE = {"/apply-template": "its chat template, which may never end, wrote no text"}
_PARTS = re.compile(r"-of-(\d{5})\.gguf$")


class Child:
    """One process that serves one file."""

    def __init__(
        self, path: Path, options: ServerOptions, check: Callable[[], None] | None = None, *, key: str | None = None
    ) -> None:
        """Start it and wait until it serves. Raises `InputError` for a file it does not load, `MachineError`.

        `check` is called before every request; what it raises goes to whoever asks. `key` is what clients must know; by
        default a random one that only the two know.
        """
        self.path, self._adapters, self._key, self._check = path, options.adapters, key or secrets.token_hex(32), check
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "localtune.llamacpp"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=PATIENT | os.environ,
        )
        try:
            self.address = self._start(
                {**options.to_json(), "path": str(path), "key": self._key, "seconds": _patience(path)}
            )
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def ask(
        self,
        method: str,
        route: str,
        body: Mapping[str, Any] | None = None,
        *,
        more: float = 0.0,
        within: float | None = None,
    ) -> Any:
        """The answer to one request, waited for `more` seconds longer than `SILENCE`, or `within` that many.

        Raises `InputError` where llama.cpp refuses it, `RunFailed` when it died or hangs.
        """
        with self._request(method, route, body, SILENCE + more if within is None else within) as response:
            return json.loads(response.read())

    def stream(self, route: str, body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """The events of a streaming answer; closing the iterator ends the generation. Raises as `ask`.

        Where a prompt is long, events without text come while it is read.
        """
        whole = {**body, "stream": True, "return_progress": True}
        with self._request("POST", route, whole, SILENCE) as response:
            for line in response:
                kind, _, value = line.partition(b": ")
                if kind == b"error":
                    raise self._refused(json.loads(value))
                if kind == b"data" and value.startswith(b"{"):
                    event = json.loads(value)
                    if "error" in event:
                        raise self._refused(event["error"])
                    yield event

    def watch(self, seconds: float) -> None:
        """Wait `seconds`. Raises `RunFailed` as soon as it ends by itself."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
            raise self.lost("it ended")

    def lost(self, how: str) -> RunFailed:
        """The error of an answer that did not come, or broke off; `how` where the process lives on."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1)
        code = self._process.poll()
        if code is None:
            return RunFailed(Problem("llamacpp.died", f"llama.cpp does not answer: {how}", self.path.name))
        what = f"llama.cpp ended with code {code}"
        return RunFailed(Problem("llamacpp.died", what, self.path.name, self._last_words()))

    def close(self) -> None:
        """End it, whatever it computes; there is nothing in it to save."""
        self._process.kill()  # before anything that a second Ctrl+C could break off
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                assert pipe is not None
                pipe.close()
        self._log.close()

    def _start(self, order: Mapping[str, Any]) -> str:
        """Hand over the order; host and port where it serves."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(OSError):
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        said = json.loads(line) if line else {}
        if "address" in said:
            return str(said["address"])
        if "missing" in said:
            what = f"llama.cpp is not installed: {said['missing']}"
            raise MachineError(Problem("llamacpp.missing", what, fix="pip install xllamacpp"))
        self._process.wait()
        raise self._unloadable()

    def _unloadable(self) -> InputError:
        log = "\n".join(self._lines())
        if "\nTimeout (" in f"\n{log}":
            what = f"llama.cpp did not load this file within {_patience(self.path):,.0f} s"
            fix = "the chat template in it may never end: take a GGUF of this model from another source"
            return InputError(Problem("gguf.endless", what, str(self.path), fix=fix))
        said = self._reasons() or self._last_words()
        adapter = next((path for path in self._adapters if f"load lora adapter '{path}'" in log), None)
        if adapter is None:
            return InputError(Problem("gguf.unloadable", "llama.cpp does not load this file", str(self.path), said))
        what = f"llama.cpp does not load this adapter beside {self.path.name}"
        fix = "name the base that it was trained on, or export the adapter again"
        return InputError(Problem("adapter.unloadable", what, str(adapter), said, fix))

    @contextlib.contextmanager
    def _request(
        self, method: str, route: str, body: Mapping[str, Any] | None, silence: float
    ) -> Iterator[http.client.HTTPResponse]:
        if self._check is not None:
            self._check()
        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
        connection = http.client.HTTPConnection(self.address, timeout=silence)  # which, unlike urllib, heeds no proxy
        try:
            connection.request(method, route, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            if response.status != 200:
                raise self._refused(json.loads(response.read())["error"])
            yield response
        except TimeoutError:
            raise self.lost(f"{_LATE.get(route, 'not a byte')} in {silence:,.0f} s") from None
        except (OSError, http.client.HTTPException, json.JSONDecodeError) as error:
            raise self.lost(str(error)) from None
        finally:
            connection.close()

    def _refused(self, error: Mapping[str, Any]) -> LocaltuneError:
        if error.get("type") == "exceed_context_size_error":
            what = f"{error['n_prompt_tokens']:,} tokens do not fit in the context of {error['n_ctx']:,}"
            return InputError(Problem("llamacpp.context", what, self.path.name, fix="shorten the conversation"))
        return InputError(Problem("llamacpp.refused", f"llama.cpp refused: {error.get('message')}", self.path.name))

    def _reasons(self) -> str:
        """The errors in the log that say something of the file, each once."""
        said = [match["said"] for line in self._lines() if (match := _ERROR.search(line))]
        return "\n".join(list(dict.fromkeys(line for line in said if not _SAYS_NOTHING.search(line)))[:3])

    def _last_words(self) -> str:
        return "\n".join(self._lines()[-3:])

    def _lines(self) -> list[str]:
        """The log of a process that has ended."""
        self._log.seek(0)
        return [line for line in self._log.read().decode("utf-8", "replace").splitlines() if line.strip()]


def _patience(path: Path) -> float:
    """Seconds that loading may take."""
    with contextlib.suppress(OSError):
        parts = _PARTS.search(path.name)
        return LOADING + path.stat().st_size * (int(parts[1]) if parts else 1) / SLOW
    return LOADING
