"""The vocabulary of a GGUF: pieces, special ids, chat template; and how llama.cpp will differ from the tokenizer.

There are as many tokens as the embedding has rows; ids without a token become `[PADi]`, which nothing produces and no
token is called. An added token without a row (Gemma 3's for images, in the models that read text alone) is left out
where nothing writes it. What `tokenizer.json` does and llama.cpp cannot is refused; what differs in corners is a note,
for the proof and the reader.

llama.cpp lets a token swallow the blanks behind it only in Phi-3's vocabulary, and knows that by `general.name` alone:
where precisely the tokens of its rule do so in the tokenizer, the file has such a name.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping, Set
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from localtune.data.tokenizer import Tokenizer
from localtune.errors import InputError, Problem
from localtune.export.byte_level import byte_level_pieces
from localtune.export.problems import Problems
from localtune.export.sentencepiece import sentencepiece_pieces
from localtune.export.special_ids import SpecialIds, special_ids
from localtune.export.tokens import NO_FIT, TOKENIZER, Kind, Pieces, added_tokens
from localtune.model import ModelFiles


@dataclass(frozen=True)
class Vocabulary:
    """What a GGUF says about text."""

    pieces: Pieces
    rows: int
    """Tokens in the file."""
    special: SpecialIds
    template: str | None
    notes: tuple[str, ...]
    """How llama.cpp differs from the tokenizer, one sentence each."""
    named: str = ""
    """What general.name has to contain for llama.cpp to read texts as the tokenizer does; "" = anything."""
    left_out: tuple[str, ...] = ()
    """Added tokens that the embedding has no row for."""

    def differs(self, text: str) -> bool:
        """Whether llama.cpp may give `text` other ids than the tokenizer; never false where it does.

        Added tokens in it are read as such by both, but for those that are left out.
        """
        return any(token in text for token in self.left_out) or self.pieces.differs(self._added.split(text))

    @cached_property
    def _added(self) -> re.Pattern[str]:
        """The tokens that are cut out of a text before anything else, longest first."""
        kinds = (Kind.CONTROL, Kind.USER_DEFINED)
        texts = sorted((text for text, kind in self.pieces.tokens.values() if kind in kinds), key=len, reverse=True)
        return re.compile("|".join(map(re.escape, filter(None, texts))) or "(?!)")

    def metadata(self) -> dict[str, Any]:
        """The keys tokenizer.*."""
        taken = {text for text, _ in self.pieces.tokens.values()}
        tokens = [self.pieces.tokens.get(i) or (_filler(i, taken), Kind.UNUSED) for i in range(self.rows)]
        keys: dict[str, Any] = {
            "tokenizer.ggml.model": self.pieces.model,
            "tokenizer.ggml.pre": self.pieces.pre,
            "tokenizer.ggml.tokens": [text for text, _ in tokens],
            "tokenizer.ggml.token_type": [int(kind) for _, kind in tokens],
        }
        if self.pieces.scores is not None:
            keys["tokenizer.ggml.scores"] = [self.pieces.scores.get(i, -1000.0) for i in range(self.rows)]
        if self.pieces.merges:
            keys["tokenizer.ggml.merges"] = list(self.pieces.merges)
        keys |= {f"tokenizer.ggml.{name}_token_id": number for name, number in self.special.ids.items()}
        keys["tokenizer.ggml.add_bos_token"] = self.special.add_bos
        keys["tokenizer.ggml.add_eos_token"] = False
        if self.pieces.space_prefix is not None:
            keys["tokenizer.ggml.add_space_prefix"] = self.pieces.space_prefix
        if self.template is not None:
            keys["tokenizer.chat_template"] = self.template
        return keys


def read_vocabulary(model: ModelFiles, tokenizer: Tokenizer) -> Vocabulary:
    """The vocabulary of `tokenizer` for `model`. Raises `InputError` with everything that cannot be expressed."""
    _check_text(tokenizer)
    rows, template = model.config.vocabulary, tokenizer.template or ""
    left_out = _rowless(model, tokenizer)
    state = _without(tokenizer.state, left_out)
    special: SpecialIds | None = None
    pieces: Pieces | None = None
    problems = Problems()
    with problems.kept():
        special = special_ids(model, tokenizer, _texts(state))
    with problems.kept():
        pieces = _pieces(state, chat=special is not None and special.chat_prefix)
        problems.add(*_misfits(pieces, rows), *_moved(tokenizer))
    stripping = _stripping(state)
    named = PHI_3 if pieces is not None and pieces.scores is not None and _strips_as_phi_3(state) else ""
    if named:
        stripping = []
    used = [name for name in stripping if name in template]
    if used:
        what = f"{', '.join(used[:4])[:200]} swallows blanks or wants a word of its own, which llama.cpp does not do"
        problems.add(Problem("gguf.tokenizer", what, TOKENIZER, fix=NO_FIT))
    problems.end()
    assert special is not None
    assert pieces is not None
    notes = [f"blanks beside {', '.join(stripping[:4])[:200]} are kept by llama.cpp"] if stripping else []
    if left_out:
        shown = ", ".join([*left_out.values()][:4])[:200]
        notes.append(f"{shown} has no row in the embedding and is left out: in llama.cpp it is plain text")
    portable = _portable(tokenizer, special.ids, _texts(state))
    notes = [*pieces.notes, *special.notes, *notes]
    return Vocabulary(pieces, rows, special, portable, tuple(notes), named, tuple(left_out.values()))


def _rowless(model: ModelFiles, tokenizer: Tokenizer) -> dict[int, str]:
    """Id -> text of the added tokens that have no row and that no chat, beginning or end of a text is written with."""
    template, names = tokenizer.template or "", tokenizer.names
    written = {tokenizer.bos_id, tokenizer.eos_id, *tokenizer.prefix, *model.stop_ids}
    named = {text for name, text in names.items() if name in template}
    added = {number: str(token["content"]) for number, token in added_tokens(tokenizer.state).items()}
    beyond = {number: text for number, text in added.items() if number >= model.config.vocabulary}
    return {
        number: text
        for number, text in beyond.items()
        if number not in written and text not in named and text not in template
    }


def _without(state: Mapping[str, Any], left_out: Mapping[int, str]) -> Mapping[str, Any]:
    """`tokenizer.json` without those tokens."""
    model = state.get("model")
    if not left_out or not isinstance(model, dict) or not isinstance(model.get("vocab"), dict):
        return state
    kept = [token for token in state["added_tokens"] if token["id"] not in left_out]
    vocabulary = {text: number for text, number in model["vocab"].items() if number not in left_out}
    return {**state, "added_tokens": kept, "model": {**model, "vocab": vocabulary}}


def _filler(number: int, taken: Set[str]) -> str:
    """What the token of a row without one is called: a text of no other."""
    text = f"[PAD{number}]"
    while text in taken:
        text += "_"
    return text


def _check_text(tokenizer: Tokenizer) -> None:
    """Raise `InputError` for a text that no file can hold: half of a surrogate pair is no character."""
    texts = {"chat_template": tokenizer.template or "", **tokenizer.names}
    wrong = [name for name, text in texts.items() if any("\ud800" <= letter <= "\udfff" for letter in text)]
    if wrong:
        what = f"{', '.join(wrong)} holds half a character (a lone surrogate), which is no text"
        raise InputError(Problem("gguf.text", what, tokenizer.folder.name, fix="get a fresh copy of the tokenizer"))


def _texts(state: Mapping[str, Any]) -> dict[int, str]:
    model = state.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    texts = {number: text for text, number in vocabulary.items()} if isinstance(vocabulary, dict) else {}
    return texts | {number: str(token["content"]) for number, token in added_tokens(state).items()}


def _pieces(state: Mapping[str, Any], *, chat: bool) -> Pieces:
    model = state.get("model")
    kind = model.get("type", "BPE") if isinstance(model, dict) else None
    if not isinstance(model, dict) or kind != "BPE" or not isinstance(model.get("vocab"), dict):
        what = f"is a {kind} model; BPE can be exported, byte-level or SentencePiece's"
        raise InputError(Problem("gguf.tokenizer", what, TOKENIZER, fix=NO_FIT))
    if model.get("byte_fallback"):
        return sentencepiece_pieces(state, chat=chat)
    return byte_level_pieces(state)


def _misfits(pieces: Pieces, rows: int) -> list[Problem]:
    """Tokens that no file of `rows` tokens can hold."""
    problems = []
    largest = max(pieces.tokens, default=-1)
    if largest >= rows:
        what = f"has token {largest}, but the embedding has {rows} rows: that token has no weights"
        fix = "resize the embedding to the tokenizer, or use the tokenizer the model came with"
        problems.append(Problem("gguf.vocabulary", what, TOKENIZER, fix=fix))
    twice = [text for text, count in Counter(text for text, _ in pieces.tokens.values()).items() if count > 1]
    if twice:
        what = f"would give {len(twice)} texts two ids, which llama.cpp refuses; the first is {twice[0]!r:.80}"
        problems.append(Problem("gguf.vocabulary", what, TOKENIZER, fix=NO_FIT))
    return problems


def _moved(tokenizer: Tokenizer) -> list[Problem]:
    """Added tokens that the tokenizers library gives another id than the file states."""
    wrong = []
    for number, token in added_tokens(tokenizer.state).items():
        text = str(token["content"])
        try:
            real = tokenizer.id_of(text)
        except KeyError:
            real = None
        if real != number:
            wrong.append(f"{text!r:.60} (stated {number}, read {real})")
    if not wrong:
        return []
    what = f"gives {len(wrong)} added tokens an id that they do not get when it is read: {', '.join(wrong[:4])}"
    return [Problem("gguf.tokenizer", what, TOKENIZER, fix="get a fresh copy of the tokenizer")]


def _stripping(state: Mapping[str, Any]) -> list[str]:
    """Added tokens that swallow the blanks beside them: in a template that matters, elsewhere it is noted."""
    keys = ("lstrip", "rstrip", "single_word")
    return [str(token["content"]) for token in added_tokens(state).values() if any(token.get(key) for key in keys)]


PHI_3 = "Phi-3"
"""A name by which llama.cpp applies the rule."""
_UNSTRIPPED = ("<unk>", "<s>", "<|endoftext|>")
_STRIPPED = "</s>"
"""Tokens the rule names; without them llama.cpp ends at such a name."""


def _strips_as_phi_3(state: Mapping[str, Any]) -> bool:
    """Whether every added token but three swallows the blanks behind it, and nothing else."""
    added = {str(token["content"]): token for token in added_tokens(state).values()}
    if not added.keys() >= {*_UNSTRIPPED, _STRIPPED} or any(
        token.get("lstrip") or token.get("single_word") for token in added.values()
    ):
        return False
    return all(bool(token.get("rstrip")) == (text not in _UNSTRIPPED) for text, token in added.items())


def _portable(tokenizer: Tokenizer, ids: Mapping[str, int], texts: Mapping[int, str]) -> str | None:
    """The template; `bos_token` and `eos_token` are set in it where llama.cpp, which takes them from the ids of the
    file, would write another text."""
    template = tokenizer.template
    if template is None:
        return None
    settings = ""
    for name, number in (("bos_token", ids["bos"]), ("eos_token", ids["eos"])):
        text = tokenizer.names.get(name, "")
        if name in template and text != texts.get(number):
            settings += f"{{%- set {name} = {json.dumps(text, ensure_ascii=False)} %}}\n"
    return settings + template
