import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localtune.data.order import Indices, order, total_updates, update_examples, updates_per_epoch
from localtune.data.split import held_out_count, split


def seen_once(parts: list[Indices], count: int) -> bool:
    return sorted(np.concatenate(parts).tolist()) == list(range(count))


@given(st.integers(1, 300), st.integers(1, 64), st.integers(0, 2**32 - 1), st.integers(0, 3))
def test_every_example_is_seen_once_per_epoch(count: int, batch_size: int, seed: int, epoch: int) -> None:
    per_epoch = updates_per_epoch(count, batch_size)
    first = epoch * per_epoch + 1
    updates = [
        update_examples(k, count=count, batch_size=batch_size, seed=seed) for k in range(first, first + per_epoch)
    ]
    assert {update.epoch for update in updates} == {epoch}
    assert all(1 <= len(update.indices) <= batch_size for update in updates)
    assert seen_once([update.indices for update in updates], count)


def test_dropping_the_tail_or_drawing_with_repeats_would_be_noticed() -> None:
    whole = order(1, 0, 10)
    assert not seen_once([whole[:8]], 10)
    assert not seen_once([np.random.default_rng(1).integers(0, 10, 10)], 10)


def test_order_is_pinned() -> None:
    assert order(42, 0, 8).tolist() == [7, 1, 6, 4, 3, 5, 0, 2]
    assert order(42, 0, 8).dtype == np.int64


def test_seed_and_epoch_change_the_order() -> None:
    orders = {tuple(order(seed, epoch, 50).tolist()) for seed in (1, 2) for epoch in (0, 1)}
    assert len(orders) == 4


def test_changing_what_was_returned_changes_no_later_update() -> None:
    first = update_examples(1, count=5, batch_size=5, seed=3).indices
    expected = first.tolist()
    first[:] = 0
    assert update_examples(1, count=5, batch_size=5, seed=3).indices.tolist() == expected


@given(st.integers(1, 10_000), st.integers(1, 512), st.integers(1, 300))
def test_fractions_of_an_epoch_round_up(count: int, batch_size: int, tenths: int) -> None:
    expected = math.ceil(tenths * updates_per_epoch(count, batch_size) / 10)
    assert total_updates(count, batch_size, epochs=tenths / 10) == expected


def test_rounding_errors_add_no_update() -> None:
    assert 0.07 * 100 > 7
    assert total_updates(100, 1, epochs=0.07) == 7


def test_steps_win_over_epochs() -> None:
    assert total_updates(100, 8, epochs=2.0, steps=5) == 5
    assert total_updates(100, 8, epochs=2.0) == 26


@pytest.mark.parametrize(
    ("rows", "held_out"),
    [(0, 0), (9, 0), (10, 2), (99, 19), (100, 20), (400, 20), (1000, 50), (4000, 200), (10**6, 200)],
)
def test_held_out_rows_follow_the_rule(rows: int, held_out: int) -> None:
    assert held_out_count(rows) == held_out


@given(st.integers(0, 2000), st.integers(0, 2**32 - 1))
def test_a_split_holds_every_row_once(rows: int, seed: int) -> None:
    train, valid = split(rows, seed)
    assert seen_once([train, valid], rows)
    assert len(valid) == held_out_count(rows) <= rows / 5
    assert np.array_equal(valid, split(rows, seed)[1])


def test_the_split_depends_on_the_seed() -> None:
    assert split(1000, 1)[1].tolist() != split(1000, 2)[1].tolist()
