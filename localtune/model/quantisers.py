"""The quantisers of MLX and bitsandbytes in numpy: float32 values to codes and scales, as those libraries choose them.

Exact: the bits of `mx.quantize` in every mode and of `bitsandbytes.functional.quantize_4bit` for NF4, where the largest
magnitude of a group is 0 or from 1e-36 to 2000 (MLX's own results for numbers that float32 holds with fewer bits are of
no use, and nvfp4 has no scale beyond).

affine (MLX): n = 2^bits - 1, scale = (max - min) / n, moved so that the end of larger magnitude falls on a code. mxfp4,
mxfp8 (OCP Microscaling Formats 1.0): scale = the power of two not below max / 6 or max / 448. nvfp4: max / 6 as E4M3.
NF4 (Dettmers et al. 2023): blocks of 64 values in order, each divided by its largest magnitude, to the nearest of 16.
"""

import numpy as np
import numpy.typing as npt

from localtune.batch import Floats
from localtune.model.mlx_layout import E2M1, E4M3, scales_of
from localtune.model.quantized import Packing

Bytes = npt.NDArray[np.uint8]

NF4_BLOCK = 64
NF4: Floats = np.array(
    [-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
     -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
     0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0],
    np.float32,
)  # fmt: skip
"""Quantiles of a normal distribution with an exact zero, as bitsandbytes has them."""
_SMALLEST = np.float32(1e-7)
"""MLX's smallest affine scale."""


def quantized(values: Floats, how: Packing) -> tuple[Bytes, Floats | Bytes, Floats | None]:
    """Codes [rows, width], scales and biases [rows, groups] of values float32 [rows, width] in a mode of MLX.

    affine: scales and biases in float32, to be rounded to the type they are stored in; else scales are bytes and there
    are no biases.
    """
    groups = values.reshape(len(values), -1, how.group_size)
    if how.mode == "affine":
        return _affine(groups, how.bits)
    table = E4M3 if how.mode == "mxfp8" else E2M1
    largest = np.abs(groups).max(-1) / np.nanmax(table)
    scales = _nearest(largest, E4M3) if how.mode == "nvfp4" else _power(largest)
    factors = scales_of(scales, how.mode)
    factors[factors == 0] = 1  # of a group of zeros
    codes = _nearest(groups / factors[..., None], table)
    return codes.reshape(values.shape), scales, None


def packed_codes(codes: Bytes, bits: int) -> npt.NDArray[np.uint32]:
    """Words [rows, width * bits / 32] of codes [rows, width]: the inverse of `mlx_layout.unpacked_codes`."""
    chunks = codes.reshape(-1, 8)
    stream = np.zeros(len(chunks), np.uint64)
    for place in range(8):
        stream |= chunks[:, place].astype(np.uint64) << np.uint64(place * bits)
    data = stream.astype("<u8", copy=False).view(np.uint8).reshape(-1, 8)[:, :bits]
    return np.ascontiguousarray(data).reshape(-1).view("<u4").reshape(len(codes), -1)


def nf4(values: Floats) -> tuple[Bytes, Floats]:
    """Two codes a byte, [half of the values, rounded up], and the absmax of each block, of values of any shape."""
    flat = values.reshape(-1)
    padded = np.pad(flat, (0, -len(flat) % NF4_BLOCK)).reshape(-1, NF4_BLOCK)
    absmax: Floats = np.abs(padded).max(-1)
    scaled = padded * (np.float32(1) / np.maximum(absmax, np.float32(1e-38)))[:, None]
    codes = np.searchsorted((NF4[1:] + NF4[:-1]) / 2, scaled.reshape(-1)).astype(np.uint8)
    codes = codes[: len(flat) + len(flat) % 2]  # the last of an odd number is zero's
    packed: Bytes = codes[::2] << np.uint8(4) | codes[1::2]
    return packed, absmax


def nf4_values(packed: Bytes, absmax: Floats, shape: tuple[int, ...]) -> Floats:
    """The values of `nf4`'s results, float32 of `shape`."""
    values = NF4[np.stack([packed >> 4, packed & 15], axis=-1).reshape(-1)][: int(np.prod(shape))]
    values *= np.repeat(absmax, NF4_BLOCK)[: len(values)]
    return values.reshape(shape)


def _affine(groups: Floats, bits: int) -> tuple[Bytes, Floats, Floats]:
    """Codes [rows, width], scales and biases [rows, groups]."""
    top, high, low = np.float32((1 << bits) - 1), groups.max(-1), groups.min(-1)
    below = np.abs(low) > np.abs(high)
    scales = np.maximum((high - low) / top, _SMALLEST)
    scales = np.where(below, scales, -scales)
    edge = np.where(below, low, high)
    steps = np.rint(edge / scales)
    zero = steps == 0
    scales = np.where(zero, scales, edge / np.where(zero, np.float32(1), steps))
    biases: Floats = np.where(zero, np.float32(0), edge)
    codes = np.clip(np.rint((groups - biases[..., None]) / scales[..., None]), 0, top).astype(np.uint8)
    return codes.reshape(len(codes), -1), scales, biases


def _power(largest: Floats) -> Bytes:
    """Exponents, 127 added, of the smallest powers of two that are not below."""
    fraction, exponent = np.frexp(largest)
    exponent = np.where(fraction == 0.5, exponent - 1, exponent)
    exponent[largest == 0] = 0
    scales: Bytes = (np.clip(exponent, -127, 127) + 127).astype(np.uint8)
    return scales


def _nearest(values: Floats, table: Floats) -> Bytes:
    """Codes of the numbers of `table`, sign first, that are nearest to `values`.

    Of two equally near ones E4M3 takes the even code, as IEEE 754 does, E2M1 the lower magnitude, and it has no -0:
    the choices of MLX.
    """
    half = len(table) // 2
    numbers = table[:half][np.isfinite(table[:half])]
    middles = (numbers[1:] + numbers[:-1]) / 2
    magnitudes = np.abs(values)
    codes = np.searchsorted(middles, magnitudes, side="left")
    negative = np.signbit(values)
    if table is E2M1:
        negative &= codes > 0
    else:
        tied = middles[np.minimum(codes, len(middles) - 1)] == magnitudes
        codes += tied & (codes % 2 == 1)
    found: Bytes = (codes + half * negative).astype(np.uint8)
    return found
