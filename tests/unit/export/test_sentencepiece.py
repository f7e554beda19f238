"""SentencePiece-style vocabularies: ids in llama.cpp are the tokenizer's, or a note says where not."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

from localtune.data.template import ChatTemplate
from localtune.export import sentencepiece, vocabulary
from localtune.export.vocabulary import read_vocabulary
from tests.material import material
from tests.unit.export.served import Served
from tests.unit.export.tiny import (
    TEXTS,
    codes,
    different,
    exported,
    llama,
    model_of,
    notes,
    opened,
    save_tokenizer,
    vectors,
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


def from_gguf(name: str) -> tuple[Tokenizer, list[str]]:
    """The vocabulary of a .gguf with the merges transformers makes of its scores, and the tokens it adds."""
    from gguf import GGUFReader

    fields: Any = GGUFReader(material("gguf-vocab") / f"ggml-vocab-{name}.gguf").fields
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
    added = [piece for piece, kind in zip(pieces, kinds, strict=True) if kind in (2, 3, 4)]
    return assembled(vocabulary, [pair for *_, pair in ways]), added


PHI_3_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|{{ message.role }}|>\n{{ message.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


def phi_3() -> Tokenizer:
    """Phi-3's, in which every added token but three swallows the blanks behind it."""
    tokenizer, added = from_gguf("phi-3")
    kept = ("<unk>", "<s>", "<|endoftext|>")
    for text in added:
        token = AddedToken(text, special=text != "</s>", normalized=False, rstrip=text not in kept)
        tokenizer.add_special_tokens([token]) if token.special else tokenizer.add_tokens([token])
    return tokenizer


@pytest.mark.material
@pytest.mark.parametrize("name", ["llama-spm", "phi-3"])
def test_real_vocabularies_give_the_ids_of_llama_cpps_own_vectors(tmp_path: Path, name: str) -> None:
    tokenizer = phi_3() if name == "phi-3" else from_gguf(name)[0]
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


@pytest.mark.material
def test_chats_of_phi_3_have_the_ids_of_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, tokenizer = tmp_path / "m", phi_3()
    save_tokenizer(folder, tokenizer, eos_token="<|end|>", bos_token="<s>", chat_template=PHI_3_TEMPLATE)
    llama(folder, tokenizer.get_vocab_size(), eos=[32007, 32000], hidden_size=32, num_hidden_layers=1)
    assert not any("swallow" in note or "blank" in note for note in notes(folder))
    assert misread_chats(folder) == []
    monkeypatch.setattr(vocabulary, "PHI_3", "another")
    assert len(misread_chats(folder)) == len(CHATS)


def test_tokens_that_swallow_blanks_otherwise_than_in_phi_3_are_refused(tmp_path: Path) -> None:
    tokenizer = sentencepiece_like()
    for text, rstrip in (("<|endoftext|>", False), ("</s>", True), ("<|user|>", True), ("<|end|>", False)):
        tokenizer.add_special_tokens([AddedToken(text, normalized=False, rstrip=rstrip)])
    template = PHI_3_TEMPLATE.replace("assistant", "user")
    folder = model_of(tmp_path / "m", tokenizer, eos_token="</s>", chat_template=template)
    assert codes(folder) == ["gguf.tokenizer"]


CHATS = (
    [{"role": "user", "content": "the cat"}],
    [
        {"role": "user", "content": "  the  cat\n"},
        {"role": "assistant", "content": "sat"},
        {"role": "user", "content": "x"},
    ],
)


def misread_chats(folder: Path) -> list[Any]:
    """The chats whose ids in llama.cpp are not those of training."""
    tokenizer = opened(folder)[1]
    assert tokenizer.template is not None
    template = ChatTemplate(tokenizer.template, tokenizer.names)
    with Served(exported(folder)) as served:
        return [
            chat for chat in CHATS
            if served.ids(served.prompt(chat), special=True)
            != tokenizer.encode(template.render(chat, prompt=True).text, special=False)
        ]  # fmt: skip


LLAMA_2 = (
    "{% for m in messages %}{% if m.role == 'user' %}{{ bos_token + '[INST] ' + m.content + ' [/INST]' }}"
    "{% else %}{{ ' ' + m.content + ' ' + eos_token }}{% endif %}{% endfor %}"
)
MISTRAL_3 = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content + '[/INST]' }}"
    "{% else %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}"
)
NO_BOS = "{% for m in messages %}{{ '[INST] ' + m.content + '[/INST]' }}{% endfor %}"


STOPS = "{% for m in messages %}{{ m.role + ': ' + m.content + eos_token + ' ' }}{% endfor %}"


def metaspace(scheme: str) -> Any:
    return pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)


STYLES: dict[str, tuple[Any, Any, tuple[str, ...], str, int]] = {
    "Llama 2": (None, None, (), LLAMA_2, 0),
    "Mistral 1, control instructions": (None, None, ("[INST]", "[/INST]"), MISTRAL_3, 0),
    "Mistral 3": (None, metaspace("first"), ("[INST]", "[/INST]"), MISTRAL_3, 0),
    "first, no BOS": (None, metaspace("first"), (), NO_BOS, 0),
    "first, no BOS, control instructions": (None, metaspace("first"), ("[INST]", "[/INST]"), NO_BOS, 0),
    "first, no BOS, stops": (None, metaspace("first"), (), STOPS, 2),
    "Llama 2, always": (None, metaspace("always"), (), LLAMA_2, 0),
    "always, control instructions": (None, metaspace("always"), ("[INST]", "[/INST]"), MISTRAL_3, 2),
    "never": (None, metaspace("never"), ("[INST]", "[/INST]"), MISTRAL_3, 0),
    "Gemma": (normalizers.Replace(" ", "▁"), None, (), LLAMA_2, 0),
}
"""Normalizer, pre-tokenizer, more control tokens, template, chats that differ."""


@pytest.mark.parametrize("style", STYLES)
def test_chats_have_the_ids_of_training_or_a_note_says_where_not(tmp_path: Path, style: str) -> None:
    normalizer, pre, control, template, wrong = STYLES[style]
    tokenizer = sentencepiece_like(normalizer, pre)
    tokenizer.add_special_tokens([AddedToken(text, normalized=False) for text in control])
    folder = model_of(tmp_path / "m", tokenizer, eos_token="</s>", bos_token="<s>", chat_template=template)
    assert len(misread_chats(folder)) == wrong
    assert wrong == 0 or notes(folder)


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
