"""Examples in normal form: what rows of every shape become, and what is rendered.

A conversation of turns, a prompt with its completion, a passage of text, two answers of which one is preferred, an
answer that was wanted or not, or code with a hole. Texts are to the character as the row has them.
"""

from dataclasses import dataclass
from typing import Any, Literal

from localtune.data.rows import Place

Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True)
class ToolCall:
    """A function the answer calls."""

    name: str
    arguments: dict[str, Any]
    """A JSON object."""
    id: str = ""


@dataclass(frozen=True)
class Message:
    """One turn."""

    role: Role
    content: str
    """ "" only beside tool calls."""
    reasoning: str = ""
    """What an answer thinks before it speaks, without its tags."""
    calls: tuple[ToolCall, ...] = ()
    name: str = ""
    """Of the tool that speaks, or of the speaker."""
    call_id: str = ""
    """Of the call that a tool answers."""
    weight: float = 1.0
    """0 to 1: how much an answer counts when it is learned."""


@dataclass(frozen=True)
class Conversation:
    """Turns, at least one of them an answer."""

    place: Place
    messages: tuple[Message, ...]
    group: str = ""
    """The row's key "group": test rows are also scored by group."""
    tools: tuple[dict[str, Any], ...] = ()
    """JSON schemas of the functions that may be called, as the template wants them."""


@dataclass(frozen=True)
class Pair:
    """A prompt and what follows it. Models with a chat template get it as two turns."""

    place: Place
    prompt: str
    completion: str
    system: str | None = None
    group: str = ""

    def as_conversation(self) -> Conversation:
        """The same as turns."""
        system = (Message("system", self.system),) if self.system else ()
        turns = (*system, Message("user", self.prompt), Message("assistant", self.completion))
        return Conversation(self.place, turns, self.group)


@dataclass(frozen=True)
class Passage:
    """Text as it is written; all of it is learned."""

    place: Place
    text: str
    group: str = ""


@dataclass(frozen=True)
class Preference:
    """Two answers to the same, the first preferred."""

    place: Place
    chosen: "Conversation | Pair"
    rejected: "Conversation | Pair"
    group: str = ""


@dataclass(frozen=True)
class Labelled:
    """An answer that was wanted, or not (KTO)."""

    place: Place
    example: "Conversation | Pair"
    wanted: bool
    group: str = ""


@dataclass(frozen=True)
class Infill:
    """Code with a hole; the middle is learned."""

    place: Place
    prefix: str
    suffix: str
    middle: str
    group: str = ""


Example = Conversation | Pair | Passage | Preference | Labelled | Infill
