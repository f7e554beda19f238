"""Byte-level vocabularies: ids in llama.cpp are the tokenizer's, and chats read alike."""

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from localtune.data.template import ChatTemplate
from localtune.errors import InputError
from localtune.export import prepare
from localtune.export.pretokenizers import GPT_4O, QWEN2
from localtune.export.vocabulary import read_vocabulary
from tests.unit.export.chats import MESSAGES
from tests.unit.export.pieces import SPM_TEXTS, sentencepiece_like
from tests.unit.export.served import Served
from tests.unit.export.tiny import (
    CHATML,
    TEXTS,
    added,
    byte_level,
    changed,
    codes,
    different,
    exported,
    model_of,
    notes,
    opened,
    prepared,
    refused,
    save_tokenizer,
    split_by,
)


def test_added_tokens_keep_their_meaning(tmp_path: Path) -> None:
    tokenizer = byte_level(split_by(QWEN2), size=400)
    added(tokenizer, "<think>", "</think>")
    added(tokenizer, "<|tool|>", special=True)
    folder = model_of(tmp_path / "m", tokenizer, rows=5)
    vocabulary = read_vocabulary(*opened(folder)).metadata()
    types = dict(zip(vocabulary["tokenizer.ggml.tokens"], vocabulary["tokenizer.ggml.token_type"], strict=True))
    assert [types[text] for text in ("<think>", "<|tool|>", "<|im_end|>", "a", "[PAD403]")] == [4, 3, 3, 1, 5]
    assert types["[PAD407]"] == 5
    text = "<think>hm</think> <|tool|><|im_end|> [PAD403]"
    with Served(exported(folder)) as served:
        assert served.ids(text) == tokenizer.encode(text).ids
        plain = served.plain_ids("<think><|im_end|>")
    assert plain[0] == tokenizer.token_to_id("<think>")
    assert tokenizer.token_to_id("<|im_end|>") not in plain


def rowless(folder: Path, *texts: str, special: bool = True, **config: Any) -> tuple[Path, Tokenizer]:
    """A model whose tokenizer has added tokens that the embedding has no rows for."""
    tokenizer = byte_level(split_by(QWEN2), size=400)
    model_of(folder, tokenizer)
    added(tokenizer, *texts, special=special)
    save_tokenizer(folder, tokenizer, **config)
    return folder, tokenizer


@pytest.mark.parametrize("special", [True, False])
def test_added_tokens_without_a_row_are_left_out_and_named(tmp_path: Path, special: bool) -> None:
    folder, tokenizer = rowless(tmp_path / "m", "<image>", "<pad>", special=special, pad_token="<pad>")
    vocabulary = read_vocabulary(*opened(folder))
    assert [note for note in vocabulary.notes if "<image>, <pad> has no row in the embedding" in note]
    keys = vocabulary.metadata()
    assert len(keys["tokenizer.ggml.tokens"]) == len(keys["tokenizer.ggml.token_type"]) == 400
    assert "tokenizer.ggml.padding_token_id" not in keys
    with Served(exported(folder)) as served:
        for text, differs in (("an <image> of", True), ("a<|im_end|><pad>", True), ("an image<|im_end|>", False)):
            assert vocabulary.differs(text) is differs
            assert (served.ids(text) != tokenizer.encode(text).ids) is differs


def test_a_token_without_a_row_is_left_out_of_a_sentencepiece_vocabulary(tmp_path: Path) -> None:
    tokenizer = sentencepiece_like(normalizers.Replace(" ", "▁"))
    folder = model_of(tmp_path / "m", tokenizer, chat_template=None)
    rows = tokenizer.get_vocab_size()
    added(tokenizer, "<image_soft_token>", special=True)
    save_tokenizer(folder, tokenizer, eos_token="</s>", chat_template=None)
    edited(folder, lambda state: state["model"]["vocab"].update({"<image_soft_token>": rows}))
    vocabulary = read_vocabulary(*opened(folder))
    assert vocabulary.left_out == ("<image_soft_token>",)
    assert len(vocabulary.metadata()["tokenizer.ggml.scores"]) == rows
    assert different(folder, tokenizer, ["the cat<image_soft_token>", *SPM_TEXTS]) == ["the cat<image_soft_token>"]


@pytest.mark.parametrize(
    "config",
    [
        {"chat_template": CHATML + "<x>"},
        {"chat_template": CHATML + "{{ pad_token }}", "pad_token": "<x>"},
        {"eos_token": "<x>"},
        {"bos_token": "<x>"},
    ],
)
def test_a_token_without_a_row_that_is_written_is_refused(tmp_path: Path, config: dict[str, Any]) -> None:
    folder, _ = rowless(tmp_path / "m", "<x>", "<y>", **config)
    assert "has token 400, but the embedding has 400 rows" in refused(folder)["gguf.vocabulary"]


def test_a_model_that_stops_at_a_token_without_a_row_is_refused(tmp_path: Path) -> None:
    folder, _ = rowless(tmp_path / "m", "<x>")
    changed(folder / "generation_config.json", eos_token_id=[2, 400])
    assert codes(folder) == ["gguf.no-stop", "gguf.vocabulary"]


def test_a_token_without_a_row_that_begins_every_text_is_refused(tmp_path: Path) -> None:
    folder, tokenizer = rowless(tmp_path / "m", "<x>")
    tokenizer.post_processor = processors.TemplateProcessing(single="<x> $A", special_tokens=[("<x>", 400)])
    save_tokenizer(folder, tokenizer)
    assert codes(folder) == ["gguf.vocabulary"]


def test_a_vocabulary_larger_than_the_embedding_is_refused(tmp_path: Path) -> None:
    folder = model_of(tmp_path / "m", byte_level(split_by(QWEN2), size=399))
    save_tokenizer(folder, byte_level(split_by(QWEN2), size=400))
    assert codes(folder) == ["gguf.vocabulary"]


def test_tokens_that_swallow_blanks_are_refused_in_a_template_and_noted_elsewhere(tmp_path: Path) -> None:
    tokenizer = byte_level(split_by(QWEN2), size=400)
    added(tokenizer, "<|x|>", special=True, rstrip=True)
    folder = model_of(tmp_path / "m", tokenizer)
    assert any("<|x|>" in note for note in notes(folder))
    save_tokenizer(folder, tokenizer, chat_template=CHATML + "<|x|>")
    assert codes(folder) == ["gguf.tokenizer"]


BOS_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


GENERATION = CHATML.replace("{{ m.content }}", "{% generation %}{{ m.content }}{% endgeneration %}")


@pytest.mark.parametrize(
    ("template", "config", "eos"),
    [
        (CHATML, {}, 2),
        (GENERATION, {}, 2),
        (CHATML, {"bos_token": "<|endoftext|>", "add_bos_token": True}, 2),
        (BOS_TEMPLATE, {"bos_token": "<|im_start|>"}, 2),
        (BOS_TEMPLATE, {"bos_token": "<|im_start|>", "add_bos_token": True}, 2),
        (BOS_TEMPLATE, {}, 2),
        (BOS_TEMPLATE, {}, [0, 2]),
        ("\n" + BOS_TEMPLATE, {"eos_token": "<|endoftext|>"}, 2),
    ],
)
def test_chats_have_the_ids_of_training(
    tmp_path: Path, template: str, config: dict[str, Any], eos: int | list[int]
) -> None:
    tokenizer = byte_level(split_by(QWEN2), size=400)
    folder = model_of(tmp_path / "m", tokenizer, eos=eos, chat_template=template, **config)
    ours = opened(folder)[1]
    text = ChatTemplate(template, ours.names).render(MESSAGES, prompt=True).text
    with Served(exported(folder)) as served:
        assert served.ids(served.prompt(MESSAGES), special=True) == ours.encode(text, special=False)


def test_a_raw_text_gets_the_tokenizers_prefix(tmp_path: Path) -> None:
    tokenizer = byte_level(split_by(QWEN2), size=400)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", 1)]
    )
    folder = model_of(tmp_path / "m", tokenizer, chat_template=None, bos_token="<|im_start|>")
    with Served(exported(folder)) as served:
        assert served.ids("a text", special=True) == opened(folder)[1].encode("a text", special=True)


def test_two_tokens_before_a_text_are_refused(tmp_path: Path) -> None:
    tokenizer = byte_level(split_by(QWEN2), size=400)
    pairs = [("<|im_start|>", 1), ("<|endoftext|>", 0)]
    tokenizer.post_processor = processors.TemplateProcessing("<|im_start|> <|endoftext|> $A", special_tokens=pairs)
    assert codes(model_of(tmp_path / "m", tokenizer)) == ["gguf.prefix"]


def test_other_models_and_normalizers_are_refused(tmp_path: Path) -> None:
    word_level = Tokenizer(models.WordLevel({"<|im_end|>": 0, "a": 1, "<|endoftext|>": 2}, unk_token="a"))
    assert codes(model_of(tmp_path / "w", word_level)) == ["gguf.tokenizer"]
    lower = byte_level(split_by(QWEN2), size=400)
    lower.normalizer = normalizers.Lowercase()
    assert codes(model_of(tmp_path / "l", lower)) == ["gguf.tokenizer"]
    composed = byte_level(split_by(QWEN2), size=400)
    composed.normalizer = normalizers.NFC()
    assert any("NFC" in note for note in notes(model_of(tmp_path / "n", composed)))


def test_everything_wrong_is_said_at_once(tmp_path: Path) -> None:
    tokenizer = byte_level(pre_tokenizers.Sequence([pre_tokenizers.Split(Regex("x"), "isolated"), split_by("y")]))
    tokenizer.normalizer = normalizers.Lowercase()
    folder = model_of(tmp_path / "m", tokenizer)
    config = json.loads((folder / "config.json").read_text())
    config["hidden_act"] = "gelu"
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError) as caught:
        prepared(folder, "F16", "Q3_K")
    found = [problem.code for problem in caught.value.problems]
    assert found == ["gguf.activation", "gguf.pre-tokenizer", "gguf.tokenizer", "gguf.encoding"]


def edited(folder: Path, change: Any) -> Path:
    """The model with a changed tokenizer.json."""
    path = folder / "tokenizer.json"
    state = json.loads(path.read_text("utf-8"))
    change(state)
    path.write_text(json.dumps(state), "utf-8")
    return folder


def entry(number: int, text: str, **flags: bool) -> dict[str, Any]:
    flags = dict.fromkeys(("special", "normalized", "single_word", "lstrip", "rstrip"), False) | flags
    return {"id": number, "content": text, **flags}


@pytest.mark.parametrize(("number", "text"), [(450, "<think>"), (350, "<think>"), (400, "a")])
def test_an_added_token_that_gets_another_id_is_refused(tmp_path: Path, number: int, text: str) -> None:
    folder = model_of(tmp_path / "m", byte_level(split_by(QWEN2), size=400), rows=60)
    edited(folder, lambda state: state["added_tokens"].append(entry(number, text)))
    assert f"{text!r} (stated {number}, read" in refused(folder)["gguf.tokenizer"]


def test_fillers_are_called_like_no_token(tmp_path: Path) -> None:
    tokenizer = byte_level(split_by(QWEN2), size=400)
    added(tokenizer, "[PAD402]", "[PAD402]_")
    folder = model_of(tmp_path / "m", tokenizer, rows=3)
    tokens = read_vocabulary(*opened(folder)).metadata()["tokenizer.ggml.tokens"]
    assert tokens[400:] == ["[PAD402]", "[PAD402]_", "[PAD402]__", "[PAD403]", "[PAD404]"]
    with Served(exported(folder)) as served:
        assert served.ids("[PAD402]") == [400]


def test_two_tokens_of_one_text_are_refused(tmp_path: Path) -> None:
    folder = model_of(tmp_path / "m", byte_level(split_by(QWEN2), size=400), rows=1)
    edited(folder, lambda state: state["model"]["vocab"].update({"<|im_end|>": 400}))
    assert "'<|im_end|>'" in refused(folder)["gguf.vocabulary"]


@pytest.mark.parametrize(("steps", "noted"), [([], False), ([normalizers.NFC()], True)])
def test_normalizers_in_a_sequence_are_those_alone(tmp_path: Path, steps: list[Any], noted: bool) -> None:
    tokenizer = byte_level(split_by(QWEN2), size=400)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Sequence(steps)])
    folder = model_of(tmp_path / "m", tokenizer)
    assert any("NFC" in note for note in notes(folder)) is noted
    with Served(exported(folder)) as served:
        assert [served.ids(text) for text in TEXTS[2:]] == [tokenizer.encode(text).ids for text in TEXTS[2:]]


def test_the_tokenizer_is_read_once(tmp_path: Path) -> None:
    model, tokenizer = opened(model_of(tmp_path / "m", byte_level(split_by(QWEN2), size=400)))
    (tmp_path / "m" / "tokenizer.json").unlink()
    assert prepare(model, tokenizer, ["F32"]).vocabulary.rows == 400


def test_texts_that_are_composed_are_known_to_differ(tmp_path: Path) -> None:
    tokenizer = byte_level(split_by(QWEN2), size=400)
    folder = model_of(tmp_path / "m", tokenizer)
    assert not read_vocabulary(*opened(folder)).differs("e\u0301")
    tokenizer.normalizer = normalizers.NFC()
    save_tokenizer(folder, tokenizer)
    vocabulary = read_vocabulary(*opened(folder))
    with Served(exported(folder)) as served:
        for text, differs in (("e\u0301", True), ("é", False), ("", False), ("a<|im_end|>e\u0301", True)):
            assert vocabulary.differs(text) is differs
            assert (served.ids(text) != tokenizer.encode(text, add_special_tokens=False).ids) is differs


def test_a_text_is_looked_at_between_its_added_tokens(tmp_path: Path) -> None:
    tokenizer = byte_level(split_by(GPT_4O), size=400)
    added(tokenizer, "<think>")
    vocabulary = read_vocabulary(*opened(model_of(tmp_path / "m", tokenizer)))
    assert vocabulary.pieces.pre == "gpt-4o"
    assert vocabulary.differs("aÉ")
    assert not vocabulary.differs("a<think>É<|im_end|>")
