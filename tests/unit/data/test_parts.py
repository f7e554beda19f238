"""Preferences, labels and infills become segments."""

from dataclasses import replace
from pathlib import Path

import pytest
from tokenizers import AddedToken

from localtune.data.conversations import Example, Infill, Labelled, Message, Pair, Preference
from localtune.data.render import Renderer, Tokenised
from localtune.errors import InputError
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
from tests.unit.data.test_render import STRIPPING

CHOSEN = conversation(("user", "hi"), ("assistant", "yes"), ("user", "so"), ("assistant", "good"))
REJECTED = replace(CHOSEN, messages=(*CHOSEN.messages[:3], Message("assistant", "bad")))


def test_a_preference_is_two_segments_that_learn_from_where_they_differ(tmp_path: Path) -> None:
    tokenizer = save_tokenizer(tmp_path)
    chosen, rejected = segments(tokenizer, Preference(PLACE, CHOSEN, REJECTED))
    assert learned_text(tokenizer, chosen) == "good<|im_end|>"
    assert learned_text(tokenizer, rejected) == "bad<|im_end|>"
    assert all_text(tokenizer, chosen).replace("good", "bad") == all_text(tokenizer, rejected)
    (alone,) = segments(tokenizer, CHOSEN)
    assert learned_text(tokenizer, alone) == "yes<|im_end|>good<|im_end|>"


@pytest.mark.parametrize("template", [None, CHATML])
def test_a_preference_of_pairs_is_two_segments(template: str | None, tmp_path: Path) -> None:
    tokenizer = save_tokenizer(tmp_path, template=template)
    row = Preference(PLACE, Pair(PLACE, "q", "good"), Pair(PLACE, "q", "bad"))
    end = "</s>" if template is None else "<|im_end|>"
    assert [learned_text(tokenizer, one) for one in segments(tokenizer, row)] == [f"good{end}", f"bad{end}"]


def test_a_preference_without_a_difference_has_nothing_to_learn(tmp_path: Path) -> None:
    problem = the_problem(save_tokenizer(tmp_path), Preference(PLACE, CHOSEN, CHOSEN))
    assert problem.code == "data.nothing-to-learn"


def test_one_bad_side_refuses_the_whole_preference(tmp_path: Path) -> None:
    bad = replace(REJECTED, messages=(*CHOSEN.messages[:3], Message("assistant", "\U0010fff0")))
    assert the_problem(save_tokenizer(tmp_path), Preference(PLACE, CHOSEN, bad)).code == "data.reserved"


def test_a_labelled_answer_is_one_segment(tmp_path: Path) -> None:
    tokenizer = save_tokenizer(tmp_path)
    (one,) = segments(tokenizer, Labelled(PLACE, TALK, wanted=False))
    assert one.tokens.tolist() == segments(tokenizer, TALK)[0].tokens.tolist()


def test_a_label_for_answers_in_several_texts_is_refused_and_last_helps(tmp_path: Path) -> None:
    tokenizer = save_tokenizer(tmp_path, template=STRIPPING)
    talk = conversation(("user", "a"), ("assistant", "<think>x</think>b"), ("user", "c"), ("assistant", "d"))
    assert the_problem(tokenizer, Labelled(PLACE, talk, wanted=True)).fix == "--set train.learn=last"
    assert len(segments(tokenizer, Labelled(PLACE, talk, wanted=True), "last")) == 1


HOLE = Infill(PLACE, "def f(a):\n    ", "\n    return b", "b = a")


@pytest.mark.parametrize(
    "names",
    [
        ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),
        ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),
        ("<fim-prefix>", "<fim-suffix>", "<fim-middle>"),
        ("<PRE>", "<SUF>", "<MID>"),
        ("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),
        ("<|fim_begin|>", "<|fim_hole|>", "<|fim_end|>"),
    ],
)
def test_an_infill_is_prefix_suffix_middle_and_the_middle_is_learned(names: tuple[str, ...], tmp_path: Path) -> None:
    tokenizer = save_tokenizer(tmp_path, control=("<s>", "</s>", *names), bos=True)
    (one,) = segments(tokenizer, HOLE)
    prefix, suffix, middle = names
    prompt = f"<s>{prefix}{HOLE.prefix}{suffix}{HOLE.suffix}{middle}"
    assert all_text(tokenizer, one) == f"{prompt}b = a</s>"
    assert learned_text(tokenizer, one) == "b = a</s>"


def test_code_llama_ends_a_middle_with_a_token_of_its_own(tmp_path: Path) -> None:
    names = ("▁<PRE>", "▁<SUF>", "▁<MID>", "▁<EOT>")
    tokenizer = save_tokenizer(tmp_path, sentencepiece("prepend"), control=("<s>", "</s>", *names))
    (one,) = segments(tokenizer, Infill(PLACE, "a", "b", "aa"))
    ids = {name: tokenizer.id_of(name) for name in names}
    assert [token for token in one.tokens.tolist() if token in ids.values()] == list(ids.values())
    assert one.tokens[0] == ids["▁<PRE>"]
    assert one.tokens[1] == tokenizer.id_of("▁a")  # a prefix is a text of its own; what follows is not
    assert one.tokens[3] == tokenizer.id_of("b")
    assert one.tokens[one.weights > 0].tolist() == [*[tokenizer.id_of("a")] * 2, ids["▁<EOT>"]]


def test_control_strings_inside_an_infill_stay_text(tmp_path: Path) -> None:
    names = ("<fim_prefix>", "<fim_suffix>", "<fim_middle>")
    tokenizer = save_tokenizer(tmp_path, control=("<s>", "</s>", *names))
    (one,) = segments(tokenizer, replace(HOLE, prefix="x = '<fim_middle>'"))
    assert one.tokens.tolist().count(tokenizer.id_of("<fim_middle>")) == 1
    assert "x = '<fim_middle>'" in all_text(tokenizer, one)


def test_a_tokenizer_without_infill_tokens_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"tokenizer\.fim.*<\|fim_prefix\|>"):
        segments(save_tokenizer(tmp_path), HOLE)


def test_infill_tokens_need_not_be_special(tmp_path: Path) -> None:
    raw = byte_level()
    raw.add_tokens([AddedToken(name, normalized=False) for name in ("<fim_prefix>", "<fim_suffix>", "<fim_middle>")])
    tokenizer = save_tokenizer(tmp_path, raw)
    assert learned_text(tokenizer, segments(tokenizer, HOLE)[0]) == "b = a</s>"


def test_rows_of_several_kinds_keep_their_order(tmp_path: Path) -> None:
    tokenizer = save_tokenizer(tmp_path)
    rows: list[Example] = [
        Preference(PLACE, CHOSEN, REJECTED),
        TALK,
        Labelled(PLACE, REJECTED, wanted=True),
        Pair(PLACE, "q", "r"),
    ]
    done = Renderer(tokenizer, learn="last").render(rows)
    texts = [[learned_text(tokenizer, one) for one in d.segments] for d in done if isinstance(d, Tokenised)]
    ends = [["good", "bad"], ["two "], ["bad"], ["r"]]
    assert texts == [[f"{text}<|im_end|>" for text in row] for row in ends]
