"""The vocabulary of a GGUF: pieces, special ids, chat template; and how llama.cpp will differ from the tokenizer.

There are as many tokens as the embedding has rows; ids without a token become `[PADi]`, which nothing produces. What
`tokenizer.json` does and llama.cpp cannot is refused; what differs in corners is a note, for the proof and the reader.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from localtune.data.tokenizer import Tokenizer
from localtune.errors import InputError, LocaltuneError, Problem
from localtune.export.byte_level import byte_level_pieces
from localtune.export.sentencepiece import sentencepiece_pieces
from localtune.export.special_ids import SpecialIds, special_ids
from localtune.export.tokens import NO_FIT, TOKENIZER, Kind, Pieces, added_tokens
from localtune.model import ModelFiles
from localtune.model.json_object import read_object

_LIMIT = 200_000_000
"""Bytes of `tokenizer.json`."""


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

    def metadata(self) -> dict[str, Any]:
        """The keys tokenizer.*."""
        tokens = [self.pieces.tokens.get(i, (f"[PAD{i}]", Kind.UNUSED)) for i in range(self.rows)]
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
    state = read_object(tokenizer.folder / TOKENIZER, _LIMIT)
    texts = _texts(state)
    problems: list[Problem] = []
    special = pieces = None
    try:
        special = special_ids(model, tokenizer, texts)
    except LocaltuneError as error:
        problems += error.problems
    try:
        pieces = _pieces(state, chat=special is not None and special.chat_prefix)
        problems += _misfits(pieces, model.config.vocabulary)
    except LocaltuneError as error:
        problems += error.problems
    notes, stripped = _stripping(state, tokenizer.template or "")
    if problems or stripped or pieces is None or special is None:
        raise InputError(*problems, *stripped)
    rows = model.config.vocabulary
    return Vocabulary(
        pieces, rows, special, _portable(tokenizer, special.ids, texts), (*pieces.notes, *special.notes, *notes)
    )


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


def _stripping(state: Mapping[str, Any], template: str) -> tuple[list[str], list[Problem]]:
    """Added tokens that swallow the blanks beside them: in a template that matters, elsewhere it is noted."""
    names = [
        str(token["content"])
        for token in added_tokens(state).values()
        if any(token.get(key) for key in ("lstrip", "rstrip", "single_word"))
    ]
    used = [name for name in names if name in template]
    problems = []
    if used:
        what = f"{', '.join(used[:4])[:200]} swallows blanks or wants a word of its own, which llama.cpp does not do"
        problems.append(Problem("gguf.tokenizer", what, TOKENIZER, fix=NO_FIT))
    notes = [f"blanks beside {', '.join(names[:4])[:200]} are kept by llama.cpp"] if names and not used else []
    return notes, problems


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
