"""What making and proving products will cost: disk by product, and seconds. Estimates, before anything is made.

Sizes leave out vocabulary and file headers. Writing costs what its slower half does: computing the bytes on every core,
or bringing them onto the disk. Each compared token reads the file's weights once, so seconds of a proof are bytes by
the memory's speed, and a fixed part per file and position; measured on two processor cores.
"""

import math
import os
from collections import Counter
from collections.abc import Iterator, Sequence

from localtune.adapter import Full, Trainable
from localtune.data.prepared import Prepared
from localtune.memory import BYTES, Item
from localtune.model import ModelFiles
from localtune.places import POSITIONS, ROWS, places_in, rows_to_compare

TYPES = {
    **{"F32": (4.0, 400e6), "F16": (2.0, 300e6), "BF16": (2.0, 1000e6), "Q8_0": (34 / 32, 300e6)},
    **{"Q6_K": (210 / 256, 35e6), "Q5_K": (176 / 256, 18e6), "Q4_K": (144 / 256, 15e6)},
    **{"Q5_1": (24 / 32, 400e6), "Q5_0": (22 / 32, 300e6)},
}
"""Bytes of a weight in its block, and weights per second that one core turns into them: ggml's kernel, measured; the
K-quants of our own are as fast within a fifth."""
_MOSTLY = {"Q5_K_M": "Q5_K", "Q4_K_M": "Q4_K", "Q4_K_S": "Q4_K"}
"""Encoding -> type of most of its weights; the head is Q6_K, and of an encoding in _M half of what `_BETTER` names."""
_NARROW = {"Q6_K": "Q8_0", "Q5_K": "Q5_1", "Q4_K": "Q5_0"}
"""What a type is in rows that blocks of 256 do not divide."""
_HEADS = ("lm_head.weight", "embed_tokens.weight")
_BETTER = ("v_proj.weight", "qkv_proj.weight", "down_proj.weight", "down_proj", "w2.weight")
EXACT = ("F32", "F16")
"""Encodings in which a fault of the conversion cannot hide behind rounding."""
SMALL = 500_000_000
"""Weights up to which the conversion is tried in F32; F16 beyond."""
BUDGET, FEWEST, PROMPTS, ANSWER = 30.0, 32, 4, 128
"""Seconds for the positions of one file, positions that are compared in any case, answers and their tokens at most."""
START, POSITION, READING = 1.0, 0.002, 1e10
"""Seconds to open a file and per position; bytes of weights that pass per second, once for each token."""
READ_BACK = 1.5e8
"""Weights of a file that are read back and compared in a second; measured on two cores: 1e8 to 3e8."""
DISK = 5e8
"""Bytes per second that a disk takes."""


def affordable(size: int) -> tuple[int, int]:
    """Positions and prompts at which a file of `size` bytes is compared: all of them, but for large models."""
    positions = int(max(FEWEST, min(ROWS * POSITIONS, BUDGET / _seconds(size))))
    return positions, PROMPTS if positions == ROWS * POSITIONS else 1


def _seconds(size: int) -> float:
    """Of one token through the file."""
    return POSITION + size / READING


def gguf_size(model: ModelFiles, encoding: str) -> int:
    """Bytes of a file's weights, within a hundredth where 32 divides every row."""
    return round(sum(count * TYPES[kind][0] for kind, count in _counts(model, encoding).items()))


def writing_seconds(model: ModelFiles, encodings: Sequence[str]) -> float:
    """Seconds to write every file, and the one that only proves the conversion."""
    if not encodings:
        return 0.0
    alone = [exact_encoding(model)] if exact_size(model, encodings) else []
    counts = [_counts(model, encoding) for encoding in (*encodings, *alone)]
    computing = sum(count / TYPES[kind][1] for one in counts for kind, count in one.items()) / (os.cpu_count() or 1)
    size = sum(gguf_size(model, encoding) for encoding in (*encodings, *alone))
    return max(computing, size / DISK)


def _counts(model: ModelFiles, encoding: str) -> Counter[str]:
    """Type -> number of weights."""
    found: Counter[str] = Counter()
    head = _HEADS[model.config.tied]
    for tensor in model.weights:
        kind, better, count = _MOSTLY.get(encoding, encoding), 0, math.prod(tensor.shape)
        if len(tensor.shape) == 1:
            kind = "F32"
        elif encoding in _MOSTLY and tensor.name.endswith(head):
            kind = "Q6_K"
        elif encoding in _MOSTLY and encoding.endswith("_M") and tensor.name.endswith(_BETTER):
            better = count // 2
        fits = not tensor.shape or tensor.shape[-1] % 256 == 0
        found[kind if fits else _NARROW.get(kind, kind)] += count - better
        found["Q6_K" if fits else "Q8_0"] += better
    return found


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
        size = gguf_size(model, encoding)
        each = size / model.parameters
        yield Item(encoding, size, f"{model.parameters:,} weights x {each:.4g} bytes")


def exact_size(model: ModelFiles, encodings: Sequence[str]) -> int:
    """Disk of the file that only proves the conversion, 0 where one that is asked for does."""
    if not encodings or set(encodings) & set(EXACT):
        return 0
    return gguf_size(model, exact_encoding(model))


def proof_seconds(model: ModelFiles, prepared: Prepared, encodings: Sequence[str]) -> float:
    """Seconds to compute the fused weights and every file at the compared positions, and to read every file back."""
    if not encodings:
        return 0.0
    files = [gguf_size(model, encoding) for encoding in encodings]
    if exact_size(model, encodings):
        files.append(exact_size(model, encodings))
    there = len(places_in(rows_to_compare(prepared)[1], model.config.context).row)
    read_back = len(files) * model.parameters / READ_BACK
    return read_back + sum(_file_seconds(size, there) for size in [*files, 4 * model.parameters])


def _file_seconds(size: int, there: int) -> float:
    positions, prompts = affordable(size)
    return START + (min(positions, there) + prompts * ANSWER) * _seconds(size)
