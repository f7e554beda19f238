from typing import Any

import pytest

from localtune.data.conversations import Conversation, Infill, Labelled, Message, Pair, Passage
from tests.unit.data.shapes.builders import ANSWER, ANSWERED, ASKED, PLACE, USER, read_one, the_problem, turns_of

UNLEARNED = Message("assistant", "hello", weight=0.0)


@pytest.mark.parametrize(
    ("prompt", "completion"),
    [("prompt", "completion"), ("prompt", "response"), ("question", "answer"), ("question", "response"),
     ("instruction", "response"), ("query", "response"), ("query", "answer"), ("input", "output"),
     ("problem", "solution")],
)  # fmt: skip
def test_known_names_of_prompt_and_completion_are_found(prompt: str, completion: str) -> None:
    assert read_one({prompt: "1+1?", completion: "2", "group": 7}) == Pair(PLACE, "1+1?", "2", None, "7")


def test_a_prompt_of_turns_is_not_learned_and_its_answer_is() -> None:
    row = {"prompt": [USER, ANSWER, USER], "completion": [ANSWER]}
    assert turns_of(row) == (ASKED, UNLEARNED, ASKED, ANSWERED)
    assert turns_of({"prompt": "hi", "completion": [ANSWER]}) == (ASKED, ANSWERED)
    assert turns_of({"prompt": [USER], "completion": "hello"}) == (ASKED, ANSWERED)
    assert turns_of({"prompt": [USER], "completion": ANSWER}) == (ASKED, ANSWERED)


def test_an_answer_that_is_json_stays_text() -> None:
    for answer in ('{"name": "Ann"}', '[{"name": "Ann"}]', "[1] see below", "{x"):
        assert read_one({"prompt": "extract", "completion": answer}) == Pair(PLACE, "extract", answer)


def test_a_pair_with_tools_is_a_conversation() -> None:
    found = read_one({"prompt": "hi", "completion": "hello", "tools": [{"name": "add"}]})
    assert found == Conversation(PLACE, (ASKED, ANSWERED), tools=({"type": "function", "function": {"name": "add"}},))
    assert isinstance(read_one({"prompt": "hi", "completion": "hello", "tools": "[]"}), Pair)


def test_the_row_has_the_first_say_on_the_system_turn() -> None:
    assert read_one({"prompt": "a", "completion": "b", "system": "own"}, "ours") == Pair(PLACE, "a", "b", "own")
    assert read_one({"prompt": "a", "completion": "b", "system": " "}, "ours") == Pair(PLACE, "a", "b", "ours")
    assert read_one({"question": "a", "response": "b", "system_prompt": "own"}) == Pair(PLACE, "a", "b", "own")


def test_alpaca_joins_instruction_and_input() -> None:
    row = {"instruction": "sum", "input": "1 2", "output": "3"}
    assert read_one(row) == Pair(PLACE, "sum\n1 2", "3")
    assert read_one({**row, "input": ""}) == Pair(PLACE, "sum", "3")
    assert read_one({**row, "input": None}) == Pair(PLACE, "sum", "3")
    assert read_one({"instruction": "sum", "context": "1 2", "response": "3"}) == Pair(PLACE, "sum\n1 2", "3")


def test_alpaca_history_comes_before_the_question() -> None:
    row = {"instruction": "and?", "input": "", "output": "4", "system": "s", "history": [["hi", "hello"]]}
    found = turns_of(row)
    assert found == (Message("system", "s"), ASKED, ANSWERED, Message("user", "and?"), Message("assistant", "4"))
    assert turns_of({**row, "history": '[["hi", "hello"]]'}) == found
    assert read_one({**row, "history": []}) == Pair(PLACE, "and?", "4", "s")


@pytest.mark.parametrize(
    ("label", "wanted"),
    [(True, True), (False, False), ("true", True), ("False", False)],
)
def test_a_label_says_whether_the_answer_was_wanted(label: Any, wanted: bool) -> None:
    row = {"prompt": "a", "completion": "b", "label": label, "group": "g"}
    assert read_one(row) == Labelled(PLACE, Pair(PLACE, "a", "b", group="g"), wanted, "g")


def test_a_label_of_one_or_zero_counts_where_it_is_named() -> None:
    row = {"prompt": "a", "completion": "b", "label": 1}
    assert isinstance(read_one(row), Pair)
    assert read_one(row, format="kto") == Labelled(PLACE, Pair(PLACE, "a", "b"), True)
    assert read_one({**row, "label": "0"}, columns={"prompt": "prompt"}) == Pair(PLACE, "a", "b")
    assert read_one({"prompt": "a", "completion": "b", "good": 0}, columns={"label": "good"}) == Labelled(
        PLACE, Pair(PLACE, "a", "b"), False
    )


def test_only_the_last_answer_of_labelled_turns_is_judged() -> None:
    expected = Labelled(PLACE, Conversation(PLACE, (ASKED, UNLEARNED, ASKED, ANSWERED)), True)
    turns = [USER, ANSWER, USER, ANSWER]
    assert read_one({"messages": turns, "label": True}) == expected
    assert read_one({"messages": turns, "kto_tag": True}) == expected
    assert read_one({"completion": turns, "label": True}) == expected
    assert read_one({"prompt": turns[:3], "completion": [ANSWER], "label": True}) == expected
    found = read_one({"instruction": "a", "input": "b", "output": "c", "kto_tag": True})
    assert found == Labelled(PLACE, Pair(PLACE, "a\nb", "c"), True)


def test_text_is_a_passage_and_other_names_count_when_alone() -> None:
    assert read_one({"text": "once", "id": 3}) == Passage(PLACE, "once")
    assert read_one({"content": "once", "id": None}) == Passage(PLACE, "once")
    assert read_one({"document": "once"}) == Passage(PLACE, "once")
    assert the_problem({"content": "once", "id": 3}).code == "data.columns"
    assert read_one({"content": "once", "id": 3}, columns={"text": "content"}) == Passage(PLACE, "once")


def test_code_with_a_hole_is_an_infill() -> None:
    assert read_one({"prefix": "a(", "suffix": "", "middle": ")"}) == Infill(PLACE, "a(", "", ")")
    assert read_one({"prompt": "a(", "suffix": "b", "completion": "\n"}) == Infill(PLACE, "a(", "b", "\n")


@pytest.mark.parametrize(
    ("row", "code", "said"),
    [
        ({"prompt": "a", "completion": ""}, "data.nothing-to-learn", '"completion" is empty'),
        ({"prompt": "a", "completion": None}, "data.nothing-to-learn", '"completion" is empty'),
        ({"prompt": "", "completion": "b"}, "data.empty-content", '"prompt" is empty'),
        ({"prompt": 3, "completion": "b"}, "data.type", '"prompt" must be a string, not 3'),
        ({"prompt": "a", "completion": 3}, "data.type", '"completion"'),
        ({"prompt": "a", "completion": []}, "data.messages", '"completion"'),
        ({"prompt": "a", "completion": [USER]}, "data.nothing-to-learn", "no assistant turn"),
        ({"prompt": "a", "completion": "b", "system": 3}, "data.type", '"system"'),
        ({"prompt": "a", "completion": "b", "videos": ["a"]}, "data.unsupported", '"videos"'),
        ({"instruction": "", "input": " ", "output": "b"}, "data.empty-content", '"instruction" is empty'),
        ({"instruction": "a", "input": 3, "output": "b"}, "data.type", '"input" must be a string, not 3'),
        ({"instruction": "a", "output": " "}, "data.nothing-to-learn", '"output" is empty'),
        ({"instruction": "a", "output": "b", "history": "x"}, "data.json", '"history"'),
        ({"instruction": "a", "output": "b", "history": {"a": "b"}}, "data.history", "must be a list"),
        ({"instruction": "a", "output": "b", "history": [["a"]]}, "data.history", "item 1"),
        ({"instruction": "a", "output": "b", "history": [["a", ""]]}, "data.nothing-to-learn", "answer 1"),
        ({"completion": "b", "label": True}, "data.columns", "no prompt beside it"),
        ({"messages": [USER], "label": True}, "data.nothing-to-learn", "no assistant turn"),
        ({"text": "\n"}, "data.nothing-to-learn", '"text" is empty'),
        ({"text": ["a"]}, "data.type", '"text"'),
        ({"prefix": "a", "suffix": "b", "middle": ""}, "data.nothing-to-learn", '"middle" is empty'),
        ({"prefix": 3, "suffix": "b", "middle": "c"}, "data.type", '"prefix"'),
    ],
)
def test_a_row_that_cannot_be_used_says_why(row: dict[str, Any], code: str, said: str) -> None:
    problem = the_problem(row)
    assert problem.code == code
    assert said in problem.what


@pytest.mark.parametrize("label", ["maybe", 2, 0.5, [], "👍"])
def test_a_label_that_is_neither_true_nor_false_is_refused(label: Any) -> None:
    problem = the_problem({"prompt": "a", "completion": "b", "label": label}, format="kto")
    assert problem.code == "data.label"
    assert '"label" must be true or false' in problem.what
