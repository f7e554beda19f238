"""Quantising in numpy: the bits of MLX and bitsandbytes."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localtune.model.mlx_layout import dequantized, scales_of, unpacked_codes
from localtune.model.quantisers import NF4, nf4, nf4_values, packed_codes, quantized
from localtune.model.quantized import BITS, GROUPS, Packing

GRIDS = [Packing(mode, bits, group) for mode in BITS for bits in BITS[mode] for group in GROUPS[mode]]


def awkward(size: float = 0.02) -> Any:
    """Rows [64, 256]: random, zeros, of one sign, constant, of even steps (ties), powers of two, one large value."""
    random = np.random.default_rng(0)
    values = (random.normal(size=(64, 256)) * size).astype(np.float32)
    values[3] = 0
    values[4], values[5] = np.abs(values[4]), -np.abs(values[5])
    values[6, :64] = size
    values[7, 64:128] = -size
    values[8] = np.repeat(np.linspace(-6, 6, 32), 8)
    values[9] = 2.0 ** random.integers(-10, 10, 256)
    values[10, 5] = 100 * size
    values[11] = np.tile(np.linspace(-448, 448, 64), 4)
    values[12] *= 1e-20
    return values


def theirs(values: Any, how: Packing, kind: str) -> list[Any]:
    """MLX's codes, scales and biases."""
    mx = pytest.importorskip("mlx.core")
    parts = mx.quantize(mx.array(values).astype(getattr(mx, kind)), how.group_size, how.bits, how.mode)
    words, *rest = (np.array(part.astype(mx.float32) if part.dtype == mx.bfloat16 else part) for part in parts)
    return [unpacked_codes(words, how.bits), *rest]


def to_bfloat16(values: Any) -> Any:
    mx = pytest.importorskip("mlx.core")
    return np.array(mx.array(values).astype(mx.bfloat16).astype(mx.float32))


@pytest.mark.parametrize("how", GRIDS, ids=str)
def test_codes_scales_and_biases_are_those_of_mlx(how: Packing) -> None:
    values = awkward()
    for found, expected in zip(quantized(values, how), theirs(values, how, "float32"), strict=False):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("how", GRIDS, ids=str)
def test_of_16_bit_values_too(how: Packing) -> None:
    values = to_bfloat16(awkward())
    codes, scales, biases = quantized(values, how)
    expected = theirs(values, how, "bfloat16")
    np.testing.assert_array_equal(codes, expected[0])
    rounded = to_bfloat16 if how.mode == "affine" else np.asarray
    np.testing.assert_array_equal(rounded(scales), expected[1])
    if biases is not None:
        np.testing.assert_array_equal(rounded(biases), expected[2])


@pytest.mark.parametrize("how", GRIDS, ids=str)
def test_another_grid_is_noticed(how: Packing) -> None:
    values = awkward()
    moved = quantized(values * np.float32(1.01), how)
    assert any(
        (found != expected).any() for found, expected in zip(moved, theirs(values, how, "float32"), strict=False)
    )
    assert any((found != expected).any() for found, expected in
               zip(quantized(-values, how), theirs(values, how, "float32"), strict=False))  # fmt: skip


@given(st.sampled_from((2, 3, 4, 5, 6, 8)), st.integers(1, 4), st.integers(1, 4), st.integers(0, 2**32))
def test_packing_is_undone_by_unpacking(bits: int, rows: int, groups: int, seed: int) -> None:
    codes = np.random.default_rng(seed).integers(0, 1 << bits, (rows, 32 * groups), np.uint8)
    words = packed_codes(codes, bits)
    assert words.shape == (rows, groups * bits)
    np.testing.assert_array_equal(unpacked_codes(words, bits), codes)


@settings(max_examples=50)
@given(st.sampled_from(GRIDS), st.floats(1e-3, 5), st.integers(0, 2**32))
def test_a_value_is_moved_by_less_than_the_widest_step_of_its_group(how: Packing, size: float, seed: int) -> None:
    values = (np.random.default_rng(seed).normal(size=(4, 128)) * size).astype(np.float32)
    codes, scales, biases = quantized(values, how)
    factors = scales if how.mode == "affine" else scales_of(scales, how.mode)  # type: ignore[arg-type]
    error = np.abs(dequantized(codes, factors, biases, how.mode) - values).reshape(4, -1, how.group_size)  # type: ignore[arg-type]
    least = 6 * 2**-6 if how.mode == "nvfp4" else 0.0  # below it nvfp4's scales have few bits, or none
    largest = np.maximum(np.abs(values).reshape(error.shape).max(-1, keepdims=True), least)
    step = (
        2 / ((1 << how.bits) - 1)
        if how.mode == "affine"
        else {"mxfp8": 1 / 8, "mxfp4": 1 / 4, "nvfp4": 1 / 4}[how.mode]
    )
    assert (error <= 1.05 * step * largest).all()


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("shape", [(64, 256), (33, 64), (8, 88), (7, 10), (3, 5)])
def test_nf4_is_that_of_bitsandbytes(kind: str, shape: tuple[int, int]) -> None:
    torch = pytest.importorskip("torch")
    bitsandbytes = pytest.importorskip("bitsandbytes")
    values = awkward().reshape(-1)[: shape[0] * shape[1]].reshape(shape)
    weight = torch.tensor(values).to(getattr(torch, kind))
    codes, state = bitsandbytes.functional.quantize_4bit(weight, quant_type="nf4")
    packed, absmax = nf4(weight.float().numpy())
    np.testing.assert_array_equal(packed, codes.numpy().reshape(-1))
    np.testing.assert_array_equal(absmax, state.absmax.numpy())
    np.testing.assert_array_equal(NF4, state.code.numpy())
    np.testing.assert_array_equal(state.absmax.numpy() >= 0, True)
    swapped, _ = nf4(weight.float().numpy()[:, ::-1])
    assert (swapped != codes.numpy().reshape(-1)).any()


def test_values_on_the_grid_of_nf4_stay() -> None:
    codes = np.random.default_rng(0).integers(0, 256, 96, np.uint8)
    codes[::32] = 0x0F  # the largest magnitude is in every block
    absmax = np.array([0.5, 2.0, 1e-3], np.float32)
    values = nf4_values(codes, absmax, (2, 96))
    again, scales = nf4(values)
    np.testing.assert_array_equal(again, codes)
    np.testing.assert_array_equal(scales, absmax)
