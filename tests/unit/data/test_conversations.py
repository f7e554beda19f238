from collections.abc import Mapping
from typing import Any

import pytest

from localtune.data.conversations import Conversation, Example, Message, Pair, Passage, examples
from localtune.data.rows import BadRows, Place, Row
from localtune.errors import InputError, Problem
from localtune.settings import DataSettings

USER = {"role": "user", "content": "hi"}
ANSWER = {"role": "assistant", "content": "hello"}


def read(*values: dict[str, Any], bad: BadRows | None = None, **settings: Any) -> tuple[list[Example], str]:
    rows = (Row(Place("a.jsonl", line), value) for line, value in enumerate(values, start=1))
    form, source = examples(rows, DataSettings(train="a.jsonl", **settings), bad or BadRows("stop"))
    return list(source), form.why


def the_problem(*values: dict[str, Any], **settings: Any) -> Problem:
    with pytest.raises(InputError) as caught:
        read(*values, **settings)
    return caught.value.problems[0]


def test_messages_become_a_conversation() -> None:
    (example,), why = read({"messages": [USER, ANSWER], "group": "sums"})
    turns = (Message("user", "hi"), Message("assistant", "hello"))
    assert example == Conversation(Place("a.jsonl", 1), turns, "sums")
    assert why == "messages, because every row has the key messages"


def test_columns_say_where_prompt_and_completion_are() -> None:
    row = {"question": "1+1?", "answer": "2", "persona": "terse"}
    (example,), why = read(row, columns={"prompt": "question", "completion": "answer", "system": "persona"})
    assert example == Pair(Place("a.jsonl", 1), "1+1?", "2", "terse")
    assert why == "prompt-completion, because every row has the keys question and answer"


def test_a_text_row_is_a_passage() -> None:
    assert read({"text": "once"})[0] == [Passage(Place("a.jsonl", 1), "once")]


def test_the_named_format_wins() -> None:
    (example,), why = read({"text": "once", "prompt": "a", "completion": "b"}, format="text")
    assert isinstance(example, Passage)
    assert why == "text, because data.format says so"


def test_mapped_columns_decide_between_shapes() -> None:
    (example,), _ = read({"messages": "x", "body": "once"}, columns={"text": "body"})
    assert isinstance(example, Passage)


def test_the_system_setting_is_added_where_it_is_missing() -> None:
    own = {"role": "system", "content": "mine"}
    rows, _ = read({"messages": [USER, ANSWER]}, {"messages": [own, USER, ANSWER]}, system="ours")
    assert [e.messages[0].content for e in rows if isinstance(e, Conversation)] == ["ours", "mine"]
    (pair,), _ = read({"prompt": "a", "completion": "b", "system": None}, system="ours")
    assert isinstance(pair, Pair)
    assert pair.system == "ours"
    assert [m.role for m in pair.as_conversation().messages] == ["system", "user", "assistant"]


def test_mixed_shapes_name_both_rows() -> None:
    problem = the_problem(
        {"messages": [USER, ANSWER]}, {"messages": [USER, ANSWER]}, {"prompt": "a", "completion": "b"}
    )
    assert problem.code == "data.mixed"
    assert "row 1 is messages, row 3 is prompt-completion" in problem.what


def test_mixed_shapes_stop_also_when_bad_rows_are_skipped() -> None:
    with pytest.raises(InputError, match=r"data\.mixed"):
        read({"text": "a"}, {"messages": [USER, ANSWER]}, bad=BadRows("skip"))


def test_unknown_columns_are_listed_with_the_fix() -> None:
    problem = the_problem({"question": "a", "answer": "b", "id": 3})
    assert problem.code == "data.columns"
    assert "question, answer, id" in problem.what
    assert problem.fix == "--set data.columns='{prompt: question, completion: answer}'"


def test_a_later_row_without_the_columns_is_one_bad_row() -> None:
    bad = BadRows("skip")
    rows, _ = read({"text": "a"}, {"foo": 1}, {"text": "b"}, bad=bad)
    assert (len(rows), bad.count, bad.first[0].code, bad.first[0].where) == (2, 1, "data.columns", "a.jsonl:2")


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ({"messages": "hi"}, "data.messages"),
        ({"messages": []}, "data.messages"),
        ({"messages": ["hi"]}, "data.messages"),
        ({"messages": [{"role": "human", "content": "x"}, ANSWER]}, "data.role"),
        ({"messages": [{"content": "x"}, ANSWER]}, "data.role"),
        ({"messages": [{"role": ["user"], "content": "x"}, ANSWER]}, "data.role"),
        ({"messages": [USER, {"role": "assistant", "content": " "}]}, "data.empty-content"),
        ({"messages": [USER, {"role": "assistant", "content": [{"type": "text", "text": "x"}]}]}, "data.type"),
        ({"messages": [USER, {"role": "assistant", "content": None}]}, "data.type"),
        ({"messages": [USER, ANSWER | {"weight": 0}]}, "data.unsupported"),
        ({"messages": [USER, ANSWER | {"tool_calls": [{"id": 1}]}]}, "data.unsupported"),
        ({"messages": [USER, ANSWER], "tools": [{}]}, "data.unsupported"),
        ({"messages": [USER]}, "data.nothing-to-learn"),
        ({"prompt": "a", "completion": ""}, "data.nothing-to-learn"),
        ({"prompt": "a", "completion": None}, "data.nothing-to-learn"),
        ({"prompt": "", "completion": "b"}, "data.empty-content"),
        ({"prompt": 3, "completion": "b"}, "data.type"),
        ({"prompt": "a", "completion": 3}, "data.type"),
        ({"prompt": "a", "completion": "b", "system": 3}, "data.type"),
        ({"text": "\n"}, "data.nothing-to-learn"),
        ({"text": ["a"]}, "data.type"),
    ],
)
def test_a_row_that_cannot_be_used_says_why(row: Mapping[str, Any], code: str) -> None:
    problem = the_problem(dict(row))
    assert problem.code == code
    assert problem.where == "a.jsonl:1"
    assert problem.evidence


def test_a_weight_of_zero_is_not_passed_over() -> None:
    assert '"weight" is not supported' in the_problem({"messages": [USER, ANSWER | {"weight": 0}]}).what


def test_no_rows_at_all_is_an_error() -> None:
    assert the_problem().code == "data.empty"
