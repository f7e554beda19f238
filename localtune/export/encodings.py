"""The number formats a GGUF is written in, and rows of float32 turned into their bytes.

F16, BF16 and F32 round once, to nearest. Quantised types are ggml's own where its kernel can be used, and then
llama.cpp's byte for byte; else those of `kquants`. Sizes are bytes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, LlamaFileType

from localtune.batch import Floats
from localtune.errors import InputError, Problem
from localtune.export import kquants
from localtune.export.kernel import kernel
from localtune.model import weights


@dataclass(frozen=True)
class Encoding:
    """One choice of `--gguf`."""

    matrices: GGMLQuantizationType
    """Type of most tensors with two dimensions; `type_plan` says which have another."""
    file_type: LlamaFileType


ENCODINGS: dict[str, Encoding] = {
    "F32": Encoding(GGMLQuantizationType.F32, LlamaFileType.ALL_F32),
    "F16": Encoding(GGMLQuantizationType.F16, LlamaFileType.MOSTLY_F16),
    "BF16": Encoding(GGMLQuantizationType.BF16, LlamaFileType.MOSTLY_BF16),
    "Q8_0": Encoding(GGMLQuantizationType.Q8_0, LlamaFileType.MOSTLY_Q8_0),
    "Q6_K": Encoding(GGMLQuantizationType.Q6_K, LlamaFileType.MOSTLY_Q6_K),
    "Q5_K_M": Encoding(GGMLQuantizationType.Q5_K, LlamaFileType.MOSTLY_Q5_K_M),
    "Q4_K_M": Encoding(GGMLQuantizationType.Q4_K, LlamaFileType.MOSTLY_Q4_K_M),
    "Q4_K_S": Encoding(GGMLQuantizationType.Q4_K, LlamaFileType.MOSTLY_Q4_K_S),
}
"""Best first in fidelity, but for F16 and BF16: the original weights are one of the two."""

_SCALES = {
    GGMLQuantizationType.Q8_0: (slice(0, 2), 127),
    GGMLQuantizationType.Q5_0: (slice(0, 2), 16),
    GGMLQuantizationType.Q5_1: (slice(0, 4), 1),
    GGMLQuantizationType.Q4_K: (slice(0, 4), 63),
    GGMLQuantizationType.Q5_K: (slice(0, 4), 63),
    GGMLQuantizationType.Q6_K: (slice(208, 210), 32),
}
"""Quantised type -> where the F16 scales of a block lie, and by how much a weight may be larger than F16 can hold."""


def known(encoding: str) -> Encoding:
    """The encoding of that name. Raises `InputError` (code gguf.encoding)."""
    if encoding not in ENCODINGS:
        what = f"{encoding[:40]!r} is not an encoding that can be written; these are: {', '.join(ENCODINGS)}"
        raise InputError(Problem("gguf.encoding", what, "--gguf", fix="--gguf F16,Q8_0"))
    return ENCODINGS[encoding]


def size_of(shape: Sequence[int], kind: GGMLQuantizationType) -> int:
    """Bytes of a tensor."""
    block, size = GGML_QUANT_SIZES[kind]
    return math.prod(shape) // block * size


def encode(rows: Floats, kind: GGMLQuantizationType, name: str) -> bytes:
    """The bytes of `rows`, float32 [..., width], of the tensor `name`.

    Raises `InputError`: gguf.not-finite, and gguf.overflow for a value too large for the type.
    """
    largest = max(float(rows.max(initial=0)), -float(rows.min(initial=0)))  # NaN if one of them is
    if not math.isfinite(largest):
        fix = "train again with a lower learning rate, or from a base whose weights are finite"
        raise InputError(Problem("gguf.not-finite", "holds values that are not finite", name, fix=fix))
    if kind in _SCALES:
        return _quantised(rows, kind, largest, name)
    try:
        return weights.encode(rows, kind.name).tobytes()
    except InputError as error:
        fix = "--gguf F32" if kind == GGMLQuantizationType.BF16 else "--gguf BF16"
        raise InputError(Problem("gguf.overflow", error.problems[0].what, name, fix=fix)) from None


def _quantised(rows: Floats, kind: GGMLQuantizationType, largest: float, name: str) -> bytes:
    place, factor = _SCALES[kind]
    overflow = InputError(Problem("gguf.overflow", f"holds values too large for {kind.name}", name, fix="--gguf BF16"))
    if largest > factor * float(np.finfo(np.float16).max):
        raise overflow
    quantise = kernel() or kquants.quantise
    found = quantise(np.ascontiguousarray(rows, np.float32).reshape(-1, rows.shape[-1]), kind)
    scales = np.ascontiguousarray(found.reshape(-1, GGML_QUANT_SIZES[kind][1])[:, place]).view(np.float16)
    if not np.isfinite(scales).all():  # a scale may be a little above what its largest weight asks for
        raise overflow
    return found.tobytes()
