"""Real files of other projects: shape, rows read, and rows refused with their lines."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from localtune.data.conversations import Conversation, Pair, Preference
from localtune.data.rows import BadRows, Place, Row
from localtune.data.shapes import Format, examples
from localtune.errors import InputError
from localtune.settings import DataSettings
from tests.material import material

pytestmark = pytest.mark.material

READ = [
    ("chat-shapes/axolotl-alpaca.json", "alpaca", 2, (), ()),
    ("chat-shapes/axolotl-conversation.json", "sharegpt", 1, (), ()),
    ("chat-shapes/axolotl-conversation.missingturns.json", "sharegpt", 0, (), ("data.nothing-to-learn at 1",)),
    ("chat-shapes/openai-toy_chat_fine_tuning.jsonl", "messages", 5, (), ()),
    ("chat-shapes/sharegpt-fastchat-dummy.json", "sharegpt", 500, ("id",), ()),
    ("chat-shapes/torchtune-alpaca_tiny.json", "alpaca", 100, ("text",), ()),
    ("chat-shapes/torchtune-chat_tiny.json", "sharegpt", 1, (), ()),
    ("chat-shapes/torchtune-hh_rlhf_tiny.json", "preference", 1, (), ()),
    ("chat-shapes/torchtune-instruct_tiny.json", "prompt-completion", 2, (), ()),
    ("chat-shapes/torchtune-stack_exchange_paired_tiny.json", "preference", 25, (), ()),
    ("llamafactory-demos/alpaca_en_demo.json", "alpaca", 999, (), ()),
    ("llamafactory-demos/c4_demo.jsonl", "text", 300, (), ()),
    ("llamafactory-demos/dpo_en_demo.json", "preference", 300, (), ()),
    ("llamafactory-demos/glaive_toolcall_en_demo.json", "sharegpt", 300, (), ()),
    ("llamafactory-demos/identity.json", "alpaca", 91, (), ()),
    ("sft-gsm8k/train-2000.jsonl", "prompt-completion", 2000, (), ()),
    ("sft-wikisql/train.jsonl", "text", 1000, (), ()),
    ("ko-chatbot/ko-chat-2000.jsonl", "messages", 2000, (), ()),
]


def rows_of(name: str) -> Iterator[Row]:
    folder, _, file = name.partition("/")
    path = material(folder) / file
    if path.suffix == ".csv":
        with path.open(encoding="utf-8-sig", newline="") as table:
            yield from (Row(Place(file, line), dict(row)) for line, row in enumerate(csv.DictReader(table), start=2))
    else:
        yield from (Row(Place(file, line), value) for line, value in enumerate(_values(path), start=1))


def _values(path: Path) -> list[dict[str, object]]:
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_bytes().splitlines()]
    found = json.loads(path.read_bytes())
    return found if isinstance(found, list) else [found]


def read(name: str, bad: BadRows, **settings: object) -> tuple[Format, list[object]]:
    form, source = examples(rows_of(name), DataSettings.model_validate({"train": "x", **settings}), bad)
    return form, list(source)


@pytest.mark.parametrize(("name", "shape", "count", "unused", "problems"), READ)
def test_a_real_file_is_read(
    name: str, shape: str, count: int, unused: tuple[str, ...], problems: tuple[str, ...]
) -> None:
    bad = BadRows("skip")
    form, found = read(name, bad)
    assert (form.shape, len(found), form.unused) == (shape, count, unused)
    assert tuple(f"{p.code} at {p.where.rpartition(':')[2]}" for p in bad.first) == problems


def test_korean_pairs_are_told_by_columns() -> None:
    with pytest.raises(InputError) as caught:
        read("ko-chatbot/ChatbotData.csv", BadRows("skip"))
    assert caught.value.problems[0].fix == "--set data.columns='{prompt: Q, completion: A}'"
    form, found = read("ko-chatbot/ChatbotData.csv", BadRows("stop"), columns={"prompt": "Q", "completion": "A"})
    assert (form.shape, form.unused, len(found)) == ("prompt-completion", ("label",), 11_823)
    assert isinstance(found[0], Pair)
    assert found[0].prompt == "12시 땡!"


def test_a_file_that_describes_data_sets_is_no_data() -> None:
    with pytest.raises(InputError, match=r"data\.columns"):
        read("llamafactory-demos/dataset_info.json", BadRows("skip"))


def test_calls_of_glaive_are_calls_of_tools_that_are_there() -> None:
    _, found = read("llamafactory-demos/glaive_toolcall_en_demo.json", BadRows("stop"))
    rows = [row for row in found if isinstance(row, Conversation)]
    calls = [(row, call) for row in rows for message in row.messages for call in message.calls]
    assert (len(rows), len(calls)) == (300, 211)
    assert all(call.name in [tool["function"]["name"] for tool in row.tools] for row, call in calls)


def test_demo_preferences_share_all_but_their_last_answer() -> None:
    _, found = read("llamafactory-demos/dpo_en_demo.json", BadRows("stop"))
    rows = [row for row in found if isinstance(row, Preference)]
    for row in rows:
        assert isinstance(row.chosen, Conversation)
        assert isinstance(row.rejected, Conversation)
        assert row.chosen.messages[:-1] == row.rejected.messages[:-1]
        assert [m.weight for m in row.chosen.messages if m.role == "assistant"][-1:] == [1.0]
        assert not any(m.weight for m in row.chosen.messages[:-1] if m.role == "assistant")
