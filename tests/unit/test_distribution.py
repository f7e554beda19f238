"""Divergence between distributions of which only the likeliest tokens are kept."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localtune.batch import Floats, Ints
from localtune.distribution import TOP, Distributions, agreement, carried, divergence, finite, from_logits, from_tops


def _logits(seed: int, positions: int = 5, vocabulary: int = 40, scale: float = 2.0) -> Floats:
    found: Floats = (np.random.default_rng(seed).normal(size=(positions, vocabulary)) * scale).astype(np.float32)
    return found


def _following(positions: int, vocabulary: int, seed: int = 0) -> Ints:
    return np.random.default_rng(seed).integers(0, vocabulary, positions).astype(np.int32)


def _true(p: Floats, q: Floats) -> Any:
    wide = [x.astype(np.float64) for x in (p, q)]
    a, b = (x - np.log(np.exp(x).sum(axis=1, keepdims=True)) for x in wide)
    return (np.exp(a) * (a - b)).sum(axis=1)


def _both(p: Floats, q: Floats) -> tuple[Distributions, Distributions]:
    following = _following(*p.shape)
    return from_logits(p, following), from_logits(q, following)


def test_divergence_is_exact_where_both_name_the_whole_vocabulary() -> None:
    p, q = _logits(1), _logits(2)
    assert divergence(*_both(p, q)) == pytest.approx(_true(p, q), rel=1e-5)


def test_divergence_of_a_model_from_itself_is_nothing() -> None:
    p = _logits(3, vocabulary=3000)
    assert divergence(*_both(p, p)).max() < 1e-9


@given(st.integers(0, 10_000), st.floats(0.1, 6.0))
def test_divergence_with_a_rest_is_never_above_the_true_one(seed: int, scale: float) -> None:
    p, q = _logits(seed, 2, 900, scale), _logits(seed + 1, 2, 900, scale)
    found = divergence(*_both(p, q))
    assert (found >= 0).all()
    assert (found <= _true(p, q) + 1e-5).all()


def test_a_model_that_is_sure_of_something_else_is_far_away_even_if_the_token_is_in_its_rest() -> None:
    p, q = np.zeros((1, 2000), np.float32), np.zeros((1, 2000), np.float32)
    p[0, 1999], q[0, :200] = 20.0, 10.0
    assert divergence(*_both(p, q))[0] > 5


def test_agreement_counts_the_likeliest_token() -> None:
    p = _logits(4)
    q = p.copy()
    q[2] = -q[2]
    assert agreement(*_both(p, q)).tolist() == [True, True, False, True, True]


def test_two_equally_likely_tokens_count_as_agreement() -> None:
    p = np.array([[1.0, 1.0, 0.0]], np.float32)
    q = np.array([[0.9, 1.0, 0.0]], np.float32)
    assert agreement(*_both(p, q)).all()
    q[0, 2] = 3.0
    assert not agreement(*_both(p, q)).any()


def test_the_token_that_follows_has_its_own_log_probability_also_outside_the_likeliest() -> None:
    logits = _logits(5, 1, 1000)
    least = np.array([int(logits[0].argmin())], np.int32)
    found = from_logits(logits, least)
    assert least[0] not in found.ids
    expected = logits[0, least[0]] - np.log(np.exp(logits[0].astype(np.float64)).sum())
    assert found.following[0] == pytest.approx(expected, abs=1e-4)


def test_tops_from_another_program_equal_those_from_logits() -> None:
    logits = _logits(6, 3, 500)
    following = _following(3, 500, seed=9)
    whole = from_logits(logits, following)
    everything = logits - np.log(np.exp(logits.astype(np.float64)).sum(axis=1, keepdims=True)).astype(np.float32)
    tops = []
    for row, token in zip(everything, following, strict=True):
        ids = np.unique([*np.argsort(-row)[:TOP], token]).astype(np.int32)
        tops.append((ids, row[ids]))
    again = from_tops(tops, following)
    assert again.ids.shape == whole.ids.shape
    assert divergence(whole, again).max() < 1e-6
    assert np.allclose(again.following, whole.following, atol=1e-5)


def test_what_is_not_a_number_is_no_small_divergence() -> None:
    p, q = _both(_logits(1), _logits(1))
    q.logprobs[2, 0] = np.nan
    assert np.isnan(divergence(p, q)[2])
    assert finite(q).tolist() == [True, True, False, True, True]
    q.following[4] = -np.inf
    assert finite(q).tolist() == [True, True, False, True, False]


def _said(following: Floats) -> Distributions:
    return Distributions(np.zeros((len(following), 1), np.int32), following[:, None], following)


def _change(seed: int = 0, positions: int = 512) -> tuple[Floats, Floats, Floats]:
    generator = np.random.default_rng(seed)
    base, change, noise = (generator.normal(size=positions).astype(np.float32) for _ in range(3))
    return base, change, noise


@given(st.integers(0, 1000), st.floats(0.0, 1.0))
def test_the_share_that_is_carried_is_found_in_noise(seed: int, share: float) -> None:
    base, change, noise = _change(seed)
    heard = base + np.float32(share) * change + np.float32(0.2) * noise
    found, error = carried(_said(base + change), _said(base), _said(heard), _said(base))
    assert abs(found - share) < 5 * error
    assert error < 0.02


def test_a_product_that_lost_the_change_carries_nothing_and_one_made_of_another_base_carries_all() -> None:
    base, change, noise = _change()
    other = base + noise
    lost, _ = carried(_said(base + change), _said(base), _said(base), _said(base))
    kept, _ = carried(_said(base + change), _said(base), _said(other + change), _said(other))
    assert (lost, round(kept, 5)) == (0.0, 1.0)


def test_a_change_below_the_noise_is_too_uncertain_to_tell() -> None:
    base, change, noise = _change()
    heard = base + np.float32(1e-3) * change + noise
    _, error = carried(_said(base + np.float32(1e-3) * change), _said(base), _said(heard), _said(base))
    assert error > 1
    assert carried(_said(base), _said(base), _said(heard), _said(base))[1] == np.inf
