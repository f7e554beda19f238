"""Rows in other forms read back as what they say, and what has no such form is named."""

from pathlib import Path
from typing import Any

import pytest

from localtune.data.check.written import keys_of, text_of
from localtune.data.conversations import Conversation, Example, Infill, Message, Pair, Passage, Preference
from localtune.data.convert import Form, converted
from localtune.errors import Problem
from tests.unit.data.builders import PLACE, TALK, conversation
from tests.unit.data.check.rows import opened

PAIR = Pair(PLACE, "2 + 2?", "4", "Be short.", "sums")
ASKED = conversation(("user", "hi"), ("assistant", "ho"))
PREFERENCE = Preference(PLACE, Pair(PLACE, "q", "good"), Pair(PLACE, "q", "bad"))


def read_back(folder: Path, row: dict[str, Any]) -> Example:
    """What the reader makes of `row`."""
    ((_, outcome),) = opened(folder, [row]).rows(lambda problem: None)
    assert not isinstance(outcome, Problem), outcome
    return outcome


@pytest.mark.parametrize(
    ("example", "form"),
    [(PAIR, "messages"), (PAIR, "prompt-completion"), (TALK, "messages"), (ASKED, "prompt-completion"),
     (Passage(PLACE, "a\nb"), "text"), (PREFERENCE, "messages")],
)  # fmt: skip
def test_a_converted_row_reads_back_as_the_same_example(example: Example, form: Form, tmp_path: Path) -> None:
    row = converted(example, form)
    assert isinstance(row, dict)
    again = read_back(tmp_path, row)
    assert keys_of(again) == keys_of(example)
    assert again.group == example.group


def test_of_a_preference_the_chosen_answer_is_kept(tmp_path: Path) -> None:
    row = converted(PREFERENCE, "chosen")
    assert isinstance(row, dict)
    again = read_back(tmp_path, row)
    assert isinstance(again, Conversation)
    assert [message.content for message in again.messages] == ["q", "good"]


def test_text_holds_everything_that_was_said_in_order() -> None:
    assert converted(TALK, "text") == {"text": text_of(TALK)} == {"text": "S\nhi\none\nmore\ntwo "}
    assert converted(Infill(PLACE, "def f():", "\nx", " pass"), "text") == {"text": "def f(): pass\nx"}


@pytest.mark.parametrize(
    ("example", "form"),
    [(TALK, "prompt-completion"), (Passage(PLACE, "x"), "messages"), (Passage(PLACE, "x"), "chosen"),
     (Conversation(PLACE, (Message("user", "a"), Message("assistant", "b", weight=0.5))), "prompt-completion")],
)  # fmt: skip
def test_a_row_that_would_lose_something_is_refused_with_its_place(example: Example, form: Form) -> None:
    problem = converted(example, form)
    assert isinstance(problem, Problem)
    assert problem.where == str(PLACE)
    assert problem.fix
