"""Vocabularies: ids in llama.cpp are the tokenizer's, generation stops where the model stops, chats read alike."""

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
from localtune.model import ModelFiles
from tests.material import material
from tests.unit.export.served import Served
from tests.unit.export.tiny import (
    CHATML,
    CONTROL,
    TEXTS,
    added,
    byte_level,
    codes,
    exported,
    hard_texts,
    llama,
    model_of,
    notes,
    opened,
    prepared,
    refused,
    save_tokenizer,
    split_by,
    vectors,
    write_gguf_of,
)

MESSAGES = [
    {"role": "user", "content": "  two blanks <|im_end|> and\n"},
    {"role": "assistant", "content": "yes"},
    {"role": "user", "content": "é?"},
]


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


def test_a_tokenizer_larger_than_the_embedding_is_refused(tmp_path: Path) -> None:
    tokenizer = byte_level(split_by(QWEN2), size=400)
    folder = model_of(tmp_path / "m", tokenizer)
    added(tokenizer, "<think>")
    save_tokenizer(folder, tokenizer)
    assert codes(folder) == ["gguf.vocabulary"]


def test_tokens_that_swallow_blanks_are_refused_in_a_template_and_noted_elsewhere(tmp_path: Path) -> None:
    tokenizer = byte_level(split_by(QWEN2), size=400)
    added(tokenizer, "<|x|>", special=True, rstrip=True)
    folder = model_of(tmp_path / "m", tokenizer)
    assert any("<|x|>" in note for note in notes(folder))
    save_tokenizer(folder, tokenizer, chat_template=CHATML + "<|x|>")
    assert codes(folder) == ["gguf.tokenizer"]


def test_generation_stops_at_every_id_of_the_model(tmp_path: Path) -> None:
    tokenizer = byte_level(split_by(QWEN2), size=400)
    added(tokenizer, "<|a|>", "<|b|>", "<|c|>", special=True)
    a, b, c = (tokenizer.get_vocab()[text] for text in ("<|a|>", "<|b|>", "<|c|>"))
    folder = model_of(tmp_path / "m", tokenizer, eos=[a, 0, b, c])
    with Served(exported(folder)) as served:
        assert [served.stop([300], i) for i in (0, 2, a, b, c)] == ["eos"] * 5
        assert [served.stop([300], i) for i in (1, 300)] == ["limit"] * 2
    assert any("ends an answer" in note for note in notes(folder))


def test_what_a_file_has_no_room_for_is_noted(tmp_path: Path) -> None:
    tokenizer = byte_level(split_by(QWEN2), size=400)
    folder = model_of(tmp_path / "m", tokenizer, eos=[301, 302, 303, 304])
    assert [note for note in notes(folder) if "does not stop at" in note] != []
    with Served(exported(folder)) as served:
        assert [served.stop([300], i) for i in (301, 302, 303, 304)] == ["eos", "eos", "eos", "limit"]


def test_the_end_of_an_answer_has_room_before_any_other_stop(tmp_path: Path) -> None:
    tokenizer = byte_level(split_by(QWEN2), size=400)
    added(tokenizer, "<|turn|>", special=True)
    end = tokenizer.get_vocab()["<|turn|>"]
    template = CHATML.replace("<|im_end|>", "<|turn|>")
    for eos in ([301, 302, 303, 304], [301, 302, 303, 304, end]):
        folder = model_of(tmp_path / str(len(eos)), tokenizer, eos=eos, chat_template=template)
        with Served(exported(folder)) as served:
            assert [served.stop([300], i) for i in (301, end, 302, 303)] == ["eos", "eos", "eos", "limit"]


def test_a_model_without_any_stop_is_refused(tmp_path: Path) -> None:
    tokenizer = byte_level(split_by(QWEN2), size=400)
    save_tokenizer(tmp_path / "m", tokenizer, eos_token=None, chat_template=None)
    llama(tmp_path / "m", 400, eos=[])
    assert codes(tmp_path / "m") == ["gguf.no-stop"]


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


def paired(tmp_path: Path, name: str, rows: int = 0) -> tuple[Path, Tokenizer, ModelFiles]:
    """A real tokenizer with a tiny random model."""
    source, folder = material(name), tmp_path / name
    folder.mkdir()
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (folder / file).write_bytes((source / file).read_bytes())
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    config = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
    eos = tokenizer.token_to_id(config["eos_token"])
    assert eos is not None
    llama(
        folder, tokenizer.get_vocab_size() + rows, eos=eos,
        hidden_size=32, num_hidden_layers=1, tie_word_embeddings=True,
    )  # fmt: skip
    return folder, tokenizer, opened(folder)[0]


@pytest.mark.material
@pytest.mark.parametrize(("name", "rows"), [("tok-qwen2.5", 271), ("tok-smollm", 0), ("tok-minimind", 0)])
def test_real_tokenizers_read_hard_texts_alike(tmp_path: Path, name: str, rows: int) -> None:
    folder, tokenizer, model = paired(tmp_path, name, rows)
    texts = [*hard_texts(material("gguf-vocab")), *TEXTS, "<think>\n<|im_start|>user\n</think><|endoftext|> x"]
    if name == "tok-qwen2.5":
        texts = [tokenizer.normalizer.normalize_str(text) for text in texts]
    ours = opened(folder)[1]
    with Served(exported(folder)) as served:
        assert [t for t in texts if served.ids(t) != tokenizer.encode(t, add_special_tokens=False).ids] == []
        if ours.template is not None:
            text = ChatTemplate(ours.template, ours.names).render(MESSAGES, prompt=True).text
            assert served.ids(served.prompt(MESSAGES), special=True) == ours.encode(text, special=False)
        assert [served.stop([300], i) for i in model.stop_ids] == ["eos"] * len(model.stop_ids)


def from_gguf(name: str) -> Tokenizer:
    """The byte-level vocabulary of a .gguf, with the steps that its model has."""
    from gguf import GGUFReader

    fields: Any = GGUFReader(material("gguf-vocab") / f"ggml-vocab-{name}.gguf").fields
    pieces, merges = (fields[f"tokenizer.ggml.{key}"].contents() for key in ("tokens", "merges"))
    pairs = [tuple(merge.split(" ")) for merge in merges]
    tokenizer = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, pairs))
    level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    digits = [pre_tokenizers.Digits(individual_digits=True)] if name == "starcoder" else []
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*digits, level])
    return tokenizer


@pytest.mark.material
@pytest.mark.parametrize("name", ["gpt-2", "starcoder", "qwen2"])
def test_real_vocabularies_give_the_ids_of_llama_cpps_own_vectors(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "m"
    if name == "qwen2":
        folder = paired(tmp_path, "tok-qwen2.5")[0]
    else:
        tokenizer = from_gguf(name)
        save_tokenizer(folder, tokenizer, eos_token="<|endoftext|>", chat_template=None)
        rows, eos = tokenizer.get_vocab_size(), tokenizer.token_to_id("<|endoftext|>")
        assert eos is not None
        llama(folder, rows, eos=eos, hidden_size=32, num_hidden_layers=1)
    known = vectors(material("gguf-vocab"), name)
    assert len(known) == 47
    with Served(exported(folder, "Q8_0"), 512) as served:
        assert [text for text, ids in known if served.ids(text) != ids] == []


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


@pytest.mark.material
def test_the_vocabulary_of_stories260k_is_the_references(tmp_path: Path) -> None:
    folder = material("model-stories260K")
    _, tokenizer = opened(folder)
    assert notes(folder) == ()
    assert set(CONTROL).isdisjoint(tokenizer.names.values())
    texts = hard_texts(material("gguf-vocab"))
    with Served(write_gguf_of(folder, tmp_path / "m.gguf", "F32")) as served:
        assert [t for t in texts if served.ids(t, special=True) != tokenizer.encode(t, special=True)] == []
        assert [served.stop([1, 403], i) for i in (0, 1, 2, 403)] == ["limit", "eos", "eos", "limit"]
