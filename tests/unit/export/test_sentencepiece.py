"""SentencePiece-style vocabularies: ids in llama.cpp are the tokenizer's, or a note says where not."""

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

from localtune.export import sentencepiece
from tests.material import material
from tests.unit.export.served import Served
from tests.unit.export.tiny import (
    TEXTS,
    codes,
    different,
    exported,
    hard_texts,
    llama,
    model_of,
    notes,
    save_tokenizer,
)

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
    return assembled(vocabulary, merges, normalizer, pre)


def assembled(
    vocabulary: dict[str, int], merges: list[tuple[str, str]], normalizer: Any = None, pre: Any = None
) -> Tokenizer:
    """The tokenizer around a vocabulary; a blank before each text unless `normalizer` or `pre` say otherwise."""
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
    assert notes(folder) == ()


RUNS = [" " * count + text for count in range(1, 40) for text in ("", "x", "the\n" + " " * count + "cat", "  the")]


def blanks_interleaved(*lengths: int) -> Tokenizer:
    """The vocabulary with blanks of these `lengths`, merged as transformers does: longest left part first."""
    state = json.loads(sentencepiece_like().to_str())["model"]
    vocabulary = {piece: i for piece, i in state["vocab"].items() if piece.strip("▁") or len(piece) == 1}
    vocabulary |= {"▁" * length: len(vocabulary) + length for length in lengths}
    vocabulary = {piece: i for i, piece in enumerate(vocabulary)}
    merges = [tuple(pair) for pair in state["merges"] if "".join(pair).strip("▁")]
    ways = [(left, whole - left) for whole in lengths for left in (1, *lengths) if whole - left in (1, *lengths)]
    merges += [("▁" * left, "▁" * right) for left, right in sorted(ways, reverse=True)]
    return assembled(vocabulary, merges)


def test_blanks_that_share_a_score_are_joined_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = blanks_interleaved(2, 3, 4, 5, 6, 7)
    folder = model_of(tmp_path / "m", tokenizer, eos_token="</s>", chat_template=None)
    assert different(folder, tokenizer, [*RUNS, *SPM_TEXTS]) == []
    scores_of = sentencepiece._scores

    def apart(tokens: Any, order: Any) -> dict[int, float]:
        """Long blanks after short ones."""
        lengths = {number: len(text) for number, (text, _) in tokens.items() if text and not text.strip("▁")}
        return scores_of(tokens, order) | {number: -1e6 - length for number, length in lengths.items()}

    monkeypatch.setattr(sentencepiece, "_scores", apart)
    assert different(folder, tokenizer, RUNS)


def test_interleaved_blanks_in_another_order_are_refused(tmp_path: Path) -> None:
    folder = model_of(tmp_path / "m", blanks_interleaved(2, 3, 4, 5), eos_token="</s>", chat_template=None)
    path = folder / "tokenizer.json"
    state = json.loads(path.read_text("utf-8"))
    merges = state["model"]["merges"]
    merges[-1], merges[-3] = merges[-3], merges[-1]
    path.write_text(json.dumps(state), "utf-8")
    assert codes(folder) == ["gguf.tokenizer"]


def test_interleaved_blanks_of_some_lengths_alone_are_refused(tmp_path: Path) -> None:
    folder = model_of(tmp_path / "m", blanks_interleaved(2, 3, 5, 6, 8), eos_token="</s>", chat_template=None)
    assert codes(folder) == ["gguf.tokenizer"]


def llama_2() -> Tokenizer:
    """Llama 2's vocabulary with the merges transformers makes of its scores."""
    from gguf import GGUFReader

    fields: Any = GGUFReader(material("gguf-vocab") / "ggml-vocab-llama-spm.gguf").fields
    pieces, scores, kinds = (fields[f"tokenizer.ggml.{key}"].contents() for key in ("tokens", "scores", "token_type"))
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    ways = [
        (score, len(piece[:cut]), len(piece[cut:]), (piece[:cut], piece[cut:]))
        for piece, score, kind in zip(pieces, scores, kinds, strict=True)
        if kind == 1
        for cut in range(1, len(piece))
        if piece[:cut] in vocabulary and piece[cut:] in vocabulary
    ]
    ways.sort(key=lambda way: way[:3], reverse=True)
    return assembled(vocabulary, [pair for *_, pair in ways])


@pytest.mark.material
def test_llama_2_reads_llama_cpps_own_texts_as_llama_cpp_says(tmp_path: Path) -> None:
    tokenizer, folder = llama_2(), tmp_path / "m"
    save_tokenizer(folder, tokenizer, eos_token="</s>", bos_token="<s>", chat_template=None)
    llama(folder, tokenizer.get_vocab_size(), eos=2, hidden_size=32, num_hidden_layers=1)
    vectors = material("gguf-vocab") / "ggml-vocab-llama-spm.gguf.out"
    texts, lines = hard_texts(vectors.parent), vectors.read_text("utf-8").split("\n")
    with Served(exported(folder, "Q8_0"), 512) as served:
        for text, line in zip(texts, lines, strict=False):
            assert served.ids(text) == [int(number) for number in line.split()]
        for text in [*texts, *TEXTS, *RUNS]:
            assert served.ids(text) == tokenizer.encode(text, add_special_tokens=False).ids


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
    assert bool(notes(folder)) == bool(wrong)


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
