"""Quantised types in numpy: what writes them where ggml's own kernel cannot be used.

Q8_0, Q5_0 and Q5_1 are gguf's. Q4_K, Q5_K and Q6_K are made here, as gguf reads them but does not write them: the
layout is exact (ggml-common.h; blocks of 256 weights), and the numbers in it come of the search that llama.cpp's
reference makes (ggml-quants.c), in float32. Sums are added in another order, so now and then a neighbouring value is
chosen: measured on normal, heavy-tailed and uniform weights, 99.8 % of the bytes are llama.cpp's and the root mean
square error of a tensor is within 0.02 % of its, where most weights are zero within 0.3 %.
"""

from collections.abc import Callable
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from localtune.batch import Floats

Bytes = npt.NDArray[np.uint8]
_BLOCK = 256
"""Weights in a block of the types made here."""
_AT_ONCE = 1024
"""Blocks worked on together: few enough for a processor's cache, and enough that threads seldom wait for another."""
_TINY = np.float32(1e-15)
"""A group whose largest weight is below is zero, as in ggml."""


def quantise(rows: Floats, kind: GGMLQuantizationType) -> Bytes:
    """Finite weights, float32 [rows, width], as blocks of `kind`, uint8 [rows, bytes]; blocks divide the width.

    Raises `NotImplementedError` for a type that is not made here.
    """
    if kind not in _TYPES:
        return np.asarray(gguf.quants.quantize(rows, kind))
    blocks = rows.reshape(-1, _BLOCK)
    found = np.empty((len(blocks), GGML_QUANT_SIZES[kind][1]), np.uint8)
    for start in range(0, len(blocks), _AT_ONCE):
        found[start : start + _AT_ONCE] = _TYPES[kind](blocks[start : start + _AT_ONCE])
    return found.reshape(len(rows), -1)


def _q4_k(blocks: Floats) -> Bytes:
    header, codes = _affine_block(blocks, most=15, first=-1.0, steps=21)
    low, high = np.split(codes.reshape(-1, 4, 2, 32), 2, axis=2)
    return np.concatenate([header, (low | high << 4).reshape(-1, 128)], axis=1)


def _q5_k(blocks: Floats) -> Bytes:
    header, codes = _affine_block(blocks, most=31, first=-0.5, steps=16)
    fifth = np.packbits((codes >> 4).reshape(-1, 8, 32), axis=1, bitorder="little").reshape(-1, 32)
    low, high = np.split((codes & 15).reshape(-1, 4, 2, 32), 2, axis=2)
    return np.concatenate([header, fifth, (low | high << 4).reshape(-1, 128)], axis=1)


def _q6_k(blocks: Floats) -> Bytes:
    x = blocks.reshape(-1, 16, 16)
    scales = _symmetric(np.ascontiguousarray(blocks.reshape(-1, 16).T)).reshape(-1, 16)
    largest = np.take_along_axis(scales, np.abs(scales).argmax(axis=1)[:, None], axis=1)
    empty = np.abs(largest) < _TINY
    inverse = np.where(empty, 0, np.float32(-128) / np.where(empty, 1, largest))
    d = np.where(empty, 0, np.float32(1) / np.where(empty, 1, inverse)).astype(np.float16)
    eighths = np.minimum(127, np.rint(inverse * scales))
    step = d.astype(np.float32) * eighths
    codes = np.rint(x / np.where(step == 0, 1, step)[:, :, None])
    codes = np.where(step[:, :, None] == 0, 0, np.clip(codes, -32, 31) + 32)
    bits = codes.astype(np.uint8).reshape(-1, 2, 4, 32)
    low, high = bits & 15, bits >> 4
    ql = low[:, :, :2] | low[:, :, 2:] << 4
    qh = high[:, :, 0] | high[:, :, 1] << 2 | high[:, :, 2] << 4 | high[:, :, 3] << 6
    parts = [ql.reshape(-1, 128), qh.reshape(-1, 64), eighths.astype(np.int8).view(np.uint8), d.view(np.uint8)]
    return np.concatenate(parts, axis=1)


_TYPES: dict[GGMLQuantizationType, Callable[[Floats], Bytes]] = {
    GGMLQuantizationType.Q4_K: _q4_k,
    GGMLQuantizationType.Q5_K: _q5_k,
    GGMLQuantizationType.Q6_K: _q6_k,
}


def _affine_block(blocks: Floats, *, most: int, first: float, steps: int) -> tuple[Bytes, Bytes]:
    """Scales and minima as they are stored, [blocks, 16], and the codes 0 to `most`, [blocks, 8, 32]."""
    x = blocks.reshape(-1, 8, 32)
    scales, minima = _affine(np.ascontiguousarray(blocks.reshape(-1, 32).T), most, first, steps)
    d, scale_codes = _six_bits(scales.reshape(-1, 8))
    d_min, minimum_codes = _six_bits(minima.reshape(-1, 8))
    step = d.astype(np.float32) * scale_codes
    below = d_min.astype(np.float32) * minimum_codes
    codes = np.rint((x + below[:, :, None]) / np.where(step == 0, 1, step)[:, :, None])
    codes = np.where(step[:, :, None] == 0, 0, np.clip(codes, 0, most)).astype(np.uint8)
    packed = _packed_scales(scale_codes.astype(np.uint8), minimum_codes.astype(np.uint8))
    return np.concatenate([d.view(np.uint8), d_min.view(np.uint8), packed], axis=1), codes


def _six_bits(values: Floats) -> tuple[npt.NDArray[np.float16], Floats]:
    """One F16 factor per block [blocks, 1], and the codes 0 to 63 of `values` >= 0 [blocks, 8]."""
    largest = values.max(axis=1, keepdims=True)
    inverse = np.where(largest > 0, np.float32(63) / np.where(largest > 0, largest, 1), 0).astype(np.float32)
    codes: Floats = np.minimum(63, np.rint(inverse * values))
    return (largest / np.float32(63)).astype(np.float16), codes


def _packed_scales(scales: Bytes, minima: Bytes) -> Bytes:
    """Eight scales and eight minima of six bits in twelve bytes; the upper two bits of the later four lie apart."""
    return np.concatenate(
        [
            scales[:, :4] | scales[:, 4:] >> 4 << 6,
            minima[:, :4] | minima[:, 4:] >> 4 << 6,
            scales[:, 4:] & 15 | (minima[:, 4:] & 15) << 4,
        ],
        axis=1,
    )


def _affine(x: Floats, most: int, first: float, steps: int) -> tuple[Floats, Floats]:
    """Scale and depth below zero, both >= 0, of each group of `x` [32, groups], by weighted least squares.

    For each of `steps` scales of the rounding, a tenth of a code apart, the best scale and minimum for its codes are
    solved for; the pair of least weighted error stays, and the next rounding starts from its minimum. Weights are
    |x| + root mean square.
    """
    w = np.abs(x)
    w += np.sqrt(np.einsum("ng,ng->g", x, x) / np.float32(len(x)))
    low, high = np.minimum(x.min(axis=0), 0), x.max(axis=0)
    flat = high == low
    high[flat] += 1
    wx, total = w * x, w.sum(axis=0)
    total_x = wx.sum(axis=0)
    codes, work = np.empty_like(x), np.empty_like(x)
    scale = (high - low) / np.float32(most)
    _rounded(x, low, most / (high - low), most, codes)
    best = _error(codes, scale, low, x, w, work)
    for step in range(steps):
        _rounded(x, low, (np.float32(first + 0.1 * step) + most) / (high - low), most, codes)
        np.multiply(codes, w, out=work)
        l1, lx = work.sum(axis=0), np.einsum("ng,ng->g", codes, wx)
        fitted, minimum = _fit(total, total_x, l1, np.einsum("ng,ng->g", codes, work), lx)
        error = _error(codes, fitted, minimum, x, w, work)
        better = error < best  # a fit that has no solution is NaN, and never better
        best = np.where(better, error, best)
        scale, low = np.where(better, fitted, scale), np.where(better, minimum, low)
    scale[flat] = 0
    return scale, -low


def _fit(w: Floats, wx: Floats, l1: Floats, l2: Floats, lx: Floats) -> tuple[Floats, Floats]:
    """Scale and minimum <= 0 of least squares for given codes; NaN where the codes do not tell them."""
    with np.errstate(divide="ignore", invalid="ignore"):
        determinant = w * l2 - l1 * l1
        determinant = np.where(determinant > 0, determinant, np.float32(np.nan))
        scale, minimum = (w * lx - wx * l1) / determinant, (l2 * wx - l1 * lx) / determinant
        above = minimum > 0
        return np.where(above, lx / l2, scale), np.where(above, 0, minimum)


def _rounded(x: Floats, low: Floats, inverse: Floats, most: int, out: Floats) -> None:
    """Codes 0 to `most` of `x` counted from `low`."""
    np.subtract(x, low, out=out)
    out *= inverse
    np.rint(out, out=out)
    np.clip(out, 0, most, out=out)


def _error(codes: Floats, scale: Floats, minimum: Floats, x: Floats, w: Floats, work: Floats) -> Any:
    """Weighted square error of each group; `work` is overwritten."""
    np.multiply(codes, scale, out=work)
    work += minimum
    work -= x
    work *= work
    return np.einsum("ng,ng->g", work, w)


def _symmetric(x: Floats) -> Floats:
    """The scale of each group of `x` [16, groups] for codes -32 to 31; weights are x squared.

    19 scales of the rounding are tried, the largest weight at code -31.1 to -32.9; that whose codes explain most stays.
    """
    peak = np.take_along_axis(x, np.abs(x).argmax(axis=0)[None], axis=0)[0]
    empty = np.abs(peak) < _TINY
    peak = np.where(empty, 1, peak)
    w = x * x
    wx = w * x
    codes, work = np.empty_like(x), np.empty_like(x)
    best = np.full(x.shape[1], -1, np.float32)
    best_scale = np.zeros(x.shape[1], np.float32)
    for step in sorted(range(-9, 10), key=bool):  # the plain rounding first, as it wins where two are equal
        np.multiply(x, np.float32(-(32 + 0.1 * step)) / peak, out=codes)
        np.rint(codes, out=codes)
        np.clip(codes, -32, 31, out=codes)
        lx = np.einsum("ng,ng->g", codes, wx)
        np.multiply(codes, codes, out=work)
        l2 = np.einsum("ng,ng->g", work, w)
        with np.errstate(all="ignore"):  # of zeros; of weights above a million, where the plain rounding stays
            explained = lx * lx / l2
            better = explained > best
            best_scale = np.where(better, lx / l2, best_scale)
        best = np.where(better, explained, best)
    return np.where(empty, 0, best_scale).astype(np.float32)
