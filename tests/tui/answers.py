"""The command line's recorded answers, replayed where the app asks: what was asked for is kept, nothing is started."""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from localtune_tui.asking import Asked, AskError

from tests.command import QUICKSTART

RECORDED = Path(__file__).parent / "recorded" / "new"
RECIPE = QUICKSTART / "recipe.yaml"
DIRTY = RECORDED / "dirty.jsonl"


def recorded(name: str) -> str:
    """A file that record.sh made."""
    return (RECORDED / name).read_text(encoding="utf-8")


@dataclass
class Answers:
    """What is answered to which verb; a verb without an answer is a failed test."""

    by_verb: dict[str, Any] = field(default_factory=dict)
    """ "plan", "data show", … -> a value, or an error to raise."""
    asked: list[tuple[str, ...]] = field(default_factory=list)
    """The questions, in order."""
    gate: threading.Event = field(default_factory=threading.Event)
    """Answers to `plan` wait for it."""

    def run_json(self, asked: Asked, *args: str) -> Any:
        """As `Asked.run_json`."""
        answer = self._answer(args)
        if args[0] == "plan":
            assert self.gate.wait(60)
        if asked._cancelled:
            raise AskError(130, "")
        if isinstance(answer, AskError):
            raise answer
        return answer

    def stream(self, asked: Asked, *args: str, on_line: Callable[[str], None]) -> None:
        """As `Asked.stream`."""
        for line in self._answer(args).splitlines():
            on_line(line)

    def of(self, verb: str) -> list[tuple[str, ...]]:
        """The questions of one verb."""
        return [args for args in self.asked if " ".join(args).startswith(verb)]

    def _answer(self, args: tuple[str, ...]) -> Any:
        self.asked.append(args)
        verb = " ".join(args[:2]) if args[0] == "data" else args[0]
        return self.by_verb[verb]


def replayed(monkeypatch: pytest.MonkeyPatch) -> Answers:
    """The quickstart's answers, for as long as a test goes."""
    found = Answers({"plan": json.loads(recorded("plan.json")), "data show": json.loads(recorded("show.json"))})
    found.gate.set()
    monkeypatch.setattr(Asked, "run_json", lambda self, *args: found.run_json(self, *args))
    monkeypatch.setattr(Asked, "stream", lambda self, *args, on_line: found.stream(self, *args, on_line=on_line))
    return found
