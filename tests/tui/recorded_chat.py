"""A child of Chat that replays what a true one once said: base and tuned model of the quickstart on one question."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from localtune_tui.chatting import Event

RECORDED = Path(__file__).parent / "recorded" / "chat" / "events.jsonl"
QUESTION = "Get me a taxi from the station to the zoo."
NUMBERS = {"base": 1, "tuned": 2, "model": 2}
"""Voice -> id of its answer in the recording."""


class Replayed:
    """As `ChatChild`, without a process."""

    made: list["Replayed"]

    def __init__(self, target: str, hear: Callable[[Event], None]) -> None:
        self.target, self.hear = target, hear
        self.events = [json.loads(line) for line in RECORDED.read_text(encoding="utf-8").splitlines()]
        self.requests: list[Event] = []
        self.ended = False
        self.held = False
        """Answers stop behind their first word."""
        self.made.append(self)
        self.say(self.events[0] | ({"who": ["model"]} if target.endswith(".gguf") else {}))

    def say(self, event: Event) -> None:
        """Let the app hear something."""
        self.hear(event)

    def send(self, *requests: Event) -> None:
        """Answer at once."""
        for request in requests:
            self.requests.append(request)
            for event in self._answer(request):
                self.hear(event)

    def end(self) -> None:
        """Nobody waits any more."""
        self.ended = True

    def _answer(self, request: Event) -> Iterator[dict[str, Any]]:
        if "cancel" in request:
            yield {"event": "done", "id": request["cancel"], "stopped": "cancelled", "tokens": None,
                   "tokens_per_second": None}  # fmt: skip
        elif "keep" in request:
            kept = next(event for event in self.events if event["event"] == "kept")
            yield kept | {"id": request["keep"], "good": request["good"]}
        else:
            number = NUMBERS[request["who"]]
            answer = [
                event for event in self.events if event.get("id") == number and event["event"] in ("token", "done")
            ]
            for event in answer[: 1 if self.held else None]:
                yield event | {"id": request["id"]}


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch) -> type[Replayed]:
    """Every child of a test, in `made`."""
    monkeypatch.setattr(Replayed, "made", [], raising=False)
    monkeypatch.setattr("localtune_tui.screens.loaded_chat.ChatChild", Replayed)
    return Replayed
