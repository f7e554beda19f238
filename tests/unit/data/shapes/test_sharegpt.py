import json
from typing import Any

import pytest

from localtune.data.conversations import Conversation, Message, ToolCall
from tests.unit.data.shapes.builders import ANSWERED, ASKED, GPT, HUMAN, PLACE, read_one, the_problem, turns_of


@pytest.mark.parametrize("key", ["conversations", "conversation", "items", "messages"])
@pytest.mark.parametrize("user", ["human", "user"])
@pytest.mark.parametrize("answer", ["gpt", "chatgpt", "bard", "bing", "assistant", "model"])
def test_all_known_names_of_keys_and_speakers_are_read(key: str, user: str, answer: str) -> None:
    row = {key: [{"from": user, "value": "hi"}, {"from": answer, "value": "hello"}]}
    assert read_one(row) == Conversation(PLACE, (ASKED, ANSWERED))


@pytest.mark.parametrize("tool", ["tool", "observation", "function_response", "function"])
@pytest.mark.parametrize("caller", ["function_call", "tool_call"])
def test_calls_written_as_json_become_calls(tool: str, caller: str) -> None:
    call = {"from": caller, "value": json.dumps({"name": "add", "arguments": {"a": [1, 2]}})}
    row = {"conversations": [HUMAN, call, {"from": tool, "value": "3"}, GPT], "tools": '[{"name": "add"}]'}
    found = read_one(row)
    assert isinstance(found, Conversation)
    assert found.messages == (
        ASKED,
        Message("assistant", "", calls=(ToolCall("add", {"a": [1, 2]}),)),
        Message("tool", "3"),
        ANSWERED,
    )
    assert found.tools == ({"type": "function", "function": {"name": "add"}},)


def test_several_calls_in_one_turn_stay_one_turn() -> None:
    value = json.dumps([{"name": "f", "arguments": {}}, {"name": "g", "arguments": "{}"}])
    turns = turns_of({"conversations": [HUMAN, {"from": "function_call", "value": value}]})
    assert [call.name for call in turns[1].calls] == ["f", "g"]


def test_system_stands_in_a_turn_or_beside_them() -> None:
    system = {"from": "system", "value": "s"}
    assert turns_of({"conversations": [system, HUMAN, GPT]}) == turns_of({"conversations": [HUMAN, GPT], "system": "s"})


def test_weight_and_loss_are_honoured() -> None:
    row = {"conversations": [HUMAN, {**GPT, "loss": False}, HUMAN, {**GPT, "weight": 0.5}]}
    assert [turn.weight for turn in turns_of(row)] == [1.0, 0.0, 1.0, 0.5]


@pytest.mark.parametrize(
    ("turns", "code", "said"),
    [
        ([HUMAN, {"from": "gpt", "value": ""}], "data.nothing-to-learn", "turn 2 (assistant) is empty"),
        ([HUMAN, {"from": "gpt", "value": None}], "data.type", "turn 2"),
        ([HUMAN, {"from": "alien", "value": "x"}], "data.role", "turn 2 is from 'alien'; known: system, human"),
        ([HUMAN, {"value": "x"}], "data.role", "turn 2 is from missing"),
        ([HUMAN, "x"], "data.messages", "turn 2"),
        ([HUMAN, {"from": "function_call", "value": "call add"}], "data.json", "call of turn 2 (function_call)"),
        ([HUMAN, {"from": "function_call", "value": "[]"}], "data.tool-call", "calls nothing"),
        ([HUMAN], "data.nothing-to-learn", "no assistant turn"),
        ([], "data.messages", "list of turns"),
    ],
)
def test_a_row_that_cannot_be_used_says_why(turns: list[Any], code: str, said: str) -> None:
    problem = the_problem({"conversations": turns})
    assert problem.code == code
    assert said in problem.what
