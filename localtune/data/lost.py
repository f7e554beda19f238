"""Whether a template writes everything a row holds: found by rendering it with marks behind its parts."""

import re
from collections.abc import Callable, Sequence

from localtune.data.conversations import Message
from localtune.data.messages import (
    CALL_END,
    CONTENT_END,
    REASONING_END,
    RESULT_END,
    Tools,
    call_marks,
    is_text,
    marked,
)
from localtune.data.template import Refused

Render = Callable[[Sequence[Message], Tools], str]
"""The text of turns and tools."""
_THOUGHT = re.compile("</?think>")


class Lost(Exception):
    """The template does not write a part of the row; the text says which."""


def check_parts(messages: Sequence[Message], tools: Tools, render: Render, *, every: bool) -> None:
    """Raise `Lost` for tools, calls, results or words beside calls that the text does not show.

    With `every` reasoning is checked too, wherever it stands; otherwise each answer that is learned checks its own.
    """
    if tools:
        _check_tools(messages, tools, render)
    text = render([m if _is_asked(m) else marked(m) for m in messages], tools)
    for mark, wanted, what in (
        (CALL_END, sum(map(call_marks, messages)), "every tool call"),
        (RESULT_END, sum(m.role == "tool" and bool(m.content.strip()) for m in messages), "every tool result"),
        (CONTENT_END, sum(bool(m.calls and m.content.strip()) for m in messages), "what is said beside a call"),
        (REASONING_END, every * sum(bool(m.reasoning.strip()) for m in messages), "the reasoning"),
    ):
        if text.count(mark) < wanted:
            raise Lost(f"it does not write {what}")


def check_written(messages: Sequence[Message], text: str, tools: Tools, render: Render, *, every: bool) -> None:
    """Raise `Lost` for a system or user turn, with `every` also an answer, that `text` does not hold.

    Words of a question that are not in it as they are may be written otherwise (escaped, say): then a mark behind them
    tells.
    """
    for number, message in enumerate(messages):
        if message.role in ("system", "user") and message.content.strip() not in text:
            probe = [*messages[:number], marked(message), *messages[number + 1 :]]
            if RESULT_END not in render(probe, tools):
                raise Lost(f"it does not write turn {number + 1} ({message.role})")
        if every and message.role == "assistant" and not _says(text, message.content):
            raise Lost(f"it does not write all that turn {number + 1} says")


def check_reasoning(probe: str) -> None:
    """Raise `Lost` where `probe`, rendered with a mark behind the reasoning, does not hold the mark."""
    if REASONING_END not in probe:
        raise Lost("it does not write the reasoning")


def _says(text: str, answer: str) -> bool:
    """Whether every part of `answer`, its thoughts and what follows them, is in `text`."""
    return all(part.strip() in text for part in _THOUGHT.split(answer))


def _check_tools(messages: Sequence[Message], tools: Tools, render: Render) -> None:
    try:
        bare = render(messages, ())
    except Refused:
        return  # it cannot do without them
    if bare == render(messages, tools):
        raise Lost("it does not write the tools")


def _is_asked(message: Message) -> bool:
    return message.role in ("system", "user") or (message.role == "assistant" and is_text(message))
