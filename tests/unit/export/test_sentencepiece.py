"""SentencePiece-style vocabularies: ids in llama.cpp are the tokenizer's, or a note says where not."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, normalizers, pre_tokenizers

from localtune.export import sentencepiece
from localtune.export.vocabulary import read_vocabulary
from tests.unit.export.chats import LLAMA_2
from tests.unit.export.pieces import RUNS, SPM_TEXTS, assembled, metaspace, sentencepiece_like
from tests.unit.export.served import Served
from tests.unit.export.tiny import (
    TEXTS,
    codes,
    different,
    exported,
    model_of,
    notes,
    opened,
    save_tokenizer,
)


def test_sentencepiece_ids_are_the_tokenizers(tmp_path: Path) -> None:
    tokenizer = sentencepiece_like()
    folder = model_of(tmp_path / "m", tokenizer, eos_token="</s>", chat_template=None, bos_token="<s>")
    assert different(folder, tokenizer, [*SPM_TEXTS, *TEXTS]) == []
    assert notes(folder) == ()


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


def test_gemmas_way_to_split_at_blanks_is_none(tmp_path: Path) -> None:
    split = pre_tokenizers.Split(" ", behavior="merged_with_previous")
    tokenizer = sentencepiece_like(normalizers.Replace(" ", "▁"))
    tokenizer.pre_tokenizer = split
    folder = model_of(tmp_path / "m", tokenizer, eos_token="</s>", chat_template=None)
    assert different(folder, tokenizer, [*SPM_TEXTS, *TEXTS, *RUNS]) == []
    assert notes(folder) == ()
    tokenizer.normalizer = None
    save_tokenizer(folder, tokenizer, eos_token="</s>", chat_template=None)
    assert codes(folder) == ["gguf.tokenizer"]


def test_an_added_piece_of_blanks_that_no_merge_makes_is_refused(tmp_path: Path) -> None:
    tokenizer = sentencepiece_like(normalizers.Replace(" ", "▁"))
    folder = model_of(tmp_path / "m", tokenizer, eos_token="</s>", chat_template=None)
    state = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    state["model"]["merges"] = [pair for pair in state["model"]["merges"] if "".join(pair).strip("▁")]
    flags = dict.fromkeys(("special", "normalized", "single_word", "lstrip", "rstrip"), False)
    for text in ("▁▁", "▁▁▁▁"):
        state["added_tokens"].append({"id": state["model"]["vocab"][text], "content": text, **flags})
    (folder / "tokenizer.json").write_text(json.dumps(state), "utf-8")
    assert codes(folder) == ["gguf.tokenizer"]


BETWEEN = st.lists(st.sampled_from(["the", " ", "  ", "cat", "</s>", "<s>", "x", "\n", "▁"]), max_size=6).map("".join)


@pytest.mark.parametrize("scheme", ["first", "always", "never"])
@pytest.mark.parametrize("chat", [True, False])
def test_texts_that_differ_are_known(tmp_path_factory: pytest.TempPathFactory, scheme: str, chat: bool) -> None:
    folder = tmp_path_factory.mktemp("m") / "m"
    tokenizer = sentencepiece_like(pre=metaspace(scheme))
    model_of(folder, tokenizer, eos_token="</s>", bos_token="<s>", chat_template=LLAMA_2 if chat else None)
    known = read_vocabulary(*opened(folder)).differs
    with Served(exported(folder)) as served:

        @settings(max_examples=40, deadline=None, derandomize=True, database=None)
        @given(BETWEEN)
        def check(text: str) -> None:
            same = served.ids(text) == tokenizer.encode(text, add_special_tokens=False).ids
            assert same != known(text)

        check()


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
