"""Fill in the middle: prefix, suffix, middle between the tokens that a code model was made with.

The order is prefix, suffix, middle (PSM); the middle and the token that ends it are learned. Control strings inside
the three texts stay text. Families that know only another order are refused, not guessed.
"""

from dataclasses import dataclass

import numpy as np

from localtune.batch import Segment
from localtune.data.conversations import Infill
from localtune.data.tokenizer import Tokenizer
from localtune.data.weighing import finish
from localtune.errors import InputError, Problem

_NAMES = (
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", ""),
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>", ""),
    ("<fim-prefix>", "<fim-suffix>", "<fim-middle>", ""),
    ("▁<PRE>", "▁<SUF>", "▁<MID>", "▁<EOT>"),
    ("<PRE>", "<SUF>", "<MID>", "<EOT>"),
    ("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>", ""),
    ("<|fim_begin|>", "<|fim_hole|>", "<|fim_end|>", ""),
)
"""Before the prefix, before the suffix, before the middle; what ends the middle, "" for eos."""


@dataclass(frozen=True)
class Holes:
    """The ids around the parts of an infill row."""

    prefix: int
    suffix: int
    middle: int
    end: int


def holes(tokenizer: Tokenizer, where: str) -> Holes:
    """Those of `tokenizer`. Raises `InputError` (tokenizer.fim, tokenizer.eos) where it has none."""
    for names in _NAMES:
        prefix, suffix, middle, closing = (_id(tokenizer, name) for name in names)
        if prefix is None or suffix is None or middle is None:
            continue
        end = tokenizer.eos_id if closing is None else closing
        if end is None:
            what = "the tokenizer names no end token, so the model could not learn to stop"
            raise InputError(Problem("tokenizer.eos", what, where, fix="set eos_token in tokenizer_config.json"))
        return Holes(prefix, suffix, middle, end)
    shown = "; ".join(", ".join(name for name in names[:3]) for names in _NAMES[:2])
    what = f"the tokenizer has no tokens for filling in the middle ({shown}, …)"
    raise InputError(Problem("tokenizer.fim", what, where, fix="take a code model that was made with them"))


def infill(tokenizer: Tokenizer, ids: Holes, row: Infill) -> tuple[Segment, int]:
    """The segment of `row`, and how many control strings in it stayed text.

    Raises `ValueError` if a control id came out of plain text.
    """
    (prefix,) = tokenizer.encode_raw([row.prefix], continuing=False)
    suffix, middle = tokenizer.encode_raw([row.suffix, row.middle], continuing=True)
    prompt = [*tokenizer.prefix, ids.prefix, *prefix, ids.suffix, *suffix, ids.middle]
    weights = np.zeros(len(prompt) + len(middle), np.float32)
    weights[len(prompt) :] = 1.0
    pattern = tokenizer.control.pattern
    held = sum(1 for text in (row.prefix, row.suffix, row.middle) for _ in pattern.finditer(text))
    return finish(row.place, [*prompt, *middle], weights, (ids.end,)), held


def _id(tokenizer: Tokenizer, name: str) -> int | None:
    try:
        return tokenizer.id_of(name) if name else None
    except KeyError:
        return None
