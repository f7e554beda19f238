"""Blocks in numpy: read back by gguf, and as good as llama.cpp's."""

import numpy as np
import pytest
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quants
from hypothesis import example, given, settings
from hypothesis import strategies as st

from localtune.batch import Floats
from localtune.export import kquants
from localtune.export.kernel import EXACT_CODES, kernel
from localtune.proof.stored import LIMITS, SMALLEST

K_TYPES = (GGMLQuantizationType.Q4_K, GGMLQuantizationType.Q5_K, GGMLQuantizationType.Q6_K)
LEVELS = {GGMLQuantizationType.Q4_K: 15, GGMLQuantizationType.Q5_K: 31, GGMLQuantizationType.Q6_K: 63}


def error(rows: Floats, found: kquants.Bytes, kind: GGMLQuantizationType) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean((quants.dequantize(found, kind) - rows) ** 2)))


DRAWS = {
    "normal": lambda draw: draw.standard_normal((64, 1024)) * 0.02,
    "heavy tails": lambda draw: draw.standard_t(3, (64, 1024)) * 0.02,
    "above zero": lambda draw: draw.random((64, 1024)),
    "below zero": lambda draw: -1 - draw.random((64, 1024)),
    "sparse": lambda draw: draw.standard_normal((64, 1024)) * (draw.random((64, 1024)) < 0.05),
}


@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.parametrize("kind", K_TYPES)
def test_the_error_is_within_half_a_percent_of_ggmls(kind: GGMLQuantizationType, name: str) -> None:
    theirs = kernel()
    if theirs is None:
        pytest.skip("ggml's kernel cannot be called here")
    rows = DRAWS[name](np.random.default_rng(3)).astype(np.float32)
    ours = kquants.quantise(rows, kind)
    assert error(rows, ours, kind) == pytest.approx(error(rows, theirs(rows, kind), kind), rel=5e-3)


@pytest.mark.parametrize("kind", K_TYPES)
def test_the_search_is_better_than_plain_rounding(kind: GGMLQuantizationType) -> None:
    rows = np.random.default_rng(4).standard_normal((32, 256)).astype(np.float32)
    groups = rows.reshape(-1, 16 if kind == GGMLQuantizationType.Q6_K else 32)
    low, high = groups.min(axis=1, keepdims=True), groups.max(axis=1, keepdims=True)
    step = (high - low) / LEVELS[kind]
    plain = np.sqrt(np.mean((np.rint((groups - low) / step) * step + low - groups) ** 2))
    slack = 1.25 if kind == GGMLQuantizationType.Q6_K else 1.0  # it has no minimum: its codes lie around zero
    assert error(rows, kquants.quantise(rows, kind), kind) < plain * slack


@pytest.mark.parametrize("kind", EXACT_CODES)
def test_whole_numbers_that_are_codes_come_back_exactly(kind: GGMLQuantizationType) -> None:
    low, high = EXACT_CODES[kind]
    rows = np.random.default_rng(6).integers(low, high + 1, (4, 512)).astype(np.float32)
    rows[:, ::16], rows[:, 1::16] = low, high
    back = quants.dequantize(kquants.quantise(rows, kind), kind)
    assert np.abs(back - rows).max() <= (high - low) * 2.0**-11  # the scale is an F16


@pytest.mark.parametrize("kind", EXACT_CODES)
def test_zeros_stay_zeros(kind: GGMLQuantizationType) -> None:
    rows = np.zeros((2, 512), np.float32)
    assert not quants.dequantize(kquants.quantise(rows, kind), kind).any()


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(K_TYPES), st.floats(-2, 4), st.integers(0, 2**32 - 1))
@example(GGMLQuantizationType.Q6_K, 0.0, 32177)
def test_no_weight_moves_further_than_two_steps_of_its_block(
    kind: GGMLQuantizationType, size: float, seed: int
) -> None:
    draw = np.random.default_rng(seed)
    rows = (draw.standard_normal((3, 256)) * 10**size).astype(np.float32)
    rows[draw.random(rows.shape) < 0.1] = 0
    rows[0] = draw.choice([0.0, rows[0, 0]], 256)
    moved = np.abs(quants.dequantize(kquants.quantise(rows, kind), kind) - rows).max(axis=1)
    wide = np.maximum(rows.max(axis=1), 0) - np.minimum(rows.min(axis=1), 0)
    lost = LIMITS[kind.name][1] * SMALLEST  # scales of small weights are subnormal numbers of F16
    assert (moved <= wide * 2 / LEVELS[kind] + lost).all()


@pytest.mark.parametrize("kind", K_TYPES)
def test_rows_are_alone_in_their_bytes(kind: GGMLQuantizationType) -> None:
    rows = np.random.default_rng(8).standard_normal((1100, 256)).astype(np.float32)
    whole = kquants.quantise(rows, kind)
    assert whole.shape == (1100, GGML_QUANT_SIZES[kind][1])
    parts = np.concatenate([kquants.quantise(rows[:700], kind), kquants.quantise(rows[700:], kind)])
    assert np.array_equal(whole, parts)


def test_a_type_that_is_not_made_here_is_refused() -> None:
    with pytest.raises(NotImplementedError):
        kquants.quantise(np.zeros((1, 256), np.float32), GGMLQuantizationType.Q3_K)
