"""What the process of `child` does: it opens a tokenizer, and renders under `Limits` what it is asked until its input
ends. Its answers are those of `Renderer`.
"""

import datetime
import gc
import os
import sys
import traceback
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from localtune.data.bounds import Limits
from localtune.data.child import STARVED
from localtune.data.render import Question, Renderer
from localtune.data.tokenizer import Tokenizer
from localtune.data.wire import packed_results, receive, send, unpacked, unpacked_turns
from localtune.errors import InputError

_CRASHED = 4
_ERRORS = 2
"""Descriptor of the standard error, which is a file."""


def serve() -> None:
    """Answer until the input ends, then end the process. Nothing is ever raised."""
    try:
        _answer_all()
    except (OSError, KeyboardInterrupt):
        os._exit(0)  # nobody listens
    except MemoryError:
        os._exit(STARVED)
    except BaseException:
        os.write(_ERRORS, traceback.format_exc(limit=-3).encode("utf-8", "replace")[-1900:])
        os._exit(_CRASHED)
    os._exit(0)


def _answer_all() -> None:
    gc.set_threshold(100_000, 20, 100)  # rows make much garbage and few cycles
    asked, said = sys.stdin.buffer, sys.stdout.buffer
    server: _Server | None = None
    answer: Any
    while (message := receive(asked)) is not None:
        question, raw = message[0], b""
        try:
            if server is None:
                server, answer = _Server(**question), {}
            else:
                answer, raw = server.answer(question)
        except InputError as error:
            answer = {"problems": [asdict(problem) for problem in error.problems]}
        send(said, answer, raw)


class _Server:
    def __init__(self, folder: str, learn: Any, today: str | None) -> None:
        tokenizer = Tokenizer(Path(folder))
        limits = Limits(_ERRORS)
        with limits:  # a template computes its constants when it is compiled
            date = datetime.date.fromisoformat(today) if today else None
            self._renderer = Renderer(tokenizer, learn=learn, today=date, bounds=limits)

    def answer(self, question: dict[str, Any]) -> tuple[Any, bytes]:
        """The answer to one question: "rows", "question", "ids" or "prompt"."""
        if "rows" in question:
            return self._rows(question["rows"])
        if "question" in question:
            said = self._renderer.question(unpacked(question["question"]))  # type: ignore[arg-type]
            return {"kind": "question" if isinstance(said, Question) else "problem", "value": asdict(said)}, b""
        if "prompt" in question:
            return self._renderer.prompt_ids(*question["prompt"]), b""
        messages, *rest = question["ids"]
        return self._renderer.conversation_ids(unpacked_turns(messages), *rest), b""

    def _rows(self, rows: list[Any]) -> tuple[Any, bytes]:
        renderer = self._renderer
        renderer.seen = Counter()
        results, raw = packed_results(renderer.render([unpacked(row) for row in rows]))
        end = renderer.turns.end_of_turn if renderer.turns else ""
        return {"rows": results, "seen": renderer.seen, "end": end}, raw
