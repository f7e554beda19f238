"""Whether bitsandbytes on this processor reads NF4 rows of a width as it wrote them.

With AVX-512, version 0.50 gives wrong values for widths that are multiples of 16 and not of 64, without an error: a
model would train against a base that is not the one that was quantised. So each width is tried on a few rows; what they
must be is the code's value times its block's largest (Dettmers et al. 2023).
"""

from collections.abc import Iterable

import torch

ROWS, BLOCK = 4, 64


def misread(widths: Iterable[int]) -> list[int]:
    """The widths whose rows come back wrong on the processor, ascending."""
    return sorted(width for width in set(widths) if not _reads_right(width))


def _reads_right(width: int) -> bool:
    import bitsandbytes.functional as bnb

    rows = torch.linspace(-1, 1, ROWS * width).reshape(ROWS, width)
    packed, state = bnb.quantize_4bit(rows, blocksize=BLOCK, quant_type="nf4")
    codes = torch.stack([packed.flatten() >> 4, packed.flatten() & 15], 1).flatten()[: rows.numel()]
    largest = state.absmax.repeat_interleave(BLOCK)[: rows.numel()]
    wanted = (state.code[codes.long()] * largest).reshape(ROWS, width)
    return torch.equal(bnb.dequantize_4bit(packed, state), wanted)
