"""What is written in canonical form reads back as what it was."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
from localtune.data.shapes import to_messages
from tests.unit.data.shapes.builders import ANSWERED, ASKED, PLACE, read_one

words = st.text(max_size=12).filter(lambda text: bool(text.strip()) and "\0" not in text)
maybe = st.just("") | words
weights = st.sampled_from([0.0, 0.25, 1.0])
json_objects = st.dictionaries(
    words, st.recursive(st.none() | st.integers() | words, st.lists, max_leaves=4), max_size=3
)
calls = st.builds(ToolCall, words, json_objects, maybe)
answers = st.builds(Message, st.just("assistant"), words, maybe, weight=weights) | st.builds(
    Message, st.just("assistant"), maybe, maybe, st.lists(calls, min_size=1, max_size=2).map(tuple), weight=weights
)
others = st.builds(Message, st.sampled_from(["system", "user"]), words, name=maybe) | st.builds(
    Message, st.just("tool"), words, name=maybe, call_id=maybe
)
tools = st.builds(lambda name, rest: {"type": "function", "function": {**rest, "name": name}}, words, json_objects)
conversations = st.builds(
    Conversation,
    st.just(PLACE),
    st.lists(answers | others, min_size=1, max_size=5).map(tuple),
    maybe,
    st.lists(tools, max_size=2).map(tuple),
).filter(lambda c: any(m.role == "assistant" and m.weight for m in c.messages))


def read_back(example: Example) -> Example:
    row: dict[str, Any] = json.loads(json.dumps(to_messages(example)))
    return read_one(row)


@given(conversations)
def test_a_conversation_reads_back_to_the_value(conversation: Conversation) -> None:
    assert read_back(conversation) == conversation


def test_a_field_that_were_not_written_would_be_missed() -> None:
    full = Message("assistant", "hello", "hm", (ToolCall("f", {"a": 1}, "c"),), "Ann", "d", 0.5)
    row = to_messages(Conversation(PLACE, (full,), "g", ({"type": "function", "function": {"name": "f"}},)))
    assert set(row["messages"][0]) == {
        "role", "content", "reasoning_content", "tool_calls", "name", "tool_call_id", "weight",
    }  # fmt: skip
    for key in list(row["messages"][0])[2:]:
        without = {**row, "messages": [{k: v for k, v in row["messages"][0].items() if k != key}]}
        assert read_one(without) != read_one(row), key


def test_a_plain_conversation_has_plain_turns() -> None:
    assert to_messages(Conversation(PLACE, (ASKED, ANSWERED))) == {
        "messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    }


def test_a_pair_becomes_its_turns() -> None:
    pair = Pair(PLACE, "a", "b", "s", "g")
    assert read_back(pair) == pair.as_conversation()


@pytest.mark.parametrize(
    "example",
    [
        Passage(PLACE, "once\n", "g"),
        Infill(PLACE, "a(", "", ")", "g"),
        Labelled(PLACE, Pair(PLACE, "a", "b", "s", "g"), False, "g"),
        Labelled(PLACE, Conversation(PLACE, (ASKED, ANSWERED)), True),
        Preference(PLACE, Pair(PLACE, "a", "b", "s"), Pair(PLACE, "a", "c", "s")),
        Preference(
            PLACE,
            Conversation(PLACE, (ASKED, Message("assistant", "x", weight=0.0), ASKED, ANSWERED), "g"),
            Conversation(PLACE, (ASKED, Message("assistant", "x", weight=0.0), ASKED, Message("assistant", "no")), "g"),
            "g",
        ),
    ],
)
def test_other_kinds_read_back_to_the_value(example: Example) -> None:
    assert read_back(example) == example
