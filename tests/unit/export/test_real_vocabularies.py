"""Vocabularies of real models: their ids in llama.cpp are the tokenizer's and those of llama.cpp's own vectors."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFReader
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

from localtune.data.template import ChatTemplate
from localtune.export import vocabulary
from localtune.model import ModelFiles
from tests.material import material
from tests.unit.export.chats import CHATS, MESSAGES, PHI_3_TEMPLATE, misread_chats
from tests.unit.export.pieces import RUNS, assembled
from tests.unit.export.served import Served
from tests.unit.export.tiny import (
    CONTROL,
    TEXTS,
    exported,
    hard_texts,
    llama,
    notes,
    opened,
    save_tokenizer,
    vectors,
    write_gguf_of,
)


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
    known = vectors(material("gguf-vocab"), "qwen2") if name == "tok-qwen2.5" else []
    with Served(exported(folder), 512) as served:
        assert [text for text, ids in known if served.ids(text) != ids] == []
        assert [t for t in texts if served.ids(t) != tokenizer.encode(t, add_special_tokens=False).ids] == []
        if ours.template is not None:
            text = ChatTemplate(ours.template, ours.names).render(MESSAGES, prompt=True).text
            assert served.ids(served.prompt(MESSAGES), special=True) == ours.encode(text, special=False)
        assert [served.stop([300], i) for i in model.stop_ids] == ["eos"] * len(model.stop_ids)


@cache
def fields_of(name: str, *keys: str) -> list[Any]:
    """Arrays of llama.cpp's vocabulary of that name."""
    fields: Any = GGUFReader(material("gguf-vocab") / f"ggml-vocab-{name}.gguf").fields
    return [fields[f"tokenizer.ggml.{key}"].contents() for key in keys]


def byte_level_of(name: str) -> Tokenizer:
    """The byte-level vocabulary of a .gguf, with the steps that its model has."""
    pieces, merges = fields_of(name, "tokens", "merges")
    pairs = [tuple(merge.split(" ")) for merge in merges]
    tokenizer = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, pairs))
    level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    digits = [pre_tokenizers.Digits(individual_digits=True)] if name == "starcoder" else []
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*digits, level])
    return tokenizer


@pytest.mark.material
@pytest.mark.parametrize("name", ["gpt-2", "starcoder"])
def test_byte_level_vocabularies_give_the_ids_of_llama_cpps_own_vectors(tmp_path: Path, name: str) -> None:
    folder, tokenizer = tmp_path / "m", byte_level_of(name)
    save_tokenizer(folder, tokenizer, eos_token="<|endoftext|>", chat_template=None)
    eos = tokenizer.token_to_id("<|endoftext|>")
    assert eos is not None
    llama(folder, tokenizer.get_vocab_size(), eos=eos, hidden_size=32, num_hidden_layers=1)
    known = vectors(material("gguf-vocab"), name)
    assert len(known) == 47
    with Served(exported(folder, "Q8_0"), 512) as served:
        assert [text for text, ids in known if served.ids(text) != ids] == []


def spm_of(name: str) -> tuple[Tokenizer, list[str]]:
    """The vocabulary of a .gguf with the merges transformers makes of its scores, and the tokens it adds."""
    pieces, scores, kinds = fields_of(name, "tokens", "scores", "token_type")
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    ways = [
        (score, len(piece[:cut]), len(piece[cut:]), (piece[:cut], piece[cut:]))
        for piece, score, kind in zip(pieces, scores, kinds, strict=True)
        if kind == 1
        for cut in range(1, len(piece))
        if piece[:cut] in vocabulary and piece[cut:] in vocabulary
    ]
    ways.sort(key=lambda way: way[:3], reverse=True)
    added = [piece for piece, kind in zip(pieces, kinds, strict=True) if kind in (2, 3, 4)]
    return assembled(vocabulary, [pair for *_, pair in ways]), added


@pytest.mark.material
@pytest.mark.parametrize("name", ["llama-spm", "phi-3"])
def test_sentencepiece_vocabularies_give_the_ids_of_llama_cpps_own_vectors(tmp_path: Path, name: str) -> None:
    tokenizer = phi_3() if name == "phi-3" else spm_of(name)[0]
    folder = tmp_path / "m"
    save_tokenizer(folder, tokenizer, eos_token="</s>", bos_token="<s>", chat_template=None)
    llama(folder, tokenizer.get_vocab_size(), eos=2, hidden_size=32, num_hidden_layers=1)
    assert not any("blank" in note for note in notes(folder))
    known = vectors(material("gguf-vocab"), name)
    assert len(known) == 47
    with Served(exported(folder, "Q8_0"), 512) as served:
        assert [text for text, ids in known if served.ids(text) != ids] == []
        texts = [*(text for text, _ in known), *TEXTS, *RUNS]
        assert [t for t in texts if served.ids(t) != tokenizer.encode(t, add_special_tokens=False).ids] == []


def phi_3() -> Tokenizer:
    """Phi-3's, in which every added token but three swallows the blanks behind it."""
    tokenizer, added = spm_of("phi-3")
    kept = ("<unk>", "<s>", "<|endoftext|>")
    for text in added:
        token = AddedToken(text, special=text != "</s>", normalized=False, rstrip=text not in kept)
        tokenizer.add_special_tokens([token]) if token.special else tokenizer.add_tokens([token])
    return tokenizer


@pytest.mark.material
def test_chats_of_phi_3_have_the_ids_of_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, tokenizer = tmp_path / "m", phi_3()
    save_tokenizer(folder, tokenizer, eos_token="<|end|>", bos_token="<s>", chat_template=PHI_3_TEMPLATE)
    llama(folder, tokenizer.get_vocab_size(), eos=[32007, 32000], hidden_size=32, num_hidden_layers=1)
    assert not any("swallow" in note or "blank" in note for note in notes(folder))
    assert misread_chats(folder) == []
    monkeypatch.setattr(vocabulary, "PHI_3", "another")
    assert len(misread_chats(folder)) == len(CHATS)


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
