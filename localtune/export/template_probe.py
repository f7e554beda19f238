"""What a chat template writes around a short chat, found out in a process of its own.

A template is a program of a stranger's and may never end: its process does, `SECONDS` after its libraries are loaded.
"""

import faulthandler
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from localtune.data.control import Control
from localtune.data.conversations import Message
from localtune.data.template import ChatTemplate, Refused
from localtune.data.tokenizer import Tokenizer
from localtune.data.turns import Turns, Unmaskable
from localtune.errors import InputError, Problem

SECONDS = 5.0
_SHOWN = 1000
"""Characters of the beginning that are handed on."""
_USER, _SYSTEM = Message("user", "a"), Message("system", "a")
_ANSWERED = (_USER, Message("assistant", "b"))


@dataclass(frozen=True)
class Habits:
    """What a template does."""

    begins: str
    """How a chat begins; "" where the template renders none."""
    answers: bool
    """It renders an answer."""
    end_of_turn: str
    """The token behind an answer; "" where the template writes none."""


def habits(tokenizer: Tokenizer) -> Habits:
    """What the template of `tokenizer` does. Raises `InputError` (template.syntax, .endless, .failed)."""
    asked = {"source": tokenizer.template, "names": tokenizer.names, "control": tokenizer.control.strings}
    command = [sys.executable, "-P", "-c", f"from {__name__} import serve; serve({SECONDS})"]
    child = subprocess.run(command, input=json.dumps(asked), capture_output=True, text=True, check=False)
    said = child.stdout.splitlines()
    if said[-1:] == [_READY]:
        what = f"the chat template has not come to an end within {SECONDS:g} seconds"
        raise InputError(_problem("template.endless", what))
    if len(said) != 2:
        raise InputError(_problem("template.failed", "the chat template ends the program that renders it"))
    found = json.loads(said[1])
    if "problems" in found:
        raise InputError(*(Problem(**problem) for problem in found["problems"]))
    return Habits(**found)


_READY = "ready"


def serve(seconds: float) -> None:
    """Answer the question on the standard input; end the process after `seconds`, whatever it does."""
    asked = json.load(sys.stdin)
    with open(os.devnull, "wb") as nowhere:
        faulthandler.dump_traceback_later(seconds, exit=True, file=nowhere)
        _say(_READY)
        try:
            template = ChatTemplate(asked["source"], asked["names"])
            _say(json.dumps(asdict(_observed(template, Control(asked["control"])))))
        except InputError as error:
            _say(json.dumps({"problems": [asdict(problem) for problem in error.problems]}))
        faulthandler.cancel_dump_traceback_later()


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _observed(template: ChatTemplate, control: Control) -> Habits:
    turns = Turns(template, control)
    begins = _first(turns.prompt, ([_USER], [_SYSTEM, _USER]))
    try:
        turns.answer(_ANSWERED)
    except (Refused, Unmaskable):
        return Habits(begins, answers=False, end_of_turn="")
    return Habits(begins, answers=True, end_of_turn=turns.end_of_turn)


def _first(render: Callable[[Sequence[Message]], str], chats: Sequence[Sequence[Message]]) -> str:
    """The beginning of the first of `chats` that is rendered."""
    for messages in chats:
        try:
            return render(messages)[:_SHOWN]
        except Refused:
            continue
    return ""


def _problem(code: str, what: str) -> Problem:
    return Problem(code, what, fix="use the model's original chat template")
