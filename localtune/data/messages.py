"""Turns as chat templates want them: objects with role and content, and calls, names and reasoning where there are any.

Exact: everything a turn holds is in its object. Where a template does not read `reasoning_content`, the reasoning
stands before the content between <think> and </think>. `marked` puts a reserved character behind every part of a turn,
so that a rendering says by itself which parts it wrote.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from localtune.data.control import Control
from localtune.data.conversations import Conversation, Example, Infill, Message, Pair, Passage, Preference, ToolCall

Tools = Sequence[Mapping[str, Any]]
CONTENT_END, REASONING_END, CALL_END, RESULT_END = "\U0010fff4", "\U0010fff5", "\U0010fff6", "\U0010fff7"
_MARKS = str.maketrans(dict.fromkeys((CONTENT_END, REASONING_END, CALL_END, RESULT_END)))


def plain(message: Message, *, reads_reasoning: bool) -> dict[str, Any]:
    """`message` as a template gets it."""
    content = message.content
    if message.reasoning and not reads_reasoning:
        content = f"<think>\n{message.reasoning}\n</think>\n\n{content}"
    turn: dict[str, Any] = {"role": message.role, "content": content}
    if message.reasoning and reads_reasoning:
        turn["reasoning_content"] = message.reasoning
    if message.calls:
        turn["tool_calls"] = [_plain_call(call) for call in message.calls]
    if message.name:
        turn["name"] = message.name
    if message.call_id:
        turn["tool_call_id"] = message.call_id
    return turn


def is_text(message: Message) -> bool:
    """Whether role and content are all there is to `message`."""
    return not (message.calls or message.reasoning or message.name or message.call_id)


def held(message: Message, control: Control) -> tuple[Message, int]:
    """`message` with placeholders for what looks like a control token, and how many there were."""
    content, count = control.hold(message.content, message.role)
    if is_text(message):
        return (replace(message, content=content), count) if count else (message, 0)
    reasoning, more = control.hold(message.reasoning, "user")
    calls = []
    for call in message.calls:
        arguments, inside = held_value(call.arguments, control)
        name, named = control.hold(call.name, "user")
        calls.append(replace(call, name=name, arguments=arguments))
        more += inside + named
    name, named = control.hold(message.name, "user")
    return replace(message, content=content, reasoning=reasoning, calls=tuple(calls), name=name), count + more + named


def held_value(value: Any, control: Control) -> tuple[Any, int]:
    """A JSON value with placeholders in its strings and keys, and how many there are."""
    if isinstance(value, str):
        return control.hold(value, "user")
    if isinstance(value, Mapping):
        pairs = [(held_value(key, control), held_value(inner, control)) for key, inner in value.items()]
        return {key: inner for (key, _), (inner, _) in pairs}, sum(a + b for (_, a), (_, b) in pairs)
    if isinstance(value, list | tuple):
        items = [held_value(inner, control) for inner in value]
        return [inner for inner, _ in items], sum(count for _, count in items)
    return value, 0


def marked(message: Message, content_end: int | None = None) -> Message:
    """`message` with a mark behind every part that is not empty; the content's stands at `content_end`."""
    return replace(
        message,
        content=_with(message.content, CONTENT_END if message.role == "assistant" else RESULT_END, content_end),
        reasoning=_with(message.reasoning, REASONING_END),
        calls=tuple(_marked_call(call) for call in message.calls),
    )


def call_marks(message: Message) -> int:
    """How many marks `marked` puts into the calls of `message`."""
    return sum(1 + len(call.arguments) for call in message.calls)


def without_marks(text: str) -> str:
    """`text` as it was before it was marked."""
    return text.translate(_MARKS)


def texts(example: Example) -> Iterator[str]:
    """Every string of `example` that a rendering may write."""
    if isinstance(example, Conversation):
        for message in example.messages:
            yield message.content
            if not is_text(message):
                yield from (message.reasoning, message.name, message.call_id)
                for call in message.calls:
                    yield from (call.name, call.id, *_strings(call.arguments))
        yield from _strings(list(example.tools))
    elif isinstance(example, Pair):
        yield from (example.prompt, example.completion, example.system or "")
    elif isinstance(example, Passage):
        yield example.text
    elif isinstance(example, Infill):
        yield from (example.prefix, example.suffix, example.middle)
    elif isinstance(example, Preference):
        yield from (*texts(example.chosen), *texts(example.rejected))
    else:
        yield from texts(example.example)


def _plain_call(call: ToolCall) -> dict[str, Any]:
    named = {"id": call.id} if call.id else {}
    return {**named, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _marked_call(call: ToolCall) -> ToolCall:
    arguments = {f"{key}{CALL_END}": value for key, value in call.arguments.items()}
    return replace(call, name=call.name + CALL_END, arguments=arguments)


def _with(text: str, mark: str, at: int | None = None) -> str:
    """Blanks at the end stay behind the mark, because templates trim them; without a place an empty text stays so."""
    if at is None and not text.strip():
        return text
    at = len(text.rstrip()) if at is None else at
    return f"{text[:at]}{mark}{text[at:]}"


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from (key, *_strings(inner))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _strings(inner)
