import json
from typing import Any

import pytest

from localtune.data.conversations import Conversation, Message, ToolCall
from tests.unit.data.shapes.builders import ANSWER, ANSWERED, ASKED, PLACE, USER, read_one, the_problem, turns_of

SCHEMA = {"name": "add", "description": "sums", "parameters": {"type": "object", "properties": {}}}
WRAPPED = {"type": "function", "function": SCHEMA}
CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}


def with_answer(**keys: Any) -> dict[str, Any]:
    return {"messages": [USER, {**ANSWER, **keys}]}


def test_turns_become_a_conversation() -> None:
    assert read_one({"messages": [USER, ANSWER], "group": "sums"}) == Conversation(PLACE, (ASKED, ANSWERED), "sums")


@pytest.mark.parametrize("key", ["conversations", "conversation", "dialog", "dialogue", "items"])
def test_turns_with_roles_are_found_under_other_names(key: str) -> None:
    assert turns_of({key: [USER, ANSWER]}) == (ASKED, ANSWERED)


def test_turns_written_as_json_in_a_cell_of_a_table_are_read() -> None:
    assert turns_of({"messages": json.dumps([USER, ANSWER])}) == (ASKED, ANSWERED)


def test_developer_speaks_as_system_and_function_as_tool() -> None:
    rows = [{"role": "developer", "content": "d"}, USER, {"role": "function", "name": "add", "content": "3"}, ANSWER]
    assert turns_of({"messages": rows}) == (
        Message("system", "d"),
        ASKED,
        Message("tool", "3", name="add"),
        ANSWERED,
    )


def test_parts_of_text_are_joined() -> None:
    content = [{"type": "text", "text": "a"}, {"type": "text", "text": "b\n"}, {"type": None, "text": "c"}]
    assert turns_of({"messages": [{"role": "user", "content": content}, ANSWER]})[0] == Message("user", "ab\nc")


@pytest.mark.parametrize("arguments", ['{"a": 1}', {"a": 1}])
@pytest.mark.parametrize("plain", [False, True])
def test_calls_are_read_in_both_forms_with_arguments_as_object_or_string(arguments: Any, plain: bool) -> None:
    inner = {"name": "add", "arguments": arguments}
    call = inner if plain else {"id": "c1", "type": "function", "function": inner}
    result = {"role": "tool", "tool_call_id": "c1", "name": "add", "content": "1"}
    turns = turns_of({"messages": [USER, {"role": "assistant", "content": None, "tool_calls": [call]}, result, ANSWER]})
    assert turns[1] == Message("assistant", "", calls=(ToolCall("add", {"a": 1}, "" if plain else "c1"),))
    assert turns[2] == Message("tool", "1", name="add", call_id="c1")


def test_a_call_without_arguments_has_none() -> None:
    called = [{"function": {"name": "now", "arguments": ""}}, {"name": "now"}]
    turns = turns_of(with_answer(content=None, tool_calls=called))
    assert turns[1].calls == (ToolCall("now", {}), ToolCall("now", {}))


def test_a_deprecated_function_call_is_a_call() -> None:
    turns = turns_of(with_answer(content="", function_call={"name": "add", "arguments": "{}"}))
    assert turns[1] == Message("assistant", "", calls=(ToolCall("add", {}),))


@pytest.mark.parametrize("key", ["tools", "functions"])
@pytest.mark.parametrize("form", [[SCHEMA], [WRAPPED], json.dumps([SCHEMA]), SCHEMA, [{"type": "function", **SCHEMA}]])
def test_tools_are_kept_and_bare_ones_wrapped(key: str, form: Any) -> None:
    found = read_one({"messages": [USER, ANSWER], key: form})
    assert isinstance(found, Conversation)
    assert found.tools == (WRAPPED,)


@pytest.mark.parametrize("empty", [[], "", "[]", {}, " "])
def test_empty_tools_are_none_and_functions_beside_them_count(empty: Any) -> None:
    row = {"messages": [USER, ANSWER], "tools": empty}
    bare, older = read_one(row), read_one({**row, "functions": [SCHEMA]})
    assert isinstance(bare, Conversation)
    assert isinstance(older, Conversation)
    assert (bare.tools, older.tools) == ((), (WRAPPED,))


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning", "thinking"])
def test_reasoning_is_kept_beside_the_answer(key: str) -> None:
    assert turns_of(with_answer(**{key: "well"}))[1] == Message("assistant", "hello", "well")


def test_thinking_written_into_the_content_stays_there() -> None:
    assert turns_of(with_answer(content="<think>a</think>b"))[1].content == "<think>a</think>b"


@pytest.mark.parametrize(
    ("keys", "weight"),
    [
        ({"weight": 0}, 0.0),
        ({"weight": 0.25}, 0.25),
        ({"weight": None}, 1.0),
        ({"train": False}, 0.0),
        ({"training": True}, 1.0),
        ({"learn": False, "weight": 0}, 0.0),
        ({"loss": True, "weight": 0.5}, 0.5),
    ],
)
def test_weights_of_answers_are_honoured(keys: dict[str, Any], weight: float) -> None:
    turns = turns_of({"messages": [USER, {**ANSWER, **keys}, USER, ANSWER]})
    assert [turn.weight for turn in turns] == [1.0, weight, 1.0, 1.0]


def test_a_row_of_openai_fine_tuning_is_read() -> None:
    row = {"messages": [USER, {**ANSWER, "weight": 1}], "parallel_tool_calls": False, "functions": [SCHEMA]}
    assert read_one(row) == Conversation(PLACE, (ASKED, ANSWERED), tools=(WRAPPED,))


def test_a_system_prompt_beside_the_turns_becomes_the_first() -> None:
    assert turns_of({"messages": [USER, ANSWER], "system": "s"})[0] == Message("system", "s")
    assert turns_of({"messages": [{"role": "system", "content": "s"}, USER, ANSWER], "system": "s"})[1:] == (
        ASKED,
        ANSWERED,
    )


@pytest.mark.parametrize(
    ("row", "code", "said"),
    [
        ({"messages": "hi"}, "data.messages", "\"messages\" must be a list of turns, not 'hi'"),
        ({"messages": []}, "data.messages", "list of turns"),
        ({"messages": ["hi"]}, "data.messages", "turn 1"),
        ({"messages": [{"role": "human", "content": "x"}, ANSWER]}, "data.role", "'human'; known: system, developer"),
        ({"messages": [USER, {"content": "x"}]}, "data.role", "turn 2 has the role missing"),
        ({"messages": [USER, {"role": ["user"], "content": "x"}]}, "data.role", "turn 2"),
        (with_answer(content=" "), "data.nothing-to-learn", "turn 2 (assistant) is empty"),
        ({"messages": [{"role": "user", "content": "\n"}, ANSWER]}, "data.empty-content", "turn 1 (user) is empty"),
        (with_answer(content=None), "data.type", "turn 2 (assistant) must be a string"),
        (with_answer(content=3), "data.type", "must be a string, not 3"),
        (with_answer(content=[{"type": "image_url", "image_url": {}}]), "data.unsupported", "type 'image_url'"),
        (with_answer(content=["a"]), "data.type", "part 'a'"),
        (with_answer(content=[{"type": "text"}]), "data.type", "must be a string, not missing"),
        (with_answer(images=["a.png"]), "data.unsupported", '"images"'),
        ({"messages": [USER, ANSWER], "images": ["a.png"]}, "data.unsupported", '"images"'),
        ({"messages": [USER, ANSWER], "audios": ["a.wav"]}, "data.unsupported", '"audios"'),
        (with_answer(tool_calls=[{"id": 1}]), "data.tool-call", "without a name"),
        (with_answer(tool_calls={"name": "f"}), "data.tool-call", "must be a list"),
        (with_answer(tool_calls=[{"name": "f", "arguments": "{"}]), "data.json", "arguments"),
        (with_answer(tool_calls=[{"name": "f", "arguments": "[1]"}]), "data.tool-call", "must be an object"),
        (with_answer(tool_calls=[{"name": "f", "arguments": '{"a": NaN}'}]), "data.json", "NaN"),
        (with_answer(tool_calls=[{"name": "f", "arguments": '{"a": "\\ud800"}'}]), "data.json", "surrogate"),
        (with_answer(tool_calls=[{"name": "f", "arguments": '{"a": ["\\u0000"]}'}]), "data.json", "NUL"),
        (with_answer(tool_calls=[{"name": "f", "arguments": '{"a": 1, "a": 2}'}]), "data.json", "twice"),
        (with_answer(tool_calls=[{"name": "f", "arguments": '{"a":' + "[" * 5000}]), "data.json", "nested"),
        (with_answer(tool_calls=["f"]), "data.tool-call", "no object"),
        (with_answer(tool_calls=[{"type": "custom", "name": "f"}]), "data.unsupported", "'custom'"),
        (with_answer(tool_calls=[CALL], function_call={"name": "f"}), "data.tool-call", "both"),
        ({"messages": [{**USER, "tool_calls": [CALL]}, ANSWER]}, "data.unsupported", "only an answer"),
        ({"messages": [{**USER, "reasoning": "hm"}, ANSWER]}, "data.unsupported", "only an answer"),
        (with_answer(reasoning="a", thinking="b"), "data.reasoning", "reasoning and thinking"),
        (with_answer(reasoning=3), "data.type", '"reasoning"'),
        (with_answer(weight=2), "data.weight", "from 0 to 1, not 2"),
        (with_answer(weight=True), "data.weight", "from 0 to 1"),
        (with_answer(weight=float("nan")), "data.weight", "not nan"),
        (with_answer(train="no"), "data.weight", "true or false"),
        (with_answer(train=False, weight=1), "data.weight", "not to be learned: train, weight"),
        (with_answer(train=False), "data.nothing-to-learn", "every answer has the weight 0"),
        (with_answer(name=3), "data.type", "name"),
        ({"messages": [USER, ANSWER], "tools": [{}]}, "data.tools", "tool 1 has no name"),
        ({"messages": [USER, ANSWER], "tools": ["f"]}, "data.json", "tool 1"),
        ({"messages": [USER, ANSWER], "tools": 3}, "data.tools", "list of functions"),
        ({"messages": [USER, ANSWER], "tools": [SCHEMA], "functions": [SCHEMA]}, "data.tools", "both"),
        ({"messages": [USER]}, "data.nothing-to-learn", "no assistant turn"),
        ({"messages": [USER, ANSWER], "system": 3}, "data.type", '"system"'),
        (
            {"messages": [{"role": "system", "content": "a"}, USER, ANSWER], "system": "b"},
            "data.system",
            "'b' and 'a'",
        ),
        ({"messages": [USER, ANSWER], "group": ["a"]}, "data.type", '"group"'),
    ],
)
def test_a_row_that_cannot_be_used_says_why(row: dict[str, Any], code: str, said: str) -> None:
    problem = the_problem(row)
    assert (problem.code, problem.where) == (code, "a.jsonl:1")
    assert said in problem.what
    assert problem.evidence
    assert problem.fix


def test_text_of_the_row_reaches_no_screen_as_it_is() -> None:
    assert "\x1b" not in str(the_problem({"messages": [{"role": "\x1b[31m", "content": "x"}]}))
