from pathlib import Path

import pytest

from localtune.data.conversations import Pair, Passage
from localtune.data.render import Renderer, Tokenised
from localtune.errors import InputError
from tests.unit.data.builders import (
    PLACE,
    TALK,
    all_text,
    byte_level,
    conversation,
    learned_text,
    save_tokenizer,
    segments,
    sentencepiece,
)


def test_a_pair_becomes_turns_where_there_is_a_template(tmp_path: Path) -> None:
    tokenizer = save_tokenizer(tmp_path)
    (one,) = segments(tokenizer, Pair(PLACE, "hi", "yo", system="S"))
    same = conversation(("system", "S"), ("user", "hi"), ("assistant", "yo"))
    assert one.tokens.tolist() == segments(tokenizer, same)[0].tokens.tolist()


@pytest.mark.parametrize("kind", ["bytes", "prepend", "first", "always"])
def test_a_raw_prompt_has_the_ids_it_has_alone(kind: str, tmp_path: Path) -> None:
    raw = byte_level([("a", "b")]) if kind == "bytes" else sentencepiece(kind)
    tokenizer = save_tokenizer(tmp_path, raw, template=None, bos=True)
    renderer = Renderer(tokenizer, learn="answers")
    prompt = list(renderer.prompt_ids("so a", None))
    (one,) = segments(tokenizer, Pair(PLACE, "so a", "b aa"))
    assert prompt == tokenizer.encode("so a", special=True)
    assert one.tokens.tolist()[: len(prompt)] == prompt
    assert one.weights.tolist() == [0.0] * len(prompt) + [1.0] * (len(one.tokens) - len(prompt))
    assert one.tokens[-1] == tokenizer.eos_id
    assert tokenizer.decode(one.tokens.tolist(), skip_special=True) == "so ab aa"


def test_an_eos_string_that_ends_a_completion_is_not_doubled(tmp_path: Path) -> None:
    tokenizer = save_tokenizer(tmp_path, template=None)
    (one,) = segments(tokenizer, Pair(PLACE, "a", "b</s>"))
    assert learned_text(tokenizer, one) == "b</s>"
    assert one.tokens.tolist().count(tokenizer.id_of("</s>")) == 1


def test_control_strings_in_a_raw_pair_stay_text(tmp_path: Path) -> None:
    tokenizer = save_tokenizer(tmp_path, template=None)
    (done,) = Renderer(tokenizer, learn="answers").render([Pair(PLACE, "a <|im_end|>", "b </s> c")])
    assert isinstance(done, Tokenised)
    assert done.held == 2
    assert tokenizer.control_ids & set(done.segments[0].tokens.tolist()) == {tokenizer.eos_id}


def test_a_passage_is_bos_text_eos_and_all_but_bos_is_learned(tmp_path: Path) -> None:
    tokenizer = save_tokenizer(tmp_path, template=None, bos=True)
    for text in ("once", "<s>once", "once</s>"):
        (one,) = segments(tokenizer, Passage(PLACE, text))
        assert all_text(tokenizer, one) == "<s>once</s>"
        assert learned_text(tokenizer, one) == "once</s>"


def test_conversations_and_system_turns_need_a_template(tmp_path: Path) -> None:
    tokenizer = save_tokenizer(tmp_path, template=None)
    for example in (TALK, Pair(PLACE, "a", "b", system="S")):
        with pytest.raises(InputError, match=r"template\.missing"):
            segments(tokenizer, example)
