"""Rows read in one line."""

from typing import Any

import pytest

from localtune.data.conversations import Conversation, Example, Message
from localtune.data.rows import BadRows, Place, Row
from localtune.data.shapes import Format, detect, examples, normal_form
from localtune.errors import InputError, Problem
from localtune.settings import DataSettings

PLACE = Place("a.jsonl", 1)
USER = {"role": "user", "content": "hi"}
ANSWER = {"role": "assistant", "content": "hello"}
HUMAN = {"from": "human", "value": "hi"}
GPT = {"from": "gpt", "value": "hello"}
ASKED, ANSWERED = Message("user", "hi"), Message("assistant", "hello")


def form_of(value: dict[str, Any], **settings: Any) -> Format:
    return detect(Row(PLACE, value), DataSettings(train="a.jsonl", **settings))


def read(*values: dict[str, Any], bad: BadRows | None = None, **settings: Any) -> list[Example]:
    rows = (Row(Place("a.jsonl", line), value) for line, value in enumerate(values, start=1))
    _, source = examples(rows, DataSettings(train="a.jsonl", **settings), bad or BadRows("stop"))
    return list(source)


def read_one(value: dict[str, Any], system: str | None = None, **settings: Any) -> Example:
    found = normal_form(Row(PLACE, value), form_of(value, **settings), system)
    assert not isinstance(found, Problem), str(found)
    return found


def turns_of(value: dict[str, Any], **settings: Any) -> tuple[Message, ...]:
    found = read_one(value, **settings)
    assert isinstance(found, Conversation)
    return found.messages


def the_problem(*values: dict[str, Any], **settings: Any) -> Problem:
    with pytest.raises(InputError) as caught:
        read(*values, **settings)
    return caught.value.problems[0]
