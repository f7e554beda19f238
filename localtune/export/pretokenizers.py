r"""Which of llama.cpp's pre-tokenizers splits text as a tokenizer does, decided by the tokenizer's own patterns.

llama.cpp knows pre-tokenizers by name (llama-vocab.cpp) and a wrong name loads without a word. A tokenizer's steps are
brought into one form and looked up; steps that are not in the table are refused, never guessed. Every row has been
compared with llama.cpp on hard texts (tests/unit/export/test_pretokenizers.py). tekken and gpt-4o are not in the table:
llama.cpp tells capitals from small letters in ASCII alone there and leaves combining marks out, so ids differ. With
`ignore_merges` a word of the vocabulary is one token whatever the merges say; llama.cpp ties that to the name too.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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


_WIDE = "llama.cpp keeps a blank outside ASCII, such as U+3000, together with the word that follows it"

TABLE = (
    PreTokenizer("gpt-2", (("gpt2", ""),)),
    PreTokenizer("smollm", (("digits", "each"), ("gpt2", ""))),
    PreTokenizer("qwen2", (("isolated", QWEN2),)),
    PreTokenizer("qwen35", (("isolated", QWEN35),)),
    PreTokenizer("llama-bpe", (("isolated", LLAMA3),), ignore_merges=True),
    PreTokenizer("dbrx", (("isolated", LLAMA3),)),
    PreTokenizer("seed-coder", (("isolated", SEED_CODER),)),
    *(PreTokenizer("deepseek-coder", (*_DEEPSEEK_CODER, digit), note=_WIDE) for digit in _EACH_DIGIT),
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
        if kind == "Split" and not part.get("invert"):
            pattern = part.get("pattern") or {}
            text = pattern.get("Regex") if "Regex" in pattern else f"text {pattern.get('String')!r}"
            yield str(part.get("behavior")).lower(), str(text).replace("\r", r"\r").replace("\n", r"\n")
        elif kind == "Digits":
            yield "digits", "each" if part.get("individual_digits") else "runs"
        elif kind == "ByteLevel":
            yield from _byte_level(part, last=place == len(chain))
        else:
            yield str(kind), str({key: value for key, value in part.items() if key != "type"})[:200]


def _byte_level(part: Mapping[str, Any], *, last: bool) -> Iterator[Step]:
    if part.get("add_prefix_space", True):
        yield "blank before the text", ""
    if part.get("use_regex", True):
        yield "gpt2", ""
    if not last:
        yield "bytes", "before another step, whose pattern then sees bytes"
