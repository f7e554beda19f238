"""Byte-level BPE for llama.cpp: text as UTF-8 bytes, each byte one character, joined by merges within a word.

Exact where the pre-tokenizer's row says nothing else; Unicode normalisation (NFC) is not applied by llama.cpp and is
noted. Anything else that `tokenizer.json` would do to a text is refused.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tokenizers import normalizers

from localtune.errors import Problem
from localtune.export.pretokenizers import PreTokenizer, pre_tokenizer
from localtune.export.problems import Problems
from localtune.export.tokens import NO_FIT, TOKENIZER, Kind, Pieces, added_tokens, kind_of, merge_pairs, parts

_NFC = "llama.cpp does not compose accents (NFC): text with decomposed accents gets other tokens than in training"


def byte_level_pieces(state: Mapping[str, Any]) -> Pieces:
    """The vocabulary of a byte-level BPE. Raises `InputError` with everything llama.cpp cannot do."""
    model, row = state["model"], PreTokenizer("", ())
    problems = Problems()
    with problems.kept():
        row = pre_tokenizer(state)
    problems.add(*(Problem("gguf.tokenizer", what, TOKENIZER, fix=NO_FIT) for what in _beyond(state)))
    problems.end()
    tokens = {number: (text, Kind.NORMAL) for text, number in model["vocab"].items()}
    tokens |= {number: (token["content"], kind_of(token)) for number, token in added_tokens(state).items()}
    composes = bool(parts(state.get("normalizer")))
    notes = tuple(note for note in (row.note, _NFC if composes else "") if note)
    merges = tuple(f"{left} {right}" for left, right in merge_pairs(model))
    return Pieces("gpt2", row.name, tokens, merges, notes=notes, differs=_differing(row, composes))


def _differing(row: PreTokenizer, composes: bool) -> Callable[[Sequence[str]], bool]:
    """Whether a text that is given in parts is split or composed otherwise."""
    compose = normalizers.NFC().normalize_str

    def differs(between: Sequence[str]) -> bool:
        if composes and any(compose(text) != text for text in between):
            return True
        return row.differs is not None and any(map(row.differs, between))

    return differs


def _beyond(state: Mapping[str, Any]) -> Iterator[str]:
    model, normalizers, steps = state["model"], parts(state.get("normalizer")), parts(state.get("pre_tokenizer"))
    if any(part.get("type") != "NFC" for part in normalizers):
        yield f"normalises text ({str(normalizers)[:120]}), which llama.cpp does not do"
    if not steps or steps[-1].get("type") != "ByteLevel":
        yield "is BPE over characters; llama.cpp reads byte-level BPE, and SentencePiece with byte fallback"
    for key in ("continuing_subword_prefix", "end_of_word_suffix", "dropout", "byte_fallback"):
        if model.get(key):
            yield f"has {key} {model[key]!r:.40}, which llama.cpp does not know"
