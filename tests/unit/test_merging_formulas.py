"""The arithmetic of merging, one matrix at a time."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from localtune.merging import formulas
from localtune.merging.formulas import drop, elected_mean, trim, truncated

Array = npt.NDArray[np.float32]


def test_dropped_values_are_replaced_on_average() -> None:
    delta = np.ones((400, 500), np.float32)
    drop(delta, 0.25, np.random.default_rng(0))
    assert set(np.unique(delta)) == {0.0, 4.0}
    assert delta.mean() == pytest.approx(1, abs=0.02)  # its standard deviation is sqrt(3 / 200,000) = 0.004


@given(arrays.arrays(np.float32, (7, 9), elements=st.floats(-8, 8, width=16)), st.floats(0.01, 1))
def test_trimming_leaves_the_largest(delta: Array, density: float) -> None:
    before = delta.copy()
    trim(delta, density)
    keep = max(1, int(density * delta.size))
    expected = np.sort(np.abs(before).ravel())[delta.size - keep :]
    np.testing.assert_array_equal(np.sort(np.abs(delta).ravel())[delta.size - keep :], expected)
    assert np.count_nonzero(delta) <= keep
    assert np.all((delta == before) | (delta == 0))


def test_the_sign_of_the_sum_is_elected_and_only_its_values_count() -> None:
    first, second, third = (np.array([[value]], np.float32) for value in ((3.0), (-1.0), (2.0)))
    assert elected_mean([first, second, third], [1, 1, 1])[0, 0] == 2.5
    assert elected_mean([-first, second], [1, 1])[0, 0] == -2.0
    assert elected_mean([0 * first, 0 * second], [1, 1])[0, 0] == 0


def test_a_large_matrix_is_cut_nearly_as_well_as_it_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(3)
    low = generator.standard_normal((300, 5)) @ generator.standard_normal((5, 200))
    delta = (low + 0.3 * generator.standard_normal((300, 200))).astype(np.float32)

    def lost() -> float:
        a, b = truncated(delta, 4, np.random.default_rng(0))
        return float(np.sum((delta - b @ a) ** 2))

    best = lost()
    monkeypatch.setattr(formulas, "EXACT_SIDE", 0)
    assert best <= lost() * (1 + 1e-5)
    assert lost() <= best * 1.001


@settings(max_examples=20)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 12))
def test_any_rank_and_shape_can_be_cut(outputs: int, inputs: int, rank: int) -> None:
    delta = np.random.default_rng(1).standard_normal((outputs, inputs)).astype(np.float32)
    a, b = truncated(delta, rank, np.random.default_rng(0))
    assert (a.shape, b.shape) == ((rank, inputs), (outputs, rank))
    if rank >= min(outputs, inputs):
        np.testing.assert_allclose(b @ a, delta, atol=1e-5)
