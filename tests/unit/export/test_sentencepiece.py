"""SentencePiece-style vocabularies: ids in llama.cpp are the tokenizer's, or a note says where not."""

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

from localtune.export import notes, sentencepiece
from tests.unit.export.tiny import TEXTS, codes, different, model_of, opened

WORDS = ("the", "cat", "sat", "on", "mat", "and", "hat", "that", "rat", "had", "was", "flat", "as", "can", "be")


def sentencepiece_like(normalizer: Any = None, pre: Any = None) -> Tokenizer:
    """Pieces with every way to join two of them as a merge, as a SentencePiece model is converted."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    joined = list(dict.fromkeys(f"▁{word}"[:end] for word in WORDS for end in range(2, len(word) + 2)))
    joined += [piece[1:] for piece in joined if len(piece) > 2 and piece[1:] not in joined]
    joined += ["▁▁", "▁▁▁▁"]
    letters = sorted({letter for piece in joined for letter in piece})
    vocabulary = {piece: i for i, piece in enumerate([*pieces, *sorted(joined, key=len), *letters])}
    merges = [
        (piece[:cut], piece[cut:])
        for piece in sorted((piece for piece in joined if len(piece) > 1), key=len)
        for cut in range(1, len(piece))
        if piece[:cut] in vocabulary and piece[cut:] in vocabulary
    ]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    replace = normalizers.Replace(" ", "▁")
    tokenizer.normalizer = (
        normalizers.Sequence([normalizers.Prepend("▁"), replace]) if normalizer is None else normalizer
    )
    if pre is not None:
        tokenizer.pre_tokenizer = pre
        tokenizer.normalizer = None
    tokenizer.decoder = decoders.ByteFallback()
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    return tokenizer


SPM_TEXTS = ["the cat", " the  cat", "thatthe", "\n\n the", "", "ünï 안녕 🙂", "a</s>the <s> cat", "    x", *WORDS]


def test_sentencepiece_ids_are_the_tokenizers(tmp_path: Path) -> None:
    tokenizer = sentencepiece_like()
    folder = model_of(tmp_path / "m", tokenizer, eos_token="</s>", chat_template=None, bos_token="<s>")
    assert different(folder, tokenizer, [*SPM_TEXTS, *TEXTS]) == []
    assert notes(*opened(folder)) == ()


def test_flat_scores_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = sentencepiece_like()
    folder = model_of(tmp_path / "m", tokenizer, eos_token="</s>", chat_template=None)
    monkeypatch.setattr(sentencepiece, "_scores", lambda tokens, order: dict.fromkeys(tokens, -1000.0))
    assert different(folder, tokenizer, SPM_TEXTS)


def test_a_model_without_a_blank_before_texts(tmp_path: Path) -> None:
    tokenizer = sentencepiece_like(normalizers.Replace(" ", "▁"))
    folder = model_of(tmp_path / "m", tokenizer, eos_token="</s>", chat_template=None)
    assert different(folder, tokenizer, SPM_TEXTS) == []


@pytest.mark.parametrize(("scheme", "wrong"), [("never", 0), ("always", 3), ("first", 3)])
def test_metaspace_differs_where_the_notes_say(tmp_path: Path, scheme: str, wrong: int) -> None:
    tokenizer = sentencepiece_like(pre=pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False))
    folder = model_of(tmp_path / "m", tokenizer, eos_token="</s>", chat_template=None)
    assert len(different(folder, tokenizer, SPM_TEXTS)) == wrong
    assert bool(notes(*opened(folder))) == bool(wrong)


def test_chats_of_a_first_blank_only_model_read_alike(tmp_path: Path) -> None:
    tokenizer = sentencepiece_like(pre=pre_tokenizers.Metaspace(prepend_scheme="first", split=False))
    template = "{% for m in messages %}<s>{{ m.content }}</s>{% endfor %}<s>"
    folder = model_of(tmp_path / "m", tokenizer, eos_token="</s>", chat_template=template)
    assert different(folder, tokenizer, ["<s>the cat</s><s> the</s><s>"]) == []


@pytest.mark.parametrize(
    ("pre", "normalizer"),
    [
        (pre_tokenizers.Metaspace(split=True), None),
        (None, normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(" ", "▁")])),
        (None, normalizers.Lowercase()),
        (pre_tokenizers.Whitespace(), None),
    ],
)
def test_other_ways_with_blanks_are_refused(tmp_path: Path, pre: Any, normalizer: Any) -> None:
    tokenizer = sentencepiece_like(normalizer, pre)
    assert codes(model_of(tmp_path / "m", tokenizer, eos_token="</s>", chat_template=None)) == ["gguf.tokenizer"]


def test_merges_that_scores_cannot_express_are_refused(tmp_path: Path) -> None:
    folder = model_of(tmp_path / "m", sentencepiece_like(), eos_token="</s>", chat_template=None)
    path = folder / "tokenizer.json"
    state = json.loads(path.read_text("utf-8"))
    merges = state["model"]["merges"]
    for changed in (merges[1:], [merges[-1], *merges[:-1]]):
        state["model"]["merges"] = changed
        path.write_text(json.dumps(state), "utf-8")
        assert set(codes(folder)) == {"gguf.tokenizer"}


def test_a_missing_byte_is_refused(tmp_path: Path) -> None:
    folder = model_of(tmp_path / "m", sentencepiece_like(), eos_token="</s>", chat_template=None)
    text = (folder / "tokenizer.json").read_text("utf-8")
    (folder / "tokenizer.json").write_text(text.replace('"<0x41>"', '"<0xZZ>"'), "utf-8")
    assert codes(folder) == ["gguf.tokenizer"]
