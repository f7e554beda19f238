"""What making and proving products will cost: disk by product, and seconds. Estimates, before anything is made.

Sizes leave out vocabulary and file headers. Seconds count the tokens that pass through the model, at a speed that is
low for a laptop, and a fixed cost per position and file; both were measured on two processor cores.
"""

from collections.abc import Iterator, Sequence

from localtune.adapter import Full, Trainable
from localtune.data.prepared import Prepared
from localtune.memory import BYTES, Item
from localtune.model import ModelFiles
from localtune.places import places_in, rows_to_compare

GGUF_BYTES = {"F32": 4.0, "F16": 2.0, "BF16": 2.0, "Q8_0": 34 / 32}
"""Bytes per weight; Q8_0 is blocks of 32 bytes and a 16-bit scale."""
EXACT = ("F32", "F16")
"""Encodings in which a fault of the conversion cannot hide behind rounding."""
SMALL = 500_000_000
"""Weights up to which the conversion is tried in F32; F16 beyond."""
ANSWERS = 4 * 64
"""Tokens of the answers to the prompts."""
SECONDS_PER_FILE, SECONDS_PER_POSITION, OPERATIONS_PER_SECOND = 2.0, 0.004, 2e10


def exact_encoding(model: ModelFiles) -> str:
    """The encoding in which the conversion of `model` is proven where every file asked for is rounded."""
    return "F32" if model.parameters <= SMALL else "F16"


def product_items(model: ModelFiles, trainable: Trainable, encodings: Sequence[str]) -> Iterator[Item]:
    """Disk of each product that stays."""
    if encodings and not isinstance(trainable, Full):
        yield Item("fused", model.size, f"{model.parameters:,} weights x {BYTES[model.config.dtype]} bytes")
    for encoding in encodings:
        each = GGUF_BYTES[encoding]
        yield Item(encoding, round(model.parameters * each), f"{model.parameters:,} weights x {each:.4g} bytes")


def exact_size(model: ModelFiles, encodings: Sequence[str]) -> int:
    """Disk of the file that only proves the conversion, 0 where one that is asked for does."""
    if not encodings or set(encodings) & set(EXACT):
        return 0
    return round(model.parameters * GGUF_BYTES[exact_encoding(model)])


def proof_seconds(model: ModelFiles, prepared: Prepared, encodings: Sequence[str]) -> float:
    """Seconds to compute the fused weights and every file at the compared positions."""
    if not encodings:
        return 0.0
    places = places_in(rows_to_compare(prepared)[1])
    tokens = sum(len(row) for row in places.rows) + ANSWERS
    files = len(encodings) + (exact_size(model, encodings) > 0)
    computed = 2 * model.parameters * tokens / OPERATIONS_PER_SECOND
    return (files + 1) * computed + files * (SECONDS_PER_FILE + SECONDS_PER_POSITION * len(places.row))
