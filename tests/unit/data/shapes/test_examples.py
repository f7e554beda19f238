from collections.abc import Iterator
from typing import Any

import pytest

from localtune.data.conversations import Conversation, Message, Pair, Passage
from localtune.data.rows import BadRows, Place, Row
from localtune.data.shapes import examples
from localtune.errors import InputError, Problem
from localtune.settings import DataSettings
from tests.unit.data.shapes.builders import ANSWER, ANSWERED, ASKED, GPT, HUMAN, USER, read, read_one, the_problem

PAIR = {"prompt": "a", "completion": "b"}


def of_two_files(first: dict[str, Any], second: dict[str, Any]) -> Iterator[Row]:
    yield Row(Place("a.jsonl", 1), first)
    yield Row(Place("b.json", 1, 1), second)


def from_files(first: dict[str, Any], second: dict[str, Any]) -> list[Any]:
    return list(examples(of_two_files(first, second), DataSettings(train="x"), BadRows("stop"))[1])


def mixed_problem(first: dict[str, Any], second: dict[str, Any]) -> Problem:
    with pytest.raises(InputError) as caught:
        from_files(first, second)
    return caught.value.problems[0]


def test_the_system_setting_is_added_where_it_is_missing() -> None:
    own = {"role": "system", "content": "mine"}
    rows = read({"messages": [USER, ANSWER]}, {"messages": [own, USER, ANSWER]}, system="ours")
    assert [e.messages[0].content for e in rows if isinstance(e, Conversation)] == ["ours", "mine"]
    row = {"instruction": "a", "output": "b", "history": [["hi", "hello"]]}
    assert read_one(row, "ours") == Conversation(
        Place("a.jsonl", 1),
        (Message("system", "ours"), ASKED, ANSWERED, Message("user", "a"), Message("assistant", "b")),
    )


def test_mixed_shapes_name_both_rows_with_their_beginnings() -> None:
    problem = the_problem({"messages": [USER, ANSWER]}, {"messages": [USER, ANSWER]}, PAIR)
    assert problem.code == "data.mixed"
    assert problem.what == "the file mixes shapes: row 1 is messages, row 3 is prompt-completion"
    assert problem.evidence.splitlines()[0].startswith("a.jsonl:1  {'messages': [{'role': 'user'")
    assert problem.evidence.splitlines()[1] == "a.jsonl:3  {'prompt': 'a', 'completion': 'b'}"


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ({"conversations": [HUMAN, GPT]}, {"conversations": [USER, ANSWER]}, "row 1 is sharegpt, row 2 is messages"),
        ({"messages": [USER, ANSWER]}, {"messages": [HUMAN, GPT]}, "row 1 is messages, row 2 is sharegpt"),
        (PAIR, {**PAIR, "label": False}, "row 1 is prompt-completion, row 2 is kto"),
        (PAIR, {"prompt": "a", "chosen": "b", "rejected": "c"}, "row 2 is preference"),
        (PAIR, {"question": "a", "answer": "b"}, "row 1 has its completion in completion, row 2 in answer"),
        ({**PAIR, "text": None}, {"prompt": None, "completion": None, "text": "c"}, "row 2 is text"),
    ],
)
def test_rows_that_would_be_trained_differently_are_mixed(
    first: dict[str, Any], second: dict[str, Any], said: str
) -> None:
    problem = the_problem(first, second)
    assert problem.code == "data.mixed"
    assert said in problem.what


def test_mixed_shapes_stop_also_when_bad_rows_are_skipped() -> None:
    with pytest.raises(InputError, match=r"data\.mixed"):
        read({"text": "a"}, {"messages": [USER, ANSWER]}, bad=BadRows("skip"))


def test_keys_may_come_and_go_within_a_shape() -> None:
    rows = read(
        {**PAIR, "id": 1}, PAIR, {**PAIR, "system": "s"}, {"completion": "b", "prompt": "a", "system_prompt": "t"}
    )
    assert [e.system for e in rows if isinstance(e, Pair)] == [None, None, "s", "t"]


def test_files_of_conversations_may_have_shapes_of_their_own() -> None:
    one, two = from_files({"instruction": "hi", "output": "hello"}, {"conversations": [HUMAN, GPT]})
    assert one.as_conversation().messages == two.messages
    one, two = from_files(PAIR, {"question": "a", "answer": "b"})
    assert (one.prompt, one.completion) == (two.prompt, two.completion)


def test_files_that_are_trained_on_in_different_ways_are_mixed() -> None:
    problem = mixed_problem(PAIR, {"text": "a"})
    assert problem.what == "the files have different shapes: a.jsonl:1 is prompt-completion, b.json:1 is text"


def test_a_given_format_makes_other_rows_unusable_and_not_mixed() -> None:
    bad = BadRows("skip")
    rows = read({"text": "a", **PAIR}, {"messages": [USER, ANSWER]}, {"text": "b"}, bad=bad, format="text")
    assert [e.text for e in rows if isinstance(e, Passage)] == ["a", "b"]
    assert (bad.count, bad.first[0].code) == (1, "data.columns")


def test_a_row_without_the_columns_is_one_bad_row_wherever_it_stands() -> None:
    bad = BadRows("skip")
    rows = read({"foo": 1}, {}, {"text": "a"}, {"foo": 1}, {"text": None}, {"text": "b"}, bad=bad)
    assert len(rows) == 2
    assert [(p.code, p.where) for p in bad.first] == [
        ("data.columns", "a.jsonl:1"),
        ("data.empty-row", "a.jsonl:2"),
        ("data.columns", "a.jsonl:4"),
        ("data.empty-row", "a.jsonl:5"),
    ]


def test_a_row_that_is_empty_in_one_place_says_which() -> None:
    bad = BadRows("skip")
    read({"prompt": "a", "completion": None}, PAIR, {"prompt": "a", "completion": None}, bad=bad)
    assert [p.what for p in bad.first] == ['"completion" is empty, so nothing is learned'] * 2


def test_rows_are_read_as_they_are_asked_for() -> None:
    def rows() -> Iterator[Row]:
        yield Row(Place("a.jsonl", 1), PAIR)
        raise AssertionError("read ahead")

    _, source = examples(rows(), DataSettings(train="x"), BadRows("stop"))
    assert isinstance(next(source), Pair)


def test_no_rows_at_all_is_an_error() -> None:
    assert the_problem().code == "data.empty"


@pytest.mark.parametrize(
    "answer", ['[{"value": 3, "unit": "kg"}]', '[{"role": "admin", "content": "x"}]', '[{"from": 1']
)
def test_an_answer_in_json_that_is_no_list_of_turns_is_text(answer: str) -> None:
    (example,) = read({"prompt": "Extract", "completion": answer})
    assert isinstance(example, Pair)
    assert example.completion == answer
