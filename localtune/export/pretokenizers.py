r"""Which of llama.cpp's pre-tokenizers splits text as a tokenizer does, decided by the tokenizer's own patterns.

llama.cpp knows pre-tokenizers by name (llama-vocab.cpp) and a wrong name loads without a word. A tokenizer's steps are
brought into one form and looked up; steps that are not in the table are refused, never guessed. Every row has been
compared with llama.cpp on hard texts (tests/unit/export/test_pretokenizers.py). With `ignore_merges` a word of the
vocabulary is one token whatever the merges say; llama.cpp ties that to the name too.

In gpt-4o and tekken llama.cpp tells capitals from small letters in ASCII alone and does not count combining marks among
letters, so some texts are split otherwise. Which, is found by doing both: llama.cpp matches its pattern not against the
text but against one in which every character outside ASCII is a single byte for its Unicode category (unicode.cpp), and
so does `differs`. It is exact as far as Python's Unicode tables are llama.cpp's; characters that Python's do not know
count as different.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from tokenizers import Regex, pre_tokenizers

from localtune.errors import InputError, Problem
from localtune.export.tokens import NO_FIT, TOKENIZER, parts

Step = tuple[str, str]
"""Kind and pattern: ("isolated", regex), ("digits", "each"), ("gpt2", ""), …; line ends in a pattern are escaped."""

_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_LETTERS = r"|[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"

QWEN2 = _CONTRACTIONS + _LETTERS + r"|\p{N}" + _REST
LLAMA3 = _CONTRACTIONS + _LETTERS + r"|\p{N}{1,3}" + _REST
QWEN35 = (
    _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}"
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SEED_CODER = (
    _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}"
    r"| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SUFFIX = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
_CASED = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
)
_SLASHED = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
GPT_4O = _CASED[0] + _SUFFIX + _CASED[1] + _SUFFIX + r"|\p{N}{1,3}" + _SLASHED
TEKKEN = _CASED[0] + _CASED[1] + r"|\p{N}" + _SLASHED
_DEEPSEEK_3 = (
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    r"""| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""
)
_HAN_AND_HANGUL = ("isolated", "[一-龥ࠀ-一가-퟿]+")
_DEEPSEEK_CODER = (
    ("isolated", r"[\r\n]"),
    ("isolated", r"\s?\p{L}+"),
    ("isolated", r"\s?\p{P}+"),
    _HAN_AND_HANGUL,
)
_EACH_DIGIT = (("digits", "each"), ("isolated", r"\p{N}"))


@dataclass(frozen=True)
class PreTokenizer:
    """A row of the table."""

    name: str
    """tokenizer.ggml.pre."""
    steps: tuple[Step, ...]
    ignore_merges: bool = False
    note: str = ""
    """Where llama.cpp's own pattern is known to differ."""
    differs: Callable[[str], bool] | None = None
    """Whether a text may be split otherwise; None = none is."""


_WIDE = "llama.cpp keeps a blank outside ASCII, such as U+3000, together with the word that follows it"
_CAPITALS = (
    "llama.cpp tells capitals from small letters in ASCII alone and takes combining marks for signs: "
    "words in which those meet others, such as ÉcoleÉcole or Thai vowels, may get other tokens than in training"
)
_LETTER, _NUMBER, _BLANK, _OTHER = "\xd2", "\xd1", "\x0b", "\xd0"
"""What stands for a character outside ASCII."""
_IN_ASCII = {r"\p{L}": f"{_LETTER}A-Za-z", r"\p{N}": f"{_NUMBER}0-9"}
_THEIR_SUFFIX = "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?"
_THEIR_CASED = (
    r"[^\r\n\p{L}\p{N}]?(?:(?=[\p{L}])[^a-z])*(?:(?=[\p{L}])[^A-Z])+",
    r"|[^\r\n\p{L}\p{N}]?(?:(?=[\p{L}])[^a-z])+(?:(?=[\p{L}])[^A-Z])*",
)
_THEIRS = {
    GPT_4O: _THEIR_CASED[0] + _THEIR_SUFFIX + _THEIR_CASED[1] + _THEIR_SUFFIX + r"|[\p{N}]{1,3}" + _SLASHED,
    TEKKEN: _THEIR_CASED[0] + _THEIR_CASED[1] + r"|[\p{N}]" + _SLASHED,
}
"""A tokenizer's pattern -> llama.cpp's for it."""


def _wide(text: str) -> bool:
    return any(letter.isspace() and not letter.isascii() for letter in text)


def _splits_otherwise(pattern: str) -> Callable[[str], bool]:
    """Whether llama.cpp's pattern for `pattern` cuts a text at other places."""

    def differs(text: str) -> bool:
        if any(unicodedata.category(letter) == "Cn" for letter in text):
            return True
        own, theirs = _both(pattern)
        cuts = [end for _, (_, end) in own.pre_tokenize_str(text)]
        return cuts != [found.end() for found in theirs.finditer("".join(map(_stand_in, text)))]

    return differs


@cache
def _both(pattern: str) -> tuple[pre_tokenizers.PreTokenizer, re.Pattern[str]]:
    theirs = _THEIRS[pattern]
    for category, letters in _IN_ASCII.items():
        theirs = theirs.replace(category, letters)
    return pre_tokenizers.Split(Regex(pattern), "isolated"), re.compile(theirs, re.ASCII)


@cache
def _stand_in(letter: str) -> str:
    if letter.isascii():
        return letter
    if letter.isspace():
        return _BLANK
    return {"L": _LETTER, "N": _NUMBER}.get(unicodedata.category(letter)[0], _OTHER)


TABLE = (
    PreTokenizer("gpt-2", (("gpt2", ""),)),
    PreTokenizer("smollm", (("digits", "each"), ("gpt2", ""))),
    PreTokenizer("qwen2", (("isolated", QWEN2),)),
    PreTokenizer("qwen35", (("isolated", QWEN35),)),
    PreTokenizer("llama-bpe", (("isolated", LLAMA3),), ignore_merges=True),
    PreTokenizer("dbrx", (("isolated", LLAMA3),)),
    PreTokenizer("seed-coder", (("isolated", SEED_CODER),)),
    PreTokenizer("gpt-4o", (("isolated", GPT_4O),), note=_CAPITALS, differs=_splits_otherwise(GPT_4O)),
    PreTokenizer("tekken", (("isolated", TEKKEN),), True, _CAPITALS, _splits_otherwise(TEKKEN)),
    *(PreTokenizer("deepseek-coder", (*_DEEPSEEK_CODER, digit), note=_WIDE, differs=_wide) for digit in _EACH_DIGIT),
    PreTokenizer(
        "deepseek-v3",
        (("isolated", r"\p{N}{1,3}"), ("isolated", "[一-龥぀-ゟ゠-ヿ]+"), ("isolated", _DEEPSEEK_3)),
    ),
)


def pre_tokenizer(state: Mapping[str, Any]) -> PreTokenizer:
    """The row for the tokenizer in `state`, the object of `tokenizer.json`. Raises `InputError` where there is none."""
    steps = tuple(_steps(parts(state.get("pre_tokenizer"))))
    ignore_merges = bool((state.get("model") or {}).get("ignore_merges"))
    rows = [row for row in TABLE if row.steps == steps]
    for row in rows:
        if row.ignore_merges == ignore_merges:
            return row
    shown = "\n".join(f"{kind} {pattern}"[:300] for kind, pattern in steps[:8]) or "none"
    what = "splits text by a pattern that llama.cpp has no name for"
    if rows:
        what = f"sets ignore_merges to {str(ignore_merges).lower()}, and llama.cpp's {rows[0].name} is the opposite"
    raise InputError(Problem("gguf.pre-tokenizer", what, TOKENIZER, evidence=shown, fix=NO_FIT))


def _steps(chain: Sequence[Mapping[str, Any]]) -> Iterator[Step]:
    """The steps in one form, the change from characters to bytes at the end left out."""
    for place, part in enumerate(chain, 1):
        kind = part.get("type")
        if kind == "Split":
            yield _split(part)
        elif kind == "Digits":
            yield "digits", "each" if part.get("individual_digits") else "runs"
        elif kind == "ByteLevel":
            yield from _byte_level(part, last=place == len(chain))
        else:
            yield str(kind), str({key: value for key, value in part.items() if key != "type"})[:200]


def _split(part: Mapping[str, Any]) -> Step:
    """To remove all but the matches is to isolate them, where a pattern matches every character."""
    pattern, behavior = part.get("pattern") or {}, str(part.get("behavior")).lower()
    text = str(pattern.get("Regex")) if "Regex" in pattern else f"text {pattern.get('String')!r}"
    text = text.replace("\r", r"\r").replace("\n", r"\n")
    if not part.get("invert"):
        return behavior, text
    return ("isolated" if behavior == "removed" and text in _EVERYTHING else f"{behavior} but", text)


_EVERYTHING = frozenset({QWEN2, LLAMA3, QWEN35, SEED_CODER, GPT_4O, TEKKEN})


def _byte_level(part: Mapping[str, Any], *, last: bool) -> Iterator[Step]:
    if part.get("add_prefix_space", True):
        yield "blank before the text", ""
    if part.get("use_regex", True):
        yield "gpt2", ""
    if not last:
        yield "bytes", "before another step, whose pattern then sees bytes"
