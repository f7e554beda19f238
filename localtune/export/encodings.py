"""The number formats a GGUF is written in, and rows of float32 turned into their bytes.

Types as llama.cpp's own converter chooses them: tensors of one dimension stay F32; with Q8_0, rows that are no multiple
of 32 stay F16. F16, BF16 and F32 round once, to nearest; Q8_0 is gguf's, which is llama.cpp's byte for byte. Sizes are
bytes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import gguf
import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, LlamaFileType

from localtune.batch import Floats
from localtune.errors import InputError, Problem
from localtune.model import weights


@dataclass(frozen=True)
class Encoding:
    """One choice of `--gguf`."""

    matrices: GGMLQuantizationType
    """Type of tensors with two dimensions."""
    file_type: LlamaFileType


ENCODINGS: dict[str, Encoding] = {
    "F32": Encoding(GGMLQuantizationType.F32, LlamaFileType.ALL_F32),
    "F16": Encoding(GGMLQuantizationType.F16, LlamaFileType.MOSTLY_F16),
    "BF16": Encoding(GGMLQuantizationType.BF16, LlamaFileType.MOSTLY_BF16),
    "Q8_0": Encoding(GGMLQuantizationType.Q8_0, LlamaFileType.MOSTLY_Q8_0),
}
"""Best first in fidelity, but for F16 and BF16: the original weights are one of the two."""


def known(encoding: str) -> Encoding:
    """The encoding of that name. Raises `InputError` (code gguf.encoding)."""
    if encoding not in ENCODINGS:
        what = f"{encoding[:40]!r} is not an encoding that can be written; these are: {', '.join(ENCODINGS)}"
        raise InputError(Problem("gguf.encoding", what, "--gguf", fix="--gguf F16,Q8_0"))
    return ENCODINGS[encoding]


_LARGEST_Q8_0 = 127 * 65504
"""A block's largest weight is 127 times its scale, which is F16."""


def type_of(shape: Sequence[int], encoding: Encoding) -> GGMLQuantizationType:
    """Type of a tensor of that shape."""
    if len(shape) == 1:
        return GGMLQuantizationType.F32
    block, _ = GGML_QUANT_SIZES[encoding.matrices]
    return encoding.matrices if shape[-1] % block == 0 else GGMLQuantizationType.F16


def size_of(shape: Sequence[int], kind: GGMLQuantizationType) -> int:
    """Bytes of a tensor."""
    block, size = GGML_QUANT_SIZES[kind]
    return math.prod(shape) // block * size


def encode(rows: Floats, kind: GGMLQuantizationType, name: str) -> bytes:
    """The bytes of `rows`, float32 [rows, width] or [width], of the tensor `name`.

    Raises `InputError`: gguf.not-finite, and gguf.overflow for a value too large for the type.
    """
    if not np.isfinite(rows).all():
        fix = "train again with a lower learning rate, or from a base whose weights are finite"
        raise InputError(Problem("gguf.not-finite", "holds values that are not finite", name, fix=fix))
    if kind == GGMLQuantizationType.Q8_0:
        if np.abs(rows).max(initial=0) > _LARGEST_Q8_0:
            raise InputError(Problem("gguf.overflow", "holds values too large for Q8_0", name, fix="--gguf BF16"))
        return gguf.quants.quantize(rows, kind).tobytes()
    try:
        return weights.encode(rows, kind.name).tobytes()
    except InputError as error:
        fix = "--gguf F32" if kind == GGMLQuantizationType.BF16 else "--gguf BF16"
        raise InputError(Problem("gguf.overflow", error.problems[0].what, name, fix=fix)) from None
