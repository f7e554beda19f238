"""Pieces of a vocabulary as a GGUF lists them, and a tokenizer's added tokens."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from localtune.errors import InputError, Problem

TOKENIZER = "tokenizer.json"
_CONVERTER = "localtune export MODEL --converter PATH_TO_LLAMA.CPP"
ANOTHER = f"export a model of a supported family, or this one with llama.cpp's own converter: {_CONVERTER}"
NO_FIT = f"chat with the model as it is: localtune chat FOLDER; or try llama.cpp's own converter: {_CONVERTER}"


class Kind(IntEnum):
    """Token types of GGUF."""

    NORMAL = 1
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True)
class Pieces:
    """A tokenizer's model in llama.cpp's terms."""

    model: str
    """tokenizer.ggml.model: gpt2 (byte-level BPE) or llama (SentencePiece)."""
    pre: str
    """tokenizer.ggml.pre."""
    tokens: Mapping[int, tuple[str, Kind]]
    """Id -> text as llama.cpp wants it, and type."""
    merges: tuple[str, ...] = ()
    scores: Mapping[int, float] | None = None
    """Of every token but control tokens."""
    space_prefix: bool | None = None
    """Whether a blank is put before a text; None = llama.cpp decides by `model`."""
    notes: tuple[str, ...] = ()
    """How llama.cpp differs from the tokenizer, where it does."""
    differs: Callable[[Sequence[str]], bool] = lambda _: False
    """Whether it may differ in a text, given as what stands before, between and behind its added tokens."""


def added_tokens(state: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    """Id -> added token of `tokenizer.json`. Raises `InputError` for a list that makes no sense."""
    found = {}
    for token in state.get("added_tokens") or []:
        if not isinstance(token, dict) or type(token.get("id")) is not int or not isinstance(token.get("content"), str):
            what = f"has an added token that makes no sense: {json.dumps(token)[:120]}"
            raise InputError(Problem("gguf.vocabulary", what, TOKENIZER, fix="get a fresh copy of the tokenizer"))
        found[token["id"]] = token
    return found


def parts(part: Any) -> list[Mapping[str, Any]]:
    """The steps of a normalizer or pre-tokenizer in their order; sequences inside sequences are one."""
    if not isinstance(part, dict):
        return []
    if part.get("type") != "Sequence":
        return [part]
    inner = part.get("normalizers") or part.get("pretokenizers") or []
    return [step for one in inner for step in parts(one)]


def kind_of(token: Mapping[str, Any]) -> Kind:
    """Type of an added token: control where it is special, else text that is always one token."""
    return Kind.CONTROL if token.get("special") else Kind.USER_DEFINED


def merge_pairs(model: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The merges of a BPE model, first to last, in both forms of the file. Raises `InputError`."""
    pairs = []
    for merge in model.get("merges") or []:
        pair = merge.split(" ") if isinstance(merge, str) else merge
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(part, str) and part for part in pair):
            what = f"has a merge that is not two pieces: {json.dumps(merge)[:120]}"
            raise InputError(Problem("gguf.vocabulary", what, TOKENIZER, fix="get a fresh copy of the tokenizer"))
        pairs.append((pair[0], pair[1]))
    return pairs
