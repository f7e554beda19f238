from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localtune.batch import Segment
from localtune.data.conversations import Conversation, Example, Pair, Passage
from localtune.data.render import Renderer, Tokenised
from localtune.data.tokenizer import Tokenizer
from localtune.data.turns import Learn
from localtune.errors import InputError, Problem
from tests.unit.data.builders import (
    CHATML,
    PLACE,
    TALK,
    all_text,
    byte_level,
    conversation,
    learned_text,
    save_tokenizer,
    segments,
    sentencepiece,
    the_problem,
)


def test_answers_and_their_end_of_turn_are_the_targets(tmp_path: Path) -> None:
    tokenizer = save_tokenizer(tmp_path)
    (one,) = segments(tokenizer, TALK)
    assert learned_text(tokenizer, one) == "one<|im_end|>two <|im_end|>"
    assert all_text(tokenizer, one).startswith("<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nhi")
    assert one.source == PLACE.line


def test_a_mask_off_by_one_would_be_noticed(tmp_path: Path) -> None:
    tokenizer = save_tokenizer(tmp_path)
    (one,) = segments(tokenizer, TALK)
    for shift in (-1, 1):
        shifted = Segment(one.tokens, np.roll(one.weights, shift), 0)
        assert learned_text(tokenizer, shifted) != "one<|im_end|>two <|im_end|>"


def test_last_learns_the_last_answer_only(tmp_path: Path) -> None:
    tokenizer = save_tokenizer(tmp_path)
    (one,) = segments(tokenizer, TALK, "last")
    assert learned_text(tokenizer, one) == "two <|im_end|>"


def test_all_learns_everything_but_the_first_token(tmp_path: Path) -> None:
    tokenizer = save_tokenizer(tmp_path)
    (one,) = segments(tokenizer, TALK, "all")
    assert one.weights.tolist() == [0.0] + [1.0] * (len(one.tokens) - 1)


def test_ids_are_those_of_the_whole_text(tmp_path: Path) -> None:
    tokenizer = save_tokenizer(tmp_path, byte_level([("Ċ", "Ċ"), ("o", "n")]))
    (one,) = segments(tokenizer, TALK)
    text = Renderer(tokenizer, learn="answers").turns
    assert text is not None
    assert one.tokens.tolist() == tokenizer.encode(text.answer(TALK.messages).text, special=False)


def ends_a_turn(tokenizer: Tokenizer, one: Segment, token: str) -> bool:
    """The last `token` of the segment is a target."""
    at = max(i for i, t in enumerate(one.tokens.tolist()) if t == tokenizer.id_of(token))
    return bool(one.weights[at] > 0)


@pytest.mark.parametrize("pad", ["<|im_end|>", "</s>", None])
def test_end_of_turn_is_a_target_whatever_pads(pad: str | None, tmp_path: Path) -> None:
    config = {"eos_token": "<|im_end|>", "pad_token": pad}
    tokenizer = save_tokenizer(tmp_path, config=config)
    (one,) = segments(tokenizer, TALK)
    assert ends_a_turn(tokenizer, one, "<|im_end|>")


def test_masking_every_pad_id_would_be_noticed(tmp_path: Path) -> None:
    tokenizer = save_tokenizer(tmp_path)
    (one,) = segments(tokenizer, TALK)
    weights = one.weights * (one.tokens != tokenizer.id_of("<|im_end|>"))
    assert not ends_a_turn(tokenizer, Segment(one.tokens, weights, 0), "<|im_end|>")


def leading_bos(tokenizer: Tokenizer, ids: list[int]) -> int:
    """How many BOS a sequence begins with."""
    return next((i for i, t in enumerate(ids) if t != tokenizer.bos_id), len(ids))


@pytest.mark.parametrize("template", [CHATML, "{{ bos_token }}" + CHATML, None])
def test_at_most_one_bos_begins_a_sequence(template: str | None, tmp_path: Path) -> None:
    tokenizer = save_tokenizer(tmp_path, template=template, bos=True, config={"add_bos_token": True})
    examples: list[Example] = [Pair(PLACE, "hi", "yo"), Pair(PLACE, "<s>hi", "yo"), Passage(PLACE, "<s>hi")]
    written = 0 if template == CHATML else 1
    for example in examples:
        (one,) = segments(tokenizer, example)
        assert leading_bos(tokenizer, one.tokens.tolist()) == (1 if isinstance(example, Passage) else written)
    prompt = Renderer(tokenizer, learn="answers").prompt_ids("hi", None)
    assert leading_bos(tokenizer, list(prompt)) == written


def test_special_tokens_on_top_of_the_template_would_be_noticed(tmp_path: Path) -> None:
    tokenizer = save_tokenizer(tmp_path, template="{{ bos_token }}" + CHATML, bos=True)
    (one,) = segments(tokenizer, TALK)
    assert leading_bos(tokenizer, [*tokenizer.prefix, *one.tokens.tolist()]) == 2


def test_trailing_user_turns_are_left_out_of_what_is_trained(tmp_path: Path) -> None:
    tokenizer = save_tokenizer(tmp_path)
    (one,) = segments(tokenizer, conversation(("user", "a"), ("assistant", "b"), ("user", "c")))
    assert all_text(tokenizer, one).endswith("b<|im_end|>\n")


STRIPPING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' and not loop.last %}{{ m.content.split('</think>')[-1] }}{% else %}{{ m.content }}"
    "{% endif %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def test_an_answer_the_template_rewrites_later_is_learned_in_a_segment_of_its_own(tmp_path: Path) -> None:
    tokenizer = save_tokenizer(tmp_path, template=STRIPPING)
    talk = conversation(("user", "a"), ("assistant", "<think>x</think>b"), ("user", "c"), ("assistant", "d"))
    whole, own = segments(tokenizer, talk)
    assert learned_text(tokenizer, whole) == "d<|im_end|>"
    assert "assistant\nb<|im_end|>" in all_text(tokenizer, whole)
    assert learned_text(tokenizer, own) == "<think>x</think>b<|im_end|>"
    assert len(segments(tokenizer, talk, "last")) == 1


def test_a_template_whose_prompt_does_not_begin_the_text_is_refused(tmp_path: Path) -> None:
    source = CHATML.replace("<|im_start|>assistant\n{% endif", "<|im_start|>assistant\n<think>\n{% endif")
    problem = the_problem(save_tokenizer(tmp_path, template=source), TALK)
    assert (problem.code, problem.fix) == ("template.unmaskable", "--set train.learn=all")
    assert "'<think>\\n'" in problem.what
    assert segments(save_tokenizer(tmp_path, template=source), TALK, "all")


def test_a_template_that_rewrites_the_answer_is_refused(tmp_path: Path) -> None:
    source = CHATML.replace("{{ m.content }}", "{{ m.content | upper }}{{ m.content | length }}")
    assert the_problem(save_tokenizer(tmp_path, template=source), TALK).code == "template.unmaskable"


def test_a_greeting_without_a_prompt_is_refused_and_last_helps(tmp_path: Path) -> None:
    tokenizer = save_tokenizer(tmp_path, template="{{ messages[0].role[0] and '' }}" + CHATML)
    talk = conversation(("assistant", "hi"), ("user", "a"), ("assistant", "b"))
    assert the_problem(tokenizer, talk).fix == "--set train.learn=last"
    assert learned_text(tokenizer, segments(tokenizer, talk, "last")[0]) == "b<|im_end|>"


def test_a_row_the_template_refuses_is_a_problem_of_that_row(tmp_path: Path) -> None:
    source = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + CHATML
    fine = conversation(("user", "a"), ("assistant", "b"))
    first, second = Renderer(save_tokenizer(tmp_path, template=source), learn="answers").render([TALK, fine])
    assert isinstance(first, Problem)
    assert (first.code, first.where) == ("template.refused", str(PLACE))
    assert isinstance(second, Tokenised)


OPEN_ENDED = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


@pytest.mark.parametrize("learn", ["answers", "last", "all"])
def test_eos_is_appended_where_the_template_writes_no_end(learn: Learn, tmp_path: Path) -> None:
    tokenizer = save_tokenizer(tmp_path, template=OPEN_ENDED)
    renderer = Renderer(tokenizer, learn=learn)
    (done,) = renderer.render([TALK])
    assert isinstance(done, Tokenised)
    (one,) = done.segments
    assert learned_text(tokenizer, one).endswith("two </s>" if learn != "all" else "two \n</s>")
    assert renderer.seen["eos-appended"] == 1


def test_without_any_end_token_nothing_is_trained(tmp_path: Path) -> None:
    tokenizer = save_tokenizer(tmp_path, template=OPEN_ENDED, config={"eos_token": None})
    with pytest.raises(InputError, match=r"tokenizer\.eos"):
        segments(tokenizer, TALK)


MARKED = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}{% generation %}{{ m.content }}"
    "{% endgeneration %}{% else %}{{ m.content }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def test_generation_tags_decide_and_the_end_of_turn_is_added(tmp_path: Path) -> None:
    tokenizer = save_tokenizer(tmp_path, template=MARKED)
    assert learned_text(tokenizer, segments(tokenizer, TALK)[0]) == "one<|im_end|>two <|im_end|>"
    assert learned_text(tokenizer, segments(tokenizer, TALK, "last")[0]) == "two <|im_end|>"
    source = MARKED.replace("{% endgeneration %}", "<|im_end|>{% endgeneration %}")
    inside = save_tokenizer(tmp_path, template=source.replace("{% endif %}<|im_end|>", "<|im_end|>{% endif %}"))
    assert learned_text(inside, segments(inside, TALK)[0]) == "one<|im_end|>two <|im_end|>"


@pytest.mark.parametrize("kind", ["bytes", "prepend", "first", "always"])
def test_control_strings_in_content_stay_text(kind: str, tmp_path: Path) -> None:
    tokenizer = save_tokenizer(tmp_path, byte_level() if kind == "bytes" else sentencepiece(kind))
    talk = conversation(("user", "print <|im_end|> and </s>"), ("assistant", "it is <|im_start|>"))
    (done,) = Renderer(tokenizer, learn="answers").render([talk])
    assert isinstance(done, Tokenised)
    (one,) = done.segments
    assert done.held == 3
    count = {
        token: one.tokens.tolist().count(tokenizer.id_of(token)) for token in ("<|im_start|>", "<|im_end|>", "</s>")
    }
    assert count == {"<|im_start|>": 2, "<|im_end|>": 2, "</s>": 0}
    assert learned_text(tokenizer, one).strip() == "it is <|im_start|><|im_end|>"
    assert "print <|im_end|> and </s>" in all_text(tokenizer, one)


def test_what_an_answer_says_by_itself_keeps_its_ids(tmp_path: Path) -> None:
    control = ("<s>", "</s>", "<|im_start|>", "<|im_end|>", "<think>", "</think>")
    tokenizer = save_tokenizer(tmp_path, control=control)
    think = tokenizer.id_of("<think>")
    talk = conversation(("user", "what is <think>?"), ("assistant", "<think>x</think>y"))
    (one,) = segments(tokenizer, talk)
    assert one.tokens.tolist().count(think) == 1
    assert one.weights[one.tokens.tolist().index(think)] == 1.0


@pytest.fixture(scope="module")
def chatml(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return save_tokenizer(tmp_path_factory.mktemp("chatml"))


CONTENT = st.lists(
    st.sampled_from(
        ["<|im_end|>", "<|im_start|>", "</s>", "<", "|im_end|>", "<|", "\n", " ", "a", "한", "😀", "assistant\n"]
    )
    | st.text(st.characters(exclude_categories=["Cs", "Co"]), max_size=3),
    max_size=8,
).map(lambda parts: "x" + "".join(parts))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(CONTENT, CONTENT), min_size=1, max_size=3))
def test_whatever_is_said_the_answers_and_their_ends_are_learned(
    chatml: Tokenizer, turns: list[tuple[str, str]]
) -> None:
    talk = conversation(*(turn for asked, said in turns for turn in (("user", asked), ("assistant", said))))
    (one,) = segments(chatml, talk)
    assert learned_text(chatml, one) == "".join(f"{said}<|im_end|>" for _, said in turns)
    assert sum(token in chatml.control_ids for token in one.tokens.tolist()) == 4 * len(turns)


def test_reserved_characters_are_a_problem(tmp_path: Path) -> None:
    tokenizer = save_tokenizer(tmp_path)
    assert the_problem(tokenizer, conversation(("user", "\U0010fff0"), ("assistant", "b"))).code == "data.reserved"
    raw = save_tokenizer(tmp_path / "raw", template=None)
    assert the_problem(raw, Pair(PLACE, "a", "\U0010fff00\U0010fff1</s>x")).code == "data.reserved"


@pytest.mark.parametrize("template", [CHATML, STRIPPING, MARKED])
def test_a_question_is_the_beginning_of_what_is_trained(template: str, tmp_path: Path) -> None:
    tokenizer = save_tokenizer(tmp_path, template=template)
    question = Renderer(tokenizer, learn="last").question(TALK)
    (one,) = segments(tokenizer, TALK, "last")
    assert not isinstance(question, Problem)
    assert one.tokens.tolist()[: len(question.prompt)] == list(question.prompt)
    assert not one.weights[: len(question.prompt)].any()
    assert question.answer == "two "


def test_a_token_over_the_edge_of_an_answer_belongs_to_the_prompt(tmp_path: Path) -> None:
    template = CHATML.replace("\n", ":")
    tokenizer = save_tokenizer(tmp_path, byte_level([(":", ":")]), template=template)
    renderer = Renderer(tokenizer, learn="answers")
    (done,) = renderer.render([conversation(("user", "a"), ("assistant", ":b"))])
    assert isinstance(done, Tokenised)
    assert learned_text(tokenizer, done.segments[0]) == "b<|im_end|>"
    assert renderer.seen["straddled"] == 1


def test_mixed_blocks_keep_their_order(tmp_path: Path) -> None:
    tokenizer = save_tokenizer(tmp_path)
    examples: list[Example] = [Passage(PLACE, "p"), TALK, Pair(PLACE, "q", "r"), Passage(PLACE, "s")]
    done = Renderer(tokenizer, learn="answers").render(examples)
    assert [type(e) for e in examples] == [Passage, Conversation, Pair, Passage]
    texts = [all_text(tokenizer, d.segments[0]) for d in done if isinstance(d, Tokenised)]
    assert [text[:2] for text in texts] == ["p<", "<|", "<|", "s<"]
