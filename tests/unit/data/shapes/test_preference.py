from typing import Any

import pytest

from localtune.data.conversations import Conversation, Message, Pair, Preference
from tests.unit.data.shapes.builders import ANSWER, ANSWERED, ASKED, GPT, HUMAN, PLACE, USER, read_one, the_problem

BAD = {"role": "assistant", "content": "go away"}
REJECTED = Message("assistant", "go away")
BOTH = Preference(PLACE, Conversation(PLACE, (ASKED, ANSWERED)), Conversation(PLACE, (ASKED, REJECTED)))


def dialogue(*words: str) -> str:
    return "".join(f"\n\n{'Assistant' if i % 2 else 'Human'}: {said}" for i, said in enumerate(words))


def test_strings_are_two_pairs() -> None:
    row = {"prompt": "hi", "chosen": "hello", "rejected": "go away", "system": "s", "group": "g"}
    chosen, rejected = (Pair(PLACE, "hi", answer, "s", "g") for answer in ("hello", "go away"))
    assert read_one(row) == Preference(PLACE, chosen, rejected, "g")


@pytest.mark.parametrize("prompt", ["question", "instruction", "query", "input"])
def test_the_prompt_has_other_names_too(prompt: str) -> None:
    found = read_one({prompt: "hi", "response_j": "hello", "response_k": "go away"})
    assert found == Preference(PLACE, Pair(PLACE, "hi", "hello"), Pair(PLACE, "hi", "go away"))


def test_an_instruction_has_its_input_below() -> None:
    found = read_one({"instruction": "sum", "input": "1 2", "chosen": "3", "rejected": "4"})
    assert found == Preference(PLACE, Pair(PLACE, "sum\n1 2", "3"), Pair(PLACE, "sum\n1 2", "4"))


@pytest.mark.parametrize(
    "row",
    [
        {"chosen": [USER, ANSWER], "rejected": [USER, BAD]},
        {"prompt": "hi", "chosen": [USER, ANSWER], "rejected": [USER, BAD], "messages": [USER, ANSWER]},
        {"prompt": [USER], "chosen": [USER, ANSWER], "rejected": [USER, BAD]},
        {"prompt": [USER], "chosen": [ANSWER], "rejected": [BAD]},
        {"prompt": "hi", "chosen": [ANSWER], "rejected": [BAD]},
        {"prompt": [USER], "chosen": "hello", "rejected": "go away"},
        {"conversations": [HUMAN], "chosen": GPT, "rejected": {"from": "gpt", "value": "go away"}},
        {"messages": [USER], "chosen": ANSWER, "rejected": BAD},
        {"chosen": dialogue("hi", "hello"), "rejected": dialogue("hi", "go away")},
        {"prompt": dialogue("hi", ""), "chosen": "hello", "rejected": "go away"},
        {"input": {"messages": [USER]}, "preferred_output": [ANSWER], "non_preferred_output": [BAD]},
    ],
)
def test_all_forms_of_turns_read_alike(row: dict[str, Any]) -> None:
    assert read_one(row) == BOTH


def test_tools_inside_the_input_object_of_openai_are_kept() -> None:
    given = {"messages": [USER], "tools": [{"name": "f"}]}
    found = read_one({"input": given, "preferred_output": [ANSWER], "non_preferred_output": [BAD]})
    assert isinstance(found, Preference)
    assert isinstance(found.chosen, Conversation)
    assert found.chosen.tools == ({"type": "function", "function": {"name": "f"}},)


def test_of_what_both_share_nothing_is_learned() -> None:
    shared = [USER, ANSWER, USER]
    found = read_one({"chosen": [*shared, ANSWER, USER, ANSWER], "rejected": [*shared, BAD]})
    assert isinstance(found, Preference)
    assert isinstance(found.chosen, Conversation)
    assert isinstance(found.rejected, Conversation)
    assert [m.weight for m in found.chosen.messages if m.role == "assistant"] == [0.0, 1.0, 1.0]
    assert [m.weight for m in found.rejected.messages if m.role == "assistant"] == [0.0, 1.0]


@pytest.mark.parametrize(
    ("row", "code", "said"),
    [
        ({"prompt": "a", "chosen": "b", "rejected": "b"}, "data.preference", "are the same"),
        ({"chosen": [USER, ANSWER], "rejected": [USER, ANSWER]}, "data.preference", "are the same"),
        (
            {"chosen": [USER, ANSWER], "rejected": [{"role": "user", "content": "ho"}, BAD]},
            "data.preference",
            "part at turn 1: 'hi' (user) and 'ho' (user)",
        ),
        (
            {"chosen": [USER, ANSWER], "rejected": [USER, ANSWER, USER, BAD]},
            "data.preference",
            "chosen ends before turn 3",
        ),
        ({"prompt": "ho", "chosen": [USER, ANSWER], "rejected": [USER, BAD]}, "data.preference", "chosen is a conv"),
        (
            {"prompt": [{"role": "user", "content": "ho"}], "chosen": [USER, ANSWER], "rejected": [USER, BAD]},
            "data.preference",
            "the prompt beside it is not in it",
        ),
        ({"chosen": "a", "rejected": "b"}, "data.columns", '"chosen" is an answer without a prompt'),
        ({"chosen": [ANSWER], "rejected": [BAD]}, "data.columns", "have no prompt"),
        ({"prompt": "a", "chosen": "b", "rejected": " "}, "data.nothing-to-learn", '"rejected" is empty'),
        ({"prompt": "a", "chosen": 3, "rejected": "b"}, "data.type", '"chosen"'),
        (
            {"chosen": dialogue("hi", ""), "rejected": dialogue("hi", "x")},
            "data.nothing-to-learn",
            "turn 2 of the dialogue (Assistant) is empty",
        ),
        ({"prompt": "a", "chosen": "b", "rejected": "c", "images": ["x"]}, "data.unsupported", '"images"'),
    ],
)
def test_a_row_that_cannot_be_used_says_why(row: dict[str, Any], code: str, said: str) -> None:
    problem = the_problem(row)
    assert problem.code == code
    assert said in problem.what
