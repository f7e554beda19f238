"""A `localtune chat --json` child: what is asked goes in, events come out, and it ends with the app.

The model is in the child's memory, never in the app's. What is sent before the child is ready waits for it. The
protocol is the one that `localtune/chat/pipe.py` describes.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from typing import IO, Any

from localtune.errors import safe
from localtune_tui.asking import children, end_child

Event = Mapping[str, Any]
_LONGEST, _LINES = 20_000, 12
"""Bytes kept of what the child says on stderr, and lines of it that are told."""


class ChatChild:
    """One child. `hear` is called from a thread of its own, with every event and at last with "ended"."""

    def __init__(self, target: str, hear: Callable[[Event], None]) -> None:
        self.target = target
        """What is talked to, as the command line takes it."""
        self._hear = hear
        self._child: subprocess.Popen[bytes] | None = None
        self._waiting: list[Event] = []
        self._ready = self._over = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def send(self, *requests: Event) -> None:
        """Ask; before the child is ready they wait, after its end they are nobody's."""
        with self._lock:
            self._waiting += requests
            if self._ready and self._child is not None and self._child.stdin is not None:
                lines = b"".join(json.dumps(request).encode() + b"\n" for request in self._waiting)
                self._waiting.clear()
                try:
                    self._child.stdin.write(lines)
                    self._child.stdin.flush()
                except OSError:  # it has ended, and says so itself
                    return

    def end(self) -> None:
        """Take the model out of memory; nothing is heard any more. May be called from any thread, more than once."""
        with self._lock:
            self._over = True
            if self._child is not None:
                end_child(self._child)

    def _listen(self) -> None:
        with tempfile.TemporaryFile() as talk:
            child = self._start(talk)
            if child is None:
                return
            try:
                assert child.stdout is not None
                for line in child.stdout:
                    self._heard(line)
                child.wait()
            finally:
                end_child(child)
                children.discard(child)
            talk.seek(max(0, talk.seek(0, os.SEEK_END) - _LONGEST))
            text = talk.read().decode("utf-8", "replace")
        self._tell({"event": "ended", "code": child.returncode, "text": _words(text)})

    def _start(self, talk: IO[bytes]) -> "subprocess.Popen[bytes] | None":
        with self._lock:
            if self._over:
                return None
            try:
                self._child = subprocess.Popen(
                    [sys.executable, "-P", "-m", "localtune", "chat", self.target, "--json"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=talk,
                    start_new_session=os.name == "posix",
                )
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or str(error)
                self._hear({"event": "ended", "code": 1, "text": safe(f"the chat cannot be started: {reason}")})
                return None
            children.add(self._child)
            return self._child

    def _heard(self, line: bytes) -> None:
        try:
            event = json.loads(line)
        except ValueError:
            return
        if not isinstance(event, dict):
            return
        if event.get("event") == "ready":
            with self._lock:
                self._ready = True
        self._tell(event)
        if event.get("event") == "ready":
            self.send()

    def _tell(self, event: Event) -> None:
        if not self._over:
            self._hear(event)


def _words(text: str) -> str:
    """The command line's own words of its end: from its error on, else the last lines."""
    lines = [safe(line, 600) for line in text.strip().splitlines()]
    first = next((number for number, line in enumerate(lines) if line.startswith("error[")), -_LINES)
    return "\n".join(lines[first:][:_LINES])
