from typing import Any

import pytest

from localtune.data.rows import Row
from localtune.data.shapes import detect
from localtune.errors import InputError, Problem
from localtune.settings import DataSettings
from tests.unit.data.shapes.builders import ANSWER, GPT, HUMAN, PLACE, USER, form_of, the_problem


def refusal(value: dict[str, Any], **settings: Any) -> Problem:
    with pytest.raises(InputError) as caught:
        detect(Row(PLACE, value), DataSettings(train="a.jsonl", **settings))
    return caught.value.problems[0]


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"messages": [USER, ANSWER]}, "messages, because every row has the key messages"),
        (
            {"conversations": [USER, ANSWER]},
            "messages, because every row has the key conversations, turns with role and content",
        ),
        (
            {"conversations": [HUMAN, GPT]},
            "sharegpt, because every row has the key conversations, turns with from and value",
        ),
        ({"messages": [HUMAN, GPT]}, "sharegpt, because every row has the key messages, turns with from and value"),
        ({"question": "a", "answer": "b"}, "prompt-completion, because every row has the keys question and answer"),
        (
            {"instruction": "a", "input": "", "output": "b", "text": "ab"},
            "alpaca, because every row has the keys instruction and output",
        ),
        (
            {"instruction": "a", "response": "b"},
            "prompt-completion, because every row has the keys instruction and response",
        ),
        (
            {"prompt": "a", "chosen": "b", "rejected": "c"},
            "preference, because every row has the keys chosen and rejected",
        ),
        (
            {"prompt": "a", "completion": "b", "label": False},
            "kto, because every row has the keys completion and label",
        ),
        ({"text": "a"}, "text, because every row has the key text"),
        (
            {"prefix": "a", "suffix": "b", "middle": "c"},
            "fim, because every row has the keys prefix, suffix and middle",
        ),
    ],
)
def test_detection_says_why(row: dict[str, Any], why: str) -> None:
    form = form_of(row)
    assert form.why == why
    assert not form.given


def test_the_named_format_wins() -> None:
    form = form_of({"text": "once", "prompt": "a", "completion": "b"}, format="text")
    assert (form.why, form.given) == ("text, because data.format says so", True)


def test_named_columns_decide_between_shapes() -> None:
    assert form_of({"messages": "x", "body": "once"}, columns={"text": "body"}).shape == "text"
    form = form_of({"Q": "a", "A": "b", "label": "0"}, columns={"prompt": "Q", "completion": "A"})
    assert form.why == "prompt-completion, because every row has the keys Q and A"
    assert form.unused == ("label",)
    mapped = {"prompt": "q", "completion": "a", "input": "more"}
    assert form_of({"q": "a", "more": "b", "a": "c"}, columns=mapped).shape == "alpaca"
    assert form_of({"prompt": "a", "completion": "b", "good": "0"}, columns={"label": "good"}).shape == "kto"


def test_keys_that_hold_null_count_as_absent() -> None:
    table = {"messages": None, "chosen": None, "rejected": None, "instruction": "a", "output": "b", "text": None}
    assert form_of(table).shape == "alpaca"


def test_what_is_not_used_is_listed() -> None:
    row = {"messages": [USER, {**ANSWER, "at": 3}], "id": 1, "lang": None, "group": "g", "parallel_tool_calls": True}
    assert form_of(row).unused == ("id", "lang", "parallel_tool_calls", "messages.at")
    assert form_of({"question": "a", "answer": "b", "context": "c"}).unused == ("context",)
    assert form_of({"prompt": "a", "chosen": "b", "rejected": "c", "messages": [USER]}).unused == ("messages",)


@pytest.mark.parametrize(
    ("row", "fix"),
    [
        ({"Q": "a", "A": "b", "label": "0"}, "--set data.columns='{prompt: Q, completion: A}'"),
        ({"id": "x", "q": "a", "a": "b"}, "--set data.columns='{prompt: q, completion: a}'"),
        ({"n": 1, "body": "once"}, "--set data.columns='{text: body}'"),
        ({"my text": "a", "yes": "b"}, """--set data.columns='{prompt: "my text", completion: "yes"}'"""),
        ({"it's": "a", "질문": "b"}, """--set data.columns='{prompt: "it'"'"'s", completion: 질문}'"""),
        (
            {"n": 1},
            'write each row as {"messages": [{"role": "user", "content": …}, {"role": "assistant", "content": …}]}',
        ),
    ],
)
def test_columns_that_tell_nothing_are_listed_with_what_can_be_typed(row: dict[str, Any], fix: str) -> None:
    problem = refusal(row)
    assert (problem.code, problem.where, problem.fix) == ("data.columns", "a.jsonl:1", fix)
    assert all(key in problem.what for key in row)


def test_a_named_column_that_is_not_there_is_an_error() -> None:
    problem = refusal({"Q": "a", "A": "b"}, columns={"prompt": "Q", "completion": "Answer"})
    assert problem.what == "data.columns says that completion is in Answer; the row has the columns Q, A"


def test_a_named_column_that_the_given_shape_has_no_use_for_is_an_error() -> None:
    problem = refusal({"text": "a", "b": "c"}, format="text", columns={"prompt": "b"})
    assert problem.what == "data.columns names prompt, and text rows have none; they have group and text"


def test_a_given_shape_without_its_columns_says_what_it_needs() -> None:
    problem = refusal({"text": "a", "output": None}, format="alpaca")
    assert (
        problem.what == "alpaca rows need instruction and output; this row has the columns text, output (output empty)"
    )


def test_wide_rows_are_listed_in_part() -> None:
    assert "c19, … do not tell" in refusal({f"c{i}": i for i in range(100)}).what


def test_no_column_name_reaches_the_screen_as_it_is() -> None:
    assert "\x1b" not in str(refusal({"\x1b[31m": "a", "b": "c"}))
    assert "\x1b" not in str(the_problem({"text": 3, "\x1b[2J": 1}, columns={"group": "\x1b[2J"}))
