"""Turns of a conversation, written with role and content (OpenAI) or with from and value (ShareGPT).

A weight (`weight` 0 to 1, or one of `train`, `training`, `learn`, `loss` as true or false) multiplies what the setting
`train.learn` chooses. Text parts of one content are joined without anything between them. Parts, roles and fields
that would change what is trained and cannot be honoured are refused by name.
"""

from collections.abc import Mapping
from typing import Any, Literal

from localtune.data.conversations import Message, Role, ToolCall
from localtune.data.shapes.tools import calls
from localtune.data.shapes.values import Unusable, json_value, optional_text, shown, text

Kind = Literal["role", "from"]
"""The key that says who speaks."""
ROLES: Mapping[str, Role] = {
    "system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool",
    "function": "tool",
}  # fmt: skip
SPEAKERS: Mapping[str, Role] = {
    "system": "system", "human": "user", "user": "user", "gpt": "assistant", "chatgpt": "assistant",
    "bard": "assistant", "bing": "assistant", "assistant": "assistant", "model": "assistant", "tool": "tool",
    "observation": "tool", "function_response": "tool", "function": "tool", "function_call": "assistant",
    "tool_call": "assistant",
}  # fmt: skip
"""What ShareGPT rows have as from."""
_CALLERS = ("function_call", "tool_call")
MEDIA = ("image", "images", "video", "videos", "audio", "audios")
_REFUSED = (*MEDIA, "train_detail", "training_detail")
_SWITCHES = ("train", "training", "learn", "loss")
_REASONING = ("reasoning_content", "reasoning", "thinking")
KNOWN = frozenset(
    ("role", "content", "from", "value", "weight", "name", "tool_calls", "function_call", "tool_call_id",
     *_SWITCHES, *_REASONING)
)  # fmt: skip
"""Keys of a turn that are read."""


def turns(value: object, name: str, kind: Kind | None = None) -> tuple[Message, ...]:
    """The turns in `name` (a quoted key): a list (or a string that writes one as JSON), or one turn alone.

    `kind`: how they are written; None = as the first turn is. Raises `Unusable`.
    """
    listed = as_list(value, name)
    if listed is None or not listed:
        raise Unusable("data.messages", f"{name} must be a list of turns, not {shown(value)}")
    if kind is None:
        kind = kind_of(listed) or "role"
    read = _from_role if kind == "role" else _from_speaker
    return tuple([read(number, turn) for number, turn in enumerate(listed, start=1)])


def as_list(value: object, name: str) -> list[Any] | None:
    """The turns as a list; None when `value` is no list, no turn and no string that writes a list."""
    if isinstance(value, str) and value.lstrip()[:1] == "[":
        value = json_value(value, name)
    if isinstance(value, list):
        return value
    return [value] if isinstance(value, dict) and ("role" in value or "from" in value) else None


def kind_of(listed: list[Any] | None) -> Kind | None:
    """How the first turn is written; None when that cannot be told."""
    first = listed[0] if listed else None
    if not isinstance(first, dict):
        return None
    return "role" if first.get("role") is not None else "from" if first.get("from") is not None else None


def unlearned(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The same as a prompt: its answers weigh nothing."""
    return tuple([_weighing_nothing(m) if m.role == "assistant" and m.weight else m for m in messages])


def _weighing_nothing(m: Message) -> Message:
    return Message(m.role, m.content, m.reasoning, m.calls, m.name, m.call_id, 0.0)


def _from_role(number: int, turn: object) -> Message:
    if type(turn) is not dict:
        raise Unusable("data.messages", f"turn {number} is no object with role and content: {shown(turn)}")
    said = turn.get("role")
    role = ROLES.get(said) if type(said) is str else None
    if role is None:
        raise Unusable("data.role", f"turn {number} has the role {shown(said)}; known: {', '.join(ROLES)}")
    content = turn.get("content")
    if len(turn) == 2 and type(content) is str and content and not content.isspace():
        return Message(role, content)
    return _message(number, turn, role, content, _called(turn, f"turn {number}"))


def _from_speaker(number: int, turn: object) -> Message:
    if type(turn) is not dict:
        raise Unusable("data.messages", f"turn {number} is no object with from and value: {shown(turn)}")
    said = turn.get("from")
    role = SPEAKERS.get(said) if type(said) is str else None
    if role is None:
        raise Unusable("data.role", f"turn {number} is from {shown(said)}; known: {', '.join(SPEAKERS)}")
    value = turn.get("value")
    if len(turn) == 2 and type(value) is str and value and not value.isspace() and said not in _CALLERS:
        return Message(role, value)
    if said in _CALLERS:
        return _message(number, turn, role, None, calls(value, f"turn {number} ({said})"))
    return _message(number, turn, role, value, _called(turn, f"turn {number}"))


def _message(number: int, turn: dict[str, Any], role: Role, content: object, made: tuple[ToolCall, ...]) -> Message:
    name = f"turn {number} ({role})"
    for key in _REFUSED:
        if turn.get(key) not in (None, [], {}, "", False):
            raise Unusable("data.unsupported", f'{name}: the key "{key}" would change what is trained; not supported')
    reasoning = _reasoning(turn, name)
    if role != "assistant" and (made or reasoning):
        raise Unusable("data.unsupported", f"{name}: only an answer calls tools or reasons")
    return Message(
        role,
        _content(content, f"the content of {name}", role, bool(made)),
        reasoning,
        made,
        optional_text(turn.get("name"), f"the name of {name}"),
        optional_text(turn.get("tool_call_id"), f"the tool_call_id of {name}"),
        _weight(turn, name),
    )


def _content(content: object, name: str, role: Role, calling: bool) -> str:
    if isinstance(content, list):
        content = "".join(_part(part, name) for part in content)
    if calling and (content is None or isinstance(content, str)):
        return content if content and not content.isspace() else ""
    if content is None:
        raise Unusable("data.type", f"{name} must be a string, not missing")
    return text(content, name, learned=role == "assistant")


def _part(part: object, name: str) -> str:
    if not isinstance(part, dict):
        raise Unusable("data.type", f"{name} has the part {shown(part)}, which is no object with type and text")
    kind = part.get("type")
    if kind not in (None, "text"):
        raise Unusable("data.unsupported", f"{name} has a part of type {shown(kind)}; what is trained on is text")
    if not isinstance(part.get("text"), str):
        raise Unusable("data.type", f"{name}: the text of a part must be a string, not {shown(part.get('text'))}")
    return str(part["text"])


def _called(turn: dict[str, Any], name: str) -> tuple[ToolCall, ...]:
    made, old = turn.get("tool_calls"), turn.get("function_call")
    if made and old:
        raise Unusable("data.tool-call", f"{name} has both tool_calls and function_call")
    if old:
        return calls(old, name)
    if made and not isinstance(made, list | str):
        raise Unusable("data.tool-call", f"{name}: tool_calls must be a list, not {shown(made)}")
    return calls(made, name) if made else ()


def _reasoning(turn: dict[str, Any], name: str) -> str:
    found = {optional_text(turn[key], f'{name}, "{key}"') for key in _REASONING if key in turn} - {""}
    if len(found) > 1:
        raise Unusable(
            "data.reasoning", f"{name} reasons differently in {' and '.join(k for k in _REASONING if k in turn)}"
        )
    return found.pop() if found else ""


def _weight(turn: dict[str, Any], name: str) -> float:
    weight = turn.get("weight")
    if weight is not None and (isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight <= 1):
        raise Unusable("data.weight", f"{name}: weight must be a number from 0 to 1, not {shown(weight)}")
    switches = {key: turn[key] for key in _SWITCHES if turn.get(key) is not None}
    for key, value in switches.items():
        if not isinstance(value, bool):
            raise Unusable("data.weight", f'{name}: "{key}" must be true or false, not {shown(value)}')
    on = set(switches.values())
    if len(on) > 1 or (weight is not None and on and bool(weight) not in on):
        said = ", ".join([*switches, *(["weight"] if weight is not None else [])])
        raise Unusable("data.weight", f"{name} is to be learned and not to be learned: {said}")
    return float(weight) if weight is not None else float(on.pop()) if on else 1.0
