"""A row of turns, whole: its system turn, tools and group; and a prompt with its answer, as strings or as turns."""

import json
import re
from collections.abc import Mapping
from typing import Any

from localtune.data.conversations import Conversation, Message, Pair
from localtune.data.rows import Row
from localtune.data.shapes.tools import schemas
from localtune.data.shapes.turns import KNOWN, ROLES, SPEAKERS, Kind, turns, unlearned
from localtune.data.shapes.values import Unusable, group, key, optional_text, shown, text

_WRITTEN_TURNS = re.compile(r'\s*\[\s*\{\s*"(role|content|from|value)"\s*:')

Side = str | tuple[Message, ...]
"""A prompt or an answer, as it was given."""


def from_messages(row: Row, columns: Mapping[str, str], system: str | None) -> Conversation:
    """A row of the shape messages. Raises `Unusable`."""
    return _from_turns(row, columns, system, "role")


def from_sharegpt(row: Row, columns: Mapping[str, str], system: str | None) -> Conversation:
    """A row of the shape sharegpt. Raises `Unusable`."""
    return _from_turns(row, columns, system, "from")


def conversation(
    row: Row, columns: Mapping[str, str], messages: tuple[Message, ...], system: str | None
) -> Conversation:
    """`messages` with the system turn, tools and group of `row`; `system` where there is none. Raises `Unusable`."""
    own = _own_system(row, columns)
    if own or system:
        messages = _with_system(messages, own, system)
    if not any(message.role == "assistant" and message.weight for message in messages):
        answers = any(message.role == "assistant" for message in messages)
        why = "every answer has the weight 0" if answers else "the conversation has no assistant turn"
        raise Unusable("data.nothing-to-learn", f"{why}, so nothing is learned")
    return Conversation(row.place, messages, group(row, columns), _tools(row, columns))


def side(value: object, name: str, *, learned: bool) -> Side:
    """What `name` (a quoted key) holds, a prompt or with `learned` an answer: a string, or turns.

    Turns are a list, one turn alone, or a string that writes a list of nothing but turns. Other JSON is text: a list or
    an object may well be the answer. Raises `Unusable`.
    """
    if isinstance(value, list | dict) or (isinstance(value, str) and _writes_turns(value)):
        return turns(value, name)
    return text(value, name, learned=learned)


def _writes_turns(value: str) -> bool:
    if not _WRITTEN_TURNS.match(value):
        return False
    try:
        listed = json.loads(value)
    except (ValueError, RecursionError):
        return False
    return all(
        isinstance(turn, dict)
        and turn.keys() <= KNOWN
        and (("role" in turn and turn["role"] in ROLES) or ("from" in turn and turn["from"] in SPEAKERS))
        and ("content" in turn or "value" in turn)
        for turn in listed
    )


def answered(
    row: Row, columns: Mapping[str, str], prompt: Side, answer: Side, system: str | None
) -> Conversation | Pair:
    """A prompt, of which nothing is learned, and its answer: a pair where both are strings and no tools are given."""
    if isinstance(prompt, str) and isinstance(answer, str) and not _tools(row, columns):
        return Pair(row.place, prompt, answer, _own_system(row, columns) or system or None, group(row, columns))
    messages = (*unlearned(as_turns(prompt, "user")), *as_turns(answer, "assistant"))
    return conversation(row, columns, messages, system)


def as_turns(given: Side, role: str) -> tuple[Message, ...]:
    """`given` as turns; a string is one turn of `role`."""
    if not isinstance(given, str):
        return given
    return (Message("user" if role == "user" else "assistant", given),)


def _from_turns(row: Row, columns: Mapping[str, str], system: str | None, kind: Kind) -> Conversation:
    messages = turns(row.value.get(columns["messages"]), key(columns, "messages"), kind)
    return conversation(row, columns, messages, system)


def _own_system(row: Row, columns: Mapping[str, str]) -> str:
    return optional_text(row.value.get(columns["system"]), key(columns, "system")) if "system" in columns else ""


def _tools(row: Row, columns: Mapping[str, str]) -> tuple[dict[str, Any], ...]:
    if "tools" not in columns:
        return ()
    listed = schemas(row.value.get(columns["tools"]), key(columns, "tools"))
    older = schemas(row.value.get("functions"), '"functions"') if columns["tools"] == "tools" else ()
    if listed and older:
        raise Unusable("data.tools", "the row has both tools and functions")
    return listed or older


def _with_system(messages: tuple[Message, ...], own: str, system: str | None) -> tuple[Message, ...]:
    first = next((message for message in messages if message.role == "system"), None)
    if first is None:
        return (Message("system", own or system or ""), *messages)
    if own and first.content != own:
        raise Unusable("data.system", f"the row has two system turns: {shown(own)} and {shown(first.content)}")
    return messages
