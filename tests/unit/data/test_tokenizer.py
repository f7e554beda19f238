import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer as Library
from tokenizers import models

from localtune.data.tokenizer import Tokenizer
from localtune.errors import InputError
from tests.unit.data.builders import CHATML, byte_level, save_tokenizer, sentencepiece


def edit(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | values), "utf-8")


def test_ids_and_text_are_inverse(tmp_path: Path) -> None:
    tokenizer = save_tokenizer(tmp_path)
    text = "naïve 한국어 😀\n\ttext"
    assert tokenizer.decode(tokenizer.encode(text, special=False), skip_special=False) == text


def test_padding_and_truncation_of_the_file_are_off(tmp_path: Path) -> None:
    raw = byte_level()
    raw.enable_truncation(4)
    raw.enable_padding(length=16, pad_id=0)
    tokenizer = save_tokenizer(tmp_path, raw)
    assert len(tokenizer.encode("hello you", special=False)) == 9
    assert [len(e.ids) for e in tokenizer.encode_texts(["a", "hello you"])] == [1, 9]


def test_the_post_processor_says_whether_bos_comes_first(tmp_path: Path) -> None:
    tokenizer = save_tokenizer(tmp_path, bos=True)
    assert tokenizer.prefix == (tokenizer.bos_id,)
    assert tokenizer.encode("a", special=True) == [tokenizer.bos_id, *tokenizer.encode("a", special=False)]


def test_the_configuration_adds_bos_where_no_post_processor_does(tmp_path: Path) -> None:
    assert save_tokenizer(tmp_path / "a", config={"add_bos_token": True}).prefix
    assert not save_tokenizer(tmp_path / "b", config={"add_bos_token": False}).prefix
    both = save_tokenizer(tmp_path / "c", bos=True, config={"add_bos_token": True})
    assert both.encode("a", special=True).count(both.id_of("<s>")) == 1


def test_bos_is_never_doubled(tmp_path: Path) -> None:
    tokenizer = save_tokenizer(tmp_path, bos=True)
    assert tokenizer.encode("<s>a", special=True) == tokenizer.encode("a", special=True)


def test_special_tokens_may_be_objects_or_stand_in_the_map(tmp_path: Path) -> None:
    save_tokenizer(tmp_path, config={"bos_token": {"content": "<s>"}, "eos_token": None})
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({"eos_token": {"content": "<|im_end|>"}}))
    tokenizer = Tokenizer(tmp_path)
    assert tokenizer.names["bos_token"] == "<s>"
    assert tokenizer.eos_id == tokenizer.id_of("<|im_end|>")


def test_the_template_file_wins_and_lists_have_a_default(tmp_path: Path) -> None:
    named = [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "plain"}]
    assert save_tokenizer(tmp_path, config={"chat_template": named}).template == "plain"
    (tmp_path / "chat_template.jinja").write_text("file")
    assert Tokenizer(tmp_path).template == "file"
    assert save_tokenizer(tmp_path / "b", template=None).template is None


def test_the_fingerprint_follows_every_file(tmp_path: Path) -> None:
    seen = {save_tokenizer(tmp_path).fingerprint}
    edit(tmp_path / "tokenizer_config.json", more=1)
    seen.add(Tokenizer(tmp_path).fingerprint)
    (tmp_path / "chat_template.jinja").write_text(CHATML)
    seen.add(Tokenizer(tmp_path).fingerprint)
    (tmp_path / "special_tokens_map.json").write_text("{}")
    seen |= {Tokenizer(tmp_path).fingerprint, Tokenizer(tmp_path).fingerprint}
    assert len(seen) == 4
    (tmp_path / "README.md").write_text("other files do not count")
    assert Tokenizer(tmp_path).fingerprint in seen


def test_vocabulary_is_the_largest_id_plus_one(tmp_path: Path) -> None:
    assert save_tokenizer(tmp_path).vocabulary == 256 + 4


@pytest.mark.parametrize(
    ("files", "code", "words"),
    [
        ({}, "tokenizer.missing", "no tokenizer.json"),
        ({"tokenizer.model": "x"}, "tokenizer.missing", "only tokenizer.model"),
        ({"tokenizer.json": "{"}, "tokenizer.broken", "not valid JSON"),
        ({"tokenizer.json": "[]"}, "tokenizer.broken", "JSON object"),
        ({"tokenizer.json": '{"model": 3}'}, "tokenizer.broken", "cannot be read"),
    ],
)
def test_a_folder_without_a_usable_tokenizer_says_so(
    files: dict[str, str], code: str, words: str, tmp_path: Path
) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(InputError) as caught:
        Tokenizer(tmp_path)
    (problem,) = caught.value.problems
    assert (problem.code, words in problem.what, bool(problem.fix)) == (code, True, True)


def test_offsets_include_the_blank_before_a_word(tmp_path: Path) -> None:
    tokenizer = save_tokenizer(tmp_path, byte_level([("Ġ", "a")]))
    state = json.loads((tmp_path / "tokenizer.json").read_text("utf-8"))
    state["post_processor"] = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    (tmp_path / "tokenizer.json").write_text(json.dumps(state))
    tokenizer = Tokenizer(tmp_path)
    assert tokenizer.encode_texts(["b a"])[0].offsets == [(0, 1), (1, 3)]


@pytest.mark.parametrize("kind", ["prepend", "first", "always"])
def test_a_continuation_gets_no_blank_before_it(kind: str, tmp_path: Path) -> None:
    tokenizer = save_tokenizer(tmp_path, sentencepiece(kind))
    (alone,), (after,) = (tokenizer.encode_raw(["ab"], continuing=c) for c in (False, True))
    assert tokenizer.decode(alone, skip_special=False) == "ab"
    assert [tokenizer.id_of("▁a"), tokenizer.id_of("b")] == alone
    assert [tokenizer.id_of("a"), tokenizer.id_of("b")] == after


@pytest.mark.parametrize("kind", ["prepend", "first", "always", "bytes"])
@pytest.mark.parametrize("text", ["<s>a b</s> a", "a <|im_end|> b<s>", "<|im_start|>a\nb<|im_end|>\na", "a  b"])
def test_framed_control_tokens_get_the_same_ids(kind: str, text: str, tmp_path: Path) -> None:
    tokenizer = save_tokenizer(tmp_path, byte_level() if kind == "bytes" else sentencepiece(kind))
    assert tokenizer.encode_framed(tokenizer.control.frame(text))[0] == tokenizer.encode(text, special=False)


@pytest.mark.parametrize("kind", ["prepend", "first", "always", "bytes"])
def test_control_strings_in_raw_text_are_plain_text(kind: str, tmp_path: Path) -> None:
    tokenizer = save_tokenizer(tmp_path, byte_level() if kind == "bytes" else sentencepiece(kind))
    (ids,) = tokenizer.encode_raw(["say <|im_end|> and </s>"], continuing=False)
    assert not tokenizer.control_ids & set(ids)
    assert tokenizer.decode(ids, skip_special=True) == "say <|im_end|> and </s>"
    assert tokenizer.control_ids & set(tokenizer.encode("say <|im_end|> and </s>", special=False))


def test_pieces_of_a_unigram_vocabulary_never_become_control_tokens(tmp_path: Path) -> None:
    pieces = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0), *((c, -9.0) for c in "<>/s|ab_imendtr")]
    tokenizer = save_tokenizer(tmp_path, Library(models.Unigram(pieces, 0, False)))
    (ids,) = tokenizer.encode_raw(["a</s>b"], continuing=False)
    assert not tokenizer.control_ids & set(ids)
    assert tokenizer.encode_framed(tokenizer.control.frame("a</s>b"))[0][1] == tokenizer.eos_id
