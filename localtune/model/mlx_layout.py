"""Values of weights in mlx-lm's layout: packed codes, times the scale of their group, plus its bias.

Codes are a little-endian stream of bits in 32-bit words, the first in the lowest. affine (MLX, "quantize"): w = scale
* code + bias, scale and bias in F32, F16 or BF16. mxfp4 and mxfp8 (OCP Microscaling Formats 1.0): E2M1 or E4M3
numbers, groups of 32, scale 2^(byte - 127). nvfp4: E2M1, groups of 16, scale an E4M3 number.

Exact: the values are those of `mx.dequantize` in float32, bit for bit; a product of scale and code is a float32 number
wherever the scale has 16 bits, so at most the sum with the bias is rounded. In a 16-bit type `mx.dequantize` rounds
after each step and differs by that.
"""

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from localtune.batch import Floats
from localtune.errors import InputError, Problem
from localtune.model.packed import Packed
from localtune.model.quantized import Packing, Quantization, unpacked
from localtune.model.tensors import TensorInfo
from localtune.model.weights import DTYPES, Weights

Bytes = npt.NDArray[np.uint8]


def packed_weights(weights: Weights, how: Quantization, dtype: str) -> Iterator[Packed]:
    """Every weight of `weights` that has scales beside it; `dtype` is that of the modes that state none."""
    stored = tuple(weights[name] for name in weights)
    shapes = {tensor.name: tensor.shape for tensor in unpacked(stored, how)}
    for tensor in stored:
        module = tensor.name.removesuffix(".weight")
        if f"{module}.scales" in weights and module != tensor.name:
            yield _packed(weights, replace(tensor, shape=shapes[tensor.name]), how.of(module), dtype)


def dequantized(codes: Bytes, scales: Floats, biases: Floats | None, mode: str) -> Floats:
    """Values float32 [rows, width] of codes [rows, width], scales and biases [rows, groups]."""
    values = NUMBERS[mode][codes] if mode in NUMBERS else codes.astype(np.float32)
    groups = values.reshape(*scales.shape, codes.shape[-1] // scales.shape[-1])
    with np.errstate(all="ignore"):  # a damaged scale gives values that are not finite, and those are found
        groups *= scales[..., None]
        if biases is not None:
            groups += biases[..., None]
    return values


def unpacked_codes(words: npt.NDArray[np.uint32], bits: int) -> Bytes:
    """The codes uint8 [rows, n * 32 / bits] in words [rows, n]."""
    data = np.ascontiguousarray(words).view(np.uint8)
    if bits == 8:
        return data
    length = 1 if 8 % bits == 0 else bits
    """Bytes after which the pattern repeats: 8 codes of 3, 5 or 6 bits in as many bytes."""
    chunks = data.reshape(-1, length)
    joined = chunks[:, 0] if length == 1 else _joined(chunks)
    codes = np.empty((len(chunks), 8 * length // bits), np.uint8)
    for place in range(codes.shape[1]):
        codes[:, place] = (joined >> joined.dtype.type(place * bits)) & joined.dtype.type((1 << bits) - 1)
    return codes.reshape(len(words), -1)


def scales_of(stored: Bytes, mode: str) -> Floats:
    """The factors that the bytes of a mode without biases stand for."""
    if mode == "nvfp4":
        return E4M3[stored]
    with np.errstate(over="ignore"):  # 255 is infinite
        return np.ldexp(np.float32(1), stored.astype(np.int32) - 127)


def _joined(chunks: Bytes) -> npt.NDArray[np.uint64]:
    joined = np.zeros(len(chunks), np.uint64)
    for place in range(chunks.shape[1]):
        joined |= chunks[:, place].astype(np.uint64) << np.uint64(8 * place)
    return joined


def _packed(weights: Weights, tensor: TensorInfo, how: Packing, dtype: str) -> Packed:
    """`tensor` has the shape of the values."""
    module = tensor.name.removesuffix(".weight")
    scales, biases = f"{module}.scales", f"{module}.biases" if how.mode == "affine" else None
    _check(weights, tensor, scales, biases)
    kind = weights[scales].dtype if how.mode == "affine" else dtype
    width, groups = tensor.shape[-1] * how.bits // 32, tensor.shape[-1] // how.group_size
    rows = math.prod(tensor.shape[:-1])

    def read(start: int, stop: int) -> Floats:
        words = weights.matrix(tensor.name, np.dtype("<u4"), (rows, width))[start:stop]
        if how.mode == "affine":
            factors = weights.floats(scales, (rows, groups), start, stop)
        else:
            factors = scales_of(weights.matrix(scales, np.dtype(np.uint8), (rows, groups))[start:stop], how.mode)
        offsets = None if biases is None else weights.floats(biases, (rows, groups), start, stop)
        return dequantized(unpacked_codes(words, how.bits), factors, offsets, how.mode)

    size = math.prod(tensor.shape) * DTYPES[kind].itemsize
    beside = (scales,) if biases is None else (scales, biases)
    return Packed(replace(tensor, dtype=kind, size=size), read, beside)


def _check(weights: Weights, tensor: TensorInfo, scales: str, biases: str | None) -> None:
    """Scales and biases are of the types and shapes that MLX writes."""
    kinds, parts = (("U8",), [scales]) if biases is None else (tuple(DTYPES), [scales, biases])
    for part in parts:
        if part not in weights or weights[part].dtype not in kinds or weights[part].shape != weights[scales].shape:
            what = f"{part[:200]} is missing, or not what the packed {tensor.name[:200]} needs"
            fix = "get a fresh copy of the model's files, or quantise the original model again with  mlx_lm.convert -q"
            raise InputError(Problem("model.quantized", what, fix=fix))


def _minifloats(exponent_bits: int, mantissa_bits: int, bias: int) -> Floats:
    """Every number of a small float type by its code, sign first."""
    half = 1 << (exponent_bits + mantissa_bits)
    codes = np.arange(half)
    exponent, fraction = codes >> mantissa_bits, (codes & ((1 << mantissa_bits) - 1)) / (1 << mantissa_bits)
    values = np.where(exponent == 0, fraction * 2.0 ** (1 - bias), (1 + fraction) * 2.0 ** (exponent - bias))
    return np.concatenate([values, -values]).astype(np.float32)


E2M1 = _minifloats(2, 1, 1)
"""0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives."""
E4M3 = _minifloats(4, 3, 7)
"""Up to 448, without infinities."""
E4M3[[0x7F, 0xFF]] = np.nan
NUMBERS = {"mxfp4": E2M1, "nvfp4": E2M1, "mxfp8": E4M3}
"""What the codes of a mode stand for; those of affine are whole numbers."""
