"""Examples as rows of one canonical form, which read back as what they were.

A pair is written as turns, so it reads back as its conversation. Keys that say nothing (no tools, weight 1) are left
out. Arguments of calls stay objects.
"""

from typing import Any

from localtune.data.conversations import (
    Conversation,
    Example,
    Infill,
    Labelled,
    Message,
    Pair,
    Passage,
    Preference,
    ToolCall,
)


def to_messages(example: Example) -> dict[str, Any]:
    """The row of `example`: JSON values with "messages" and "tools", or what its kind has instead."""
    row = _row(example)
    return row | {"group": example.group} if example.group else row


def _row(example: Example) -> dict[str, Any]:
    match example:
        case Conversation(messages=messages, tools=tools):
            return {"messages": _turns(messages), **_tools(tools)}
        case Pair():
            return _row(example.as_conversation())
        case Passage(text=text):
            return {"text": text}
        case Infill(prefix=prefix, suffix=suffix, middle=middle):
            return {"prefix": prefix, "suffix": suffix, "middle": middle}
        case Labelled(example=answer, wanted=wanted):
            return _pair(answer) | {"label": wanted} if isinstance(answer, Pair) else _row(answer) | {"label": wanted}
        case Preference(chosen=chosen, rejected=rejected):
            return _preference(chosen, rejected)


def _preference(chosen: Conversation | Pair, rejected: Conversation | Pair) -> dict[str, Any]:
    if isinstance(chosen, Pair) and isinstance(rejected, Pair):
        system = {"system": chosen.system} if chosen.system else {}
        return {"prompt": chosen.prompt, "chosen": chosen.completion, "rejected": rejected.completion, **system}
    one, two = (side.as_conversation() if isinstance(side, Pair) else side for side in (chosen, rejected))
    return {"chosen": _turns(one.messages), "rejected": _turns(two.messages), **_tools(one.tools)}


def _pair(pair: Pair) -> dict[str, Any]:
    row = {"prompt": pair.prompt, "completion": pair.completion}
    return row | {"system": pair.system} if pair.system else row


def _tools(tools: tuple[dict[str, Any], ...]) -> dict[str, Any]:
    return {"tools": list(tools)} if tools else {}


def _turns(messages: tuple[Message, ...]) -> list[dict[str, Any]]:
    return [_turn(message) for message in messages]


def _turn(message: Message) -> dict[str, Any]:
    turn: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.reasoning:
        turn["reasoning_content"] = message.reasoning
    if message.calls:
        turn["tool_calls"] = [_call(call) for call in message.calls]
    if message.name:
        turn["name"] = message.name
    if message.call_id:
        turn["tool_call_id"] = message.call_id
    return turn if message.weight == 1.0 else turn | {"weight": message.weight}


def _call(call: ToolCall) -> dict[str, Any]:
    made = {"type": "function", "function": {"name": call.name, "arguments": call.arguments}}
    return {"id": call.id, **made} if call.id else made
