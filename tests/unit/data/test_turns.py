from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from localtune.data.conversations import Conversation, Message, ToolCall
from localtune.data.render import Renderer, Tokenised
from localtune.data.tokenizer import Tokenizer
from localtune.data.turns import Learn
from localtune.errors import InputError, Problem
from tests.unit.data.builders import CHATML, PLACE, TALK, learned_text, save_tokenizer, segments, the_problem
from tests.unit.data.test_render import MARKED, OPEN_ENDED, STRIPPING

WITH_TOOLS = (
    "{% if tools %}{{ tools | tojson }}{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    "{% for c in m.tool_calls or [] %}[{{ c.function.name }} {{ c.function.arguments | tojson }}]{% endfor %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TOOLS: tuple[dict[str, Any], ...] = ({"type": "function", "function": {"name": "sum", "parameters": {}}},)
CALLS = Message("assistant", "", calls=(ToolCall("sum", {"a": 1, "b": [2]}, "1"), ToolCall("sum", {}, "2")))
ASKED = Message("user", "1 + 2?")


def weighted(*weights: float) -> Conversation:
    """`TALK` with the weights of its answers."""
    left = iter(weights)
    turns = [replace(m, weight=next(left)) if m.role == "assistant" else m for m in TALK.messages]
    return replace(TALK, messages=tuple(turns))


def weight_of(tokenizer: Tokenizer, weights: Any, tokens: Any, text: str) -> set[float]:
    """The weights of the tokens that write `text`."""
    ids = tokenizer.encode(text, special=False)
    at = next(i for i in range(len(tokens)) if tokens[i : i + len(ids)].tolist() == ids)
    return set(weights[at : at + len(ids)].tolist())


@pytest.mark.parametrize("template", [CHATML, MARKED])
def test_the_weight_of_an_answer_is_that_of_its_tokens(template: str, tmp_path: Path) -> None:
    tokenizer = save_tokenizer(tmp_path, template=template)
    (one,) = segments(tokenizer, weighted(0.25, 0.5))
    assert weight_of(tokenizer, one.weights, one.tokens, "one<|im_end|>") == {0.25}
    assert weight_of(tokenizer, one.weights, one.tokens, "two <|im_end|>") == {0.5}
    assert learned_text(tokenizer, one) == "one<|im_end|>two <|im_end|>"


@pytest.mark.parametrize("template", [CHATML, MARKED])
def test_an_answer_of_weight_0_is_not_learned(template: str, tmp_path: Path) -> None:
    tokenizer = save_tokenizer(tmp_path, template=template)
    (one,) = segments(tokenizer, weighted(0, 1))
    assert learned_text(tokenizer, one) == "two <|im_end|>"
    (one,) = segments(tokenizer, weighted(1, 0))
    assert learned_text(tokenizer, one) == "one<|im_end|>"


@pytest.mark.parametrize("learn", ["answers", "last", "all"])
def test_a_row_without_any_weight_has_nothing_to_learn(learn: Learn, tmp_path: Path) -> None:
    assert the_problem(save_tokenizer(tmp_path), weighted(0, 0), learn).code == "data.nothing-to-learn"


def test_the_last_answer_counts_nothing_when_its_weight_is_0(tmp_path: Path) -> None:
    assert the_problem(save_tokenizer(tmp_path), weighted(1, 0), "last").code == "data.nothing-to-learn"


def test_everything_is_learned_but_answers_of_weight_0(tmp_path: Path) -> None:
    tokenizer = save_tokenizer(tmp_path)
    (one,) = segments(tokenizer, weighted(0, 0.5), "all")
    (whole,) = segments(tokenizer, TALK, "all")
    assert one.tokens.tolist() == whole.tokens.tolist()
    assert "one<|im_end|>" not in learned_text(tokenizer, one)
    assert weight_of(tokenizer, one.weights, one.tokens, "two <|im_end|>") == {0.5}
    assert weight_of(tokenizer, one.weights, one.tokens, "more<|im_end|>\n") == {1.0}
    lost = len(tokenizer.encode("one<|im_end|>", special=False))
    assert whole.targets - one.targets == lost


def test_a_weight_that_has_no_place_in_the_whole_conversation_is_refused(tmp_path: Path) -> None:
    tokenizer = save_tokenizer(tmp_path, template=STRIPPING)
    turns = [Message("user", "a"), Message("assistant", "<think>x</think>b", weight=0), *TALK.messages[3:]]
    assert the_problem(tokenizer, Conversation(PLACE, tuple(turns)), "all").code == "template.unmaskable"


def test_an_appended_end_has_the_weight_of_its_answer(tmp_path: Path) -> None:
    tokenizer = save_tokenizer(tmp_path, template=OPEN_ENDED)
    (one,) = segments(tokenizer, weighted(1, 0.5))
    assert one.tokens[-1] == tokenizer.eos_id
    assert one.weights[-1] == 0.5


def test_generation_tags_that_are_not_one_for_each_answer_have_no_place_for_weights(tmp_path: Path) -> None:
    source = MARKED.replace(
        "{% generation %}", "{% generation %}{% endgeneration %}{% generation %}x{% endgeneration %}"
    )
    source = source.replace("x{% endgeneration %}", "x{% endgeneration %}{% generation %}")
    tokenizer = save_tokenizer(tmp_path, template=source)
    assert the_problem(tokenizer, weighted(1, 0.5)).code == "template.unmaskable"
    assert segments(tokenizer, weighted(1, 1))


def test_calls_and_their_end_are_learned(tmp_path: Path) -> None:
    tokenizer = save_tokenizer(tmp_path, template=WITH_TOOLS)
    row = Conversation(PLACE, (ASKED, CALLS, Message("tool", "3"), Message("assistant", "It is 3.")), tools=TOOLS)
    (one,) = segments(tokenizer, row)
    call = '[sum {"a": 1, "b": [2]}][sum {}]'
    assert learned_text(tokenizer, one) == f"{call}<|im_end|>It is 3.<|im_end|>"
    renderer = Renderer(tokenizer, learn="answers")
    question = renderer.question(replace(row, messages=row.messages[:2]))
    assert not isinstance(question, Problem)
    assert question.answer == call
    assert question.prompt == renderer.conversation_ids([ASKED], tools=TOOLS)
    assert question.prompt != renderer.conversation_ids([ASKED])


@pytest.mark.parametrize(
    ("left_out", "said"),
    [
        ("{{ tools | tojson }}", "the tools"),
        ("{{ c.function.name }}", "every tool call"),
        ("{{ c.function.arguments | tojson }}", "every tool call"),
        ("{% for c in m.tool_calls or [] %}", "every tool call"),
    ],
)
def test_what_a_template_does_not_write_is_named(left_out: str, said: str, tmp_path: Path) -> None:
    with_one = left_out.replace("[]", "").replace("m.tool_calls or ", "(m.tool_calls or [])[:1]")
    source = WITH_TOOLS.replace(left_out, with_one if left_out.startswith("{%") else "")
    problem = the_problem(save_tokenizer(tmp_path, template=source), Conversation(PLACE, (ASKED, CALLS), tools=TOOLS))
    assert problem.code == "template.lost"
    assert said in problem.what


def test_a_result_that_is_not_written_is_named(tmp_path: Path) -> None:
    source = WITH_TOOLS.replace("{{ m.content }}", "{{ m.content if m.role != 'tool' }}")
    row = Conversation(PLACE, (ASKED, CALLS, Message("tool", "3"), Message("assistant", "3")), tools=TOOLS)
    assert "tool result" in the_problem(save_tokenizer(tmp_path, template=source), row).what


def test_a_call_without_an_end_of_turn_is_refused(tmp_path: Path) -> None:
    source = WITH_TOOLS.replace("<|im_end|>\n{% endfor %}", "\n{% endfor %}")
    row = Conversation(PLACE, (ASKED, CALLS), tools=TOOLS)
    problem = the_problem(save_tokenizer(tmp_path, template=source), row)
    assert problem.code == "template.unmaskable"
    assert "end of its tool call" in problem.what


THINKING = CHATML.replace(
    "{{ m.content }}", "{% if m.reasoning_content %}<r>{{ m.reasoning_content }}</r>{% endif %}{{ m.content }}"
)


@pytest.mark.parametrize(("template", "text"), [(THINKING, "<r>hm</r>b"), (CHATML, "<think>\nhm\n</think>\n\nb")])
def test_reasoning_goes_where_the_template_reads_it(template: str, text: str, tmp_path: Path) -> None:
    tokenizer = save_tokenizer(tmp_path, template=template)
    row = Conversation(PLACE, (ASKED, Message("assistant", "b", "hm")))
    assert learned_text(tokenizer, segments(tokenizer, row)[0]) == f"{text}<|im_end|>"


def test_reasoning_that_the_template_takes_out_is_named(tmp_path: Path) -> None:
    source = CHATML.replace("{{ m.content }}", "{{ m.content.split('</think>')[-1].strip() }}")
    row = Conversation(PLACE, (ASKED, Message("assistant", "b", "hm")))
    problem = the_problem(save_tokenizer(tmp_path, template=source), row)
    assert (problem.code, "reasoning" in problem.what) == ("template.lost", True)


def test_reserved_characters_in_calls_and_tools_are_a_problem(tmp_path: Path) -> None:
    tokenizer = save_tokenizer(tmp_path, template=WITH_TOOLS)
    bad = Message("assistant", "", calls=(ToolCall("f", {"a": ["\U0010fff6"]}),))
    tools = ({"type": "function", "function": {"name": "\U0010fff2"}},)
    for row in (Conversation(PLACE, (ASKED, bad)), Conversation(PLACE, (ASKED, CALLS), tools=tools)):
        assert the_problem(tokenizer, row).code == "data.reserved"
    with pytest.raises(InputError, match=r"data\.reserved"):
        Renderer(tokenizer, learn="answers").conversation_ids([ASKED], tools=tools)


def test_the_end_of_a_turn_is_known_after_a_call(tmp_path: Path) -> None:
    renderer = Renderer(save_tokenizer(tmp_path, template=WITH_TOOLS), learn="answers")
    (done,) = renderer.render([Conversation(PLACE, (ASKED, CALLS), tools=TOOLS)])
    assert isinstance(done, Tokenised)
    assert renderer.turns is not None
    assert renderer.turns.end_of_turn == "<|im_end|>"
    assert np.count_nonzero(done.segments[0].weights[-2:]) == 1
