"""What a chat template writes around a short chat, found out in a process of its own."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from localtune.data.control import Control
from localtune.data.conversations import Message
from localtune.data.template import ChatTemplate, Refused
from localtune.data.template_child import ask
from localtune.data.tokenizer import Tokenizer
from localtune.data.turns import Turns, Unmaskable

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
    return Habits(**ask(__name__, asked))


def answer(asked: Mapping[str, Any]) -> dict[str, Any]:
    """What `habits` asks."""
    template = ChatTemplate(asked["source"], asked["names"])
    return asdict(_observed(template, Control(asked["control"])))


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
