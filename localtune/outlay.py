"""What making and proving products will cost: disk by product, and seconds. Estimates, before anything is made.

Sizes leave out vocabulary and file headers. Each compared token reads the file's weights once, so seconds are bytes by
the memory's speed, and a fixed part per file and position; measured on two processor cores.
"""

from collections.abc import Iterator, Sequence

from localtune.adapter import Full, Trainable
from localtune.data.prepared import Prepared
from localtune.memory import BYTES, Item
from localtune.model import ModelFiles
from localtune.places import POSITIONS, ROWS, places_in, rows_to_compare

GGUF_BYTES = {"F32": 4.0, "F16": 2.0, "BF16": 2.0, "Q8_0": 34 / 32}
"""Bytes per weight; Q8_0 is blocks of 32 bytes and a 16-bit scale."""
EXACT = ("F32", "F16")
"""Encodings in which a fault of the conversion cannot hide behind rounding."""
SMALL = 500_000_000
"""Weights up to which the conversion is tried in F32; F16 beyond."""
BUDGET, FEWEST, PROMPTS, ANSWER = 30.0, 32, 4, 128
"""Seconds for the positions of one file, positions that are compared in any case, answers and their tokens at most."""
START, POSITION, READING = 1.0, 0.002, 1e10
"""Seconds to open a file and per position; bytes of weights that pass per second, once for each token."""


def affordable(size: int) -> tuple[int, int]:
    """Positions and prompts at which a file of `size` bytes is compared: all of them, but for large models."""
    positions = int(max(FEWEST, min(ROWS * POSITIONS, BUDGET / _seconds(size))))
    return positions, PROMPTS if positions == ROWS * POSITIONS else 1


def _seconds(size: int) -> float:
    """Of one token through the file."""
    return POSITION + size / READING


def exact_encoding(model: ModelFiles) -> str:
    """The encoding in which the conversion of `model` is proven where every file asked for is rounded."""
    return "F32" if model.parameters <= SMALL else "F16"


def product_items(model: ModelFiles, trainable: Trainable, encodings: Sequence[str]) -> Iterator[Item]:
    """Disk of each product that stays."""
    if encodings and not isinstance(trainable, Full):
        kept = BYTES[model.config.dtype]
        why = f"{model.parameters:,} weights x 4 bytes at most; {kept} where that keeps what training changed"
        yield Item("fused", 4 * model.parameters, why)
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
    files = [model.parameters * GGUF_BYTES[encoding] for encoding in encodings]
    if exact_size(model, encodings):
        files.append(exact_size(model, encodings))
    there = len(places_in(rows_to_compare(prepared)[1], model.config.context).row)
    return sum(_file_seconds(int(size), there) for size in [*files, 4 * model.parameters])


def _file_seconds(size: int, there: int) -> float:
    positions, prompts = affordable(size)
    return START + (min(positions, there) + prompts * ANSWER) * _seconds(size)
