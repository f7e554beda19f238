"""Real templates with tools, calls and reasoning: the call and its end are learned, or the row is refused by name."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from localtune.data.conversations import Conversation, Message, ToolCall
from localtune.data.render import Renderer, Tokenised
from localtune.data.tokenizer import Tokenizer
from localtune.data.turns import Learn
from localtune.errors import Problem
from tests.material import material
from tests.unit.data.builders import PLACE, all_text, learned_text
from tests.unit.data.test_golden import ENDS, NO_THINKING, TODAY, with_template

pytestmark = pytest.mark.material
CALL = ToolCall("get_weather", {"city": "서울", "unit": "celsius"}, "call00001")
ASKED = Message("user", "Weather in Seoul?")
RESULT = Message("tool", '{"temp": 3}', name="get_weather", call_id="call00001")
SAID = Message("assistant", "3 degrees.")
CHATML_CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "서울", "unit": "celsius"}}\n</tool_call>'
LLAMA_CALL = '{"name": "get_weather", "parameters": {"city": "서울", "unit": "celsius"}}'
CODER_CALL = (
    "<tool_call>\n<function=get_weather>\n<parameter=city>\n서울\n</parameter>\n<parameter=unit>\ncelsius\n"
    "</parameter>\n</function>\n</tool_call>"
)
NEMO_CALL = '[TOOL_CALLS][{"name": "get_weather", "arguments": {"city": "서울", "unit": "celsius"}, "id": "call00001"}]'
HERMES = "NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use"
CALLS = {
    HERMES: CHATML_CALL,
    "Qwen-Qwen2.5-7B-Instruct": CHATML_CALL,
    "Qwen-Qwen3-0.6B": NO_THINKING + CHATML_CALL,
    "Qwen3-Coder": CODER_CALL,
    "meta-llama-Llama-3.1-8B-Instruct": LLAMA_CALL,
    "meta-llama-Llama-3.2-3B-Instruct": LLAMA_CALL,
    "mistralai-Mistral-Nemo-Instruct-2407": NEMO_CALL,
}
WITHOUT_CALLS = {
    "HuggingFaceTB-SmolLM3-3B": "tools",
    "LFM2-8B-A1B": "tool call",
    "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B": "tools",
    "google-gemma-2-2b-it": "tools",
    "microsoft-Phi-3.5-mini-instruct": "tools",
}
ENDING = ENDS | {HERMES: "<|im_end|>"}
DROPS_WORDS = {HERMES, *(name for name in CALLS if "Llama" in name or "Nemo" in name)}
"""Templates that write a call and not what is said beside it."""


def tools() -> tuple[dict[str, Any], ...]:
    given = json.loads((material("chat-templates") / "conversations.json").read_text("utf-8"))
    return tuple(given["tools"]["tools"])


def rendered(tokenizer: Tokenizer, *messages: Message, learn: Learn = "answers", bare: bool = False) -> Any:
    row = Conversation(PLACE, messages, tools=() if bare else tools())
    (done,) = Renderer(tokenizer, learn=learn, today=TODAY).render([row])
    return done


def calling(content: str = "", reasoning: str = "") -> Message:
    return Message("assistant", content, reasoning, (CALL,))


@pytest.mark.parametrize("name", CALLS)
def test_a_call_and_its_end_are_learned(name: str, tmp_path: Path) -> None:
    tokenizer = with_template(tmp_path, name)
    done = rendered(tokenizer, ASKED, calling())
    assert isinstance(done, Tokenised)
    (one,) = done.segments
    assert learned_text(tokenizer, one) == CALLS[name] + ENDING[name]
    assert "City name" in all_text(tokenizer, one)


@pytest.mark.parametrize("name", CALLS)
def test_results_of_tools_are_read_and_not_learned(name: str, tmp_path: Path) -> None:
    tokenizer = with_template(tmp_path, name)
    done = rendered(tokenizer, ASKED, calling(), RESULT, SAID)
    if name == HERMES:  # it writes a newline behind a result that generation never sees
        assert isinstance(done, Problem)
        assert done.code == "template.unmaskable"
        return
    assert isinstance(done, Tokenised)
    call, said = CALLS[name] + ENDING[name], f"3 degrees.{ENDING[name]}"
    texts = [learned_text(tokenizer, segment) for segment in done.segments]
    assert texts == ([NO_THINKING + said, call] if "Qwen3-0.6B" in name else [call + said])
    assert "temp" in all_text(tokenizer, done.segments[0])


@pytest.mark.parametrize("name", WITHOUT_CALLS)
def test_a_template_that_does_not_write_tools_or_calls_is_refused(name: str, tmp_path: Path) -> None:
    done = rendered(with_template(tmp_path, name), ASKED, calling())
    assert isinstance(done, Problem)
    assert done.code == "template.lost"
    assert (
        f"it does not write {'every ' if 'call' in WITHOUT_CALLS[name] else 'the '}{WITHOUT_CALLS[name]}" in done.what
    )


@pytest.mark.parametrize("name", CALLS)
def test_words_beside_a_call_are_learned_or_refused(name: str, tmp_path: Path) -> None:
    tokenizer = with_template(tmp_path, name)
    done = rendered(tokenizer, ASKED, calling("I look it up."))
    if name in DROPS_WORDS:
        assert isinstance(done, Problem)
        assert "what is said beside a call" in done.what
        return
    assert isinstance(done, Tokenised)
    learned = learned_text(tokenizer, done.segments[0])
    assert "I look it up." in learned
    assert learned.endswith(CALLS[name].removeprefix(NO_THINKING) + ENDING[name])


@pytest.mark.parametrize("name", ENDS)
def test_reasoning_is_learned_before_the_answer(name: str, tmp_path: Path) -> None:
    tokenizer = with_template(tmp_path, name)
    done = rendered(tokenizer, Message("user", "a"), Message("assistant", "b", "hm, ok"), bare=True)
    assert isinstance(done, Tokenised)
    assert learned_text(tokenizer, done.segments[0]) == f"<think>\nhm, ok\n</think>\n\nb{ENDS[name]}"


@pytest.mark.parametrize("name", CALLS)
def test_reasoning_before_a_call_is_learned_or_refused(name: str, tmp_path: Path) -> None:
    tokenizer = with_template(tmp_path, name)
    done = rendered(tokenizer, ASKED, calling("", "look it up"))
    if name in DROPS_WORDS:
        assert isinstance(done, Problem)
        assert done.code == "template.lost"
        return
    assert isinstance(done, Tokenised)
    assert learned_text(tokenizer, done.segments[0]).startswith("<think>\nlook it up\n</think>")


def test_an_earlier_answer_keeps_its_reasoning_in_a_text_of_its_own(tmp_path: Path) -> None:
    tokenizer = with_template(tmp_path, "Qwen-Qwen3-0.6B")
    talk = (
        Message("user", "a"),
        Message("assistant", "b", "one"),
        Message("user", "c"),
        Message("assistant", "d", "two"),
    )
    done = rendered(tokenizer, *talk, bare=True)
    assert isinstance(done, Tokenised)
    texts = [learned_text(tokenizer, segment) for segment in done.segments]
    assert texts == ["<think>\ntwo\n</think>\n\nd<|im_end|>", "<think>\none\n</think>\n\nb<|im_end|>"]
    whole = rendered(tokenizer, *talk, learn="all", bare=True)
    assert isinstance(whole, Problem)  # in the whole conversation the first reasoning is missing
    assert "reasoning" in whole.what


@pytest.mark.parametrize("name", CALLS)
def test_control_strings_in_arguments_and_results_stay_text(name: str, tmp_path: Path) -> None:
    tokenizer = with_template(tmp_path, name)
    end = ENDING[name]
    counts = []
    for city in ("x", f"{end}</tool_call><s>"):
        call = replace(calling(), calls=(replace(CALL, arguments={"city": city}),))
        done = rendered(tokenizer, ASKED, call)
        assert isinstance(done, Tokenised)
        (one,) = done.segments
        counts.append(sum(token in tokenizer.control_ids for token in one.tokens.tolist()))
        assert city in learned_text(tokenizer, one)
    assert counts[0] == counts[1]


def test_a_mask_that_begins_one_token_later_would_be_noticed(tmp_path: Path) -> None:
    tokenizer = with_template(tmp_path, "Qwen-Qwen2.5-7B-Instruct")
    (one,) = rendered(tokenizer, ASKED, calling()).segments
    weights = one.weights.copy()
    weights[weights.nonzero()[0][0]] = 0
    assert learned_text(tokenizer, replace(one, weights=weights)) != CHATML_CALL + "<|im_end|>"


TABLE = {
    "HuggingFaceTB-SmolLM3-3B": {"masked": 8, "template.unmaskable": 1, "template.lost": 1},
    "LFM2-8B-A1B": {"masked": 8, "template.unmaskable": 1, "template.lost": 1},
    HERMES: {"template.refused": 9, "template.unmaskable": 1},
    "Qwen-Qwen2.5-7B-Instruct": {"masked": 9, "template.unmaskable": 1},
    "Qwen-Qwen3-0.6B": {"masked": 9, "template.unmaskable": 1},
    "Qwen3-Coder": {"masked": 9, "template.unmaskable": 1},
    "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B": {"template.unmaskable": 9, "template.lost": 1},
    "google-gemma-2-2b-it": {"masked": 5, "template.refused": 5},
    "meta-llama-Llama-3.1-8B-Instruct": {"masked": 9, "template.unmaskable": 1},
    "meta-llama-Llama-3.2-3B-Instruct": {"masked": 9, "template.unmaskable": 1},
    "microsoft-Phi-3.5-mini-instruct": {"masked": 9, "template.lost": 1},
    "mistralai-Mistral-Nemo-Instruct-2407": {"masked": 6, "template.unmaskable": 2, "template.refused": 2},
}
"""What becomes of the 10 conversations with an answer."""


def messages(given: dict[str, Any]) -> tuple[Message, ...]:
    turns = []
    for turn in given["messages"]:
        calls = [(c["function"], c["id"]) for c in turn.get("tool_calls", [])]
        called = tuple(ToolCall(f["name"], f["arguments"], number) for f, number in calls)
        names = turn.get("name", ""), turn.get("tool_call_id", "")
        turns.append(Message(turn["role"], turn["content"], "", called, *names))
    return tuple(turns)


def vectors(name: str) -> dict[tuple[str, bool], str | None]:
    lines = (material("chat-templates") / "vectors.jsonl").read_text("utf-8").split("\n")
    mine = (row for row in map(json.loads, filter(None, lines)) if row["template"] == f"{name}.jinja")
    return {(row["conversation"], row["add_generation_prompt"]): row.get("text") for row in mine}


def said(name: str, message: Message) -> str:
    """What an answer says, blanks at its ends and empty thinking aside."""
    return CALLS[name].removeprefix(NO_THINKING) if message.calls else message.content.strip()


@pytest.mark.parametrize("name", TABLE)
def test_every_conversation_is_masked_exactly_or_refused(name: str, tmp_path: Path) -> None:
    tokenizer = with_template(tmp_path, name)
    renderer, became, texts = Renderer(tokenizer, learn="answers", today=TODAY), Counter[str](), vectors(name)
    given = json.loads((material("chat-templates") / "conversations.json").read_text("utf-8"))
    for key, value in given.items():
        turns = messages(value)
        answers = [turn for turn in turns if turn.role == "assistant"]
        if not answers:
            continue
        (done,) = renderer.render([Conversation(PLACE, turns, tools=tuple(value.get("tools", ())))])
        became["masked" if isinstance(done, Tokenised) else done.code] += 1
        if isinstance(done, Problem):
            continue
        learned = [learned_text(tokenizer, segment).replace(NO_THINKING, "") for segment in done.segments]
        parts = [part.strip() for text in learned for part in text.split(ENDING[name])[:-1]]
        assert sorted(parts) == sorted(said(name, answer) for answer in answers)
        assert all(segment.tokens.tolist().count(tokenizer.bos_id) <= 1 for segment in done.segments)
        wanted = texts[key, False]
        if turns[-1].role == "assistant":
            assert all_text(tokenizer, done.segments[0]) == wanted
        if turns[-1].role == "assistant" and not done.held:
            assert wanted is not None
            assert done.segments[0].tokens.tolist() == tokenizer.encode(wanted, special=False)
    assert became == TABLE[name]


def test_no_template_is_left_out_of_the_table() -> None:
    assert {path.stem for path in material("chat-templates").glob("*.jinja")} == set(TABLE)
    assert {*CALLS, *WITHOUT_CALLS} == set(TABLE)
