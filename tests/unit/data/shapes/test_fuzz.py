"""Whatever a row holds, it is an example, a problem, or an `InputError`."""

from typing import Any, get_args

from hypothesis import given
from hypothesis import strategies as st

from localtune.data.conversations import Example
from localtune.data.rows import Place, Row
from localtune.data.shapes import detect, normal_form, to_messages
from localtune.errors import InputError, Problem
from localtune.settings import DataSettings, Shape

KEYS = (
    "messages", "conversations", "items", "role", "content", "from", "value", "tools", "functions", "tool_calls",
    "function", "name", "arguments", "function_call", "weight", "train", "reasoning", "prompt", "completion", "system",
    "instruction", "input", "output", "history", "chosen", "rejected", "label", "text", "prefix", "suffix", "middle",
    "group", "images", "type", "id", "question", "response_j", "response_k",
)  # fmt: skip
WORDS = (
    "user", "assistant", "human", "gpt", "tool", "function_call", "text", "[", "[]", '[{"role": "user"}]',
    '{"name": "f"}', "\n\nHuman: a\n\nAssistant: b", "\n\nHuman:", "true", " ", "", '"\\ud800"', "[" * 2000,
)  # fmt: skip
EXAMPLES = get_args(Example)

keys = st.sampled_from(KEYS) | st.text(max_size=3)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(WORDS) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=5),
    max_leaves=20,
)
rows = st.dictionaries(keys, values, max_size=6)
formats = st.just("auto") | st.sampled_from(get_args(Shape))
said = st.sampled_from(["a", "b", "", '{"name": "f"}', None]) | values
calls = st.lists(st.fixed_dictionaries({"name": said}, optional={"arguments": said, "function": said}), max_size=2)
fields = {
    "tool_calls": calls | values, "function_call": said, "weight": st.sampled_from([0, 0.5, 1, 2]) | values,
    "train": st.booleans() | values, "reasoning": said, "name": said, "tool_call_id": said,
}  # fmt: skip
odd = st.dictionaries(st.sampled_from(KEYS[3:17]), values, max_size=5)
roles = st.sampled_from(["user", "assistant", "assistant", "tool", "system", "gpt"])
turn = st.fixed_dictionaries({"role": roles, "content": said}, optional=fields)
speakers = st.sampled_from(["human", "gpt", "gpt", "function_call", "observation", "user"])
spoken = st.fixed_dictionaries({"from": speakers, "value": said}, optional=fields)
turns = st.lists(turn, max_size=3) | st.lists(spoken, max_size=3) | st.lists(turn | spoken | odd, max_size=3)
likely = st.one_of(
    st.fixed_dictionaries({"messages": turns}, optional={"tools": calls | values, "system": said}),
    st.fixed_dictionaries({"conversations": turns}, optional={"tools": calls | values}),
    st.fixed_dictionaries({"chosen": turns | said, "rejected": turns | said}, optional={"prompt": turns | said}),
    st.fixed_dictionaries({"messages": turns, "label": st.booleans() | values}),
    st.fixed_dictionaries({"prompt": said, "completion": said | turns}, optional={"label": said, "suffix": said}),
    st.fixed_dictionaries({"instruction": said, "output": said}, optional={"history": values, "input": said}),
    st.fixed_dictionaries({"prefix": said, "suffix": said, "middle": said}),
)


def check(first: dict[str, Any], second: dict[str, Any], shape: str, columns: dict[str, str]) -> None:
    settings = DataSettings.model_validate({"train": "a", "format": shape, "columns": columns})
    try:
        form = detect(Row(Place("a", 1), first), settings)
        for line, value in enumerate((first, second), start=1):
            found = normal_form(Row(Place("a", line), value), form, "s")
            assert isinstance(found, (*EXAMPLES, Problem))
            assert str(found)
            if not isinstance(found, Problem):
                assert to_messages(found)
    except InputError:
        return


no_columns: dict[str, str] = {}
columns = st.just(no_columns) | st.dictionaries(st.sampled_from(["prompt", "text", "label"]), keys)


@given(rows | likely, rows | likely, formats, columns)
def test_any_two_rows_are_read_or_refused(
    first: dict[str, Any], second: dict[str, Any], shape: str, columns: dict[str, str]
) -> None:
    check(first, second, shape, columns)


def test_a_row_nested_to_the_limit_is_refused() -> None:
    deep: Any = "x"
    for _ in range(100_000):
        deep = [deep]
    for value in (
        {"messages": deep},
        {"text": deep},
        {"chosen": deep, "rejected": deep},
        {"tools": deep, "text": deep},
    ):
        check(value, value, "auto", {})
        check(value, value, "messages", {})


def test_a_number_with_too_many_digits_is_refused() -> None:
    check({"text": 10**5000}, {"messages": [{"role": "user", "content": "a", "weight": 10**5000}]}, "auto", {})
