import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localtune.batch import Batch, Segment, collate
from localtune.data.packing import micro_batches, pack
from tests.unit.data.builders import segment

LENGTHS = st.lists(st.integers(1, 50), min_size=1, max_size=40)


def by_segment(batches: list[Batch]) -> list[tuple[int, tuple[int, ...], tuple[float, ...]]]:
    """(source, tokens, weights) of every segment, found through the `segments` array alone."""
    found = []
    for batch in batches:
        for b, sources in enumerate(batch.sources):
            for number, source in enumerate(sources, start=1):
                at = batch.segments[b] == number
                found.append((source, tuple(batch.tokens[b, at].tolist()), tuple(batch.weights[b, at].tolist())))
    return sorted(found)


def as_given(segments: list[Segment]) -> list[tuple[int, tuple[int, ...], tuple[float, ...]]]:
    return sorted((s.source, tuple(s.tokens.tolist()), tuple(s.weights.tolist())) for s in segments)


@given(LENGTHS, st.integers(50, 120), st.booleans())
def test_packing_keeps_every_segment_whole_and_in_bounds(lengths: list[int], room: int, packed: bool) -> None:
    segments = [segment(n, i) for i, n in enumerate(lengths)]
    rows = pack(segments, room, packed)
    assert sorted(s.source for row in rows for s in row) == list(range(len(segments)))
    assert all(sum(len(s.tokens) for s in row) <= room for row in rows)
    totals = [sum(len(s.tokens) for s in row) for row in rows]
    assert totals == sorted(totals, reverse=True)
    if packed:
        assert len(rows) <= 11 / 9 * -(-sum(lengths) // room) * 2 + 1


@given(LENGTHS, st.integers(50, 120), st.integers(1, 7), st.booleans())
def test_an_update_is_the_same_however_rows_are_split(lengths: list[int], room: int, rows: int, packed: bool) -> None:
    segments = [segment(n, i, learned=n // 2) for i, n in enumerate(lengths)]
    batches = micro_batches(segments, room, rows, packed)
    assert by_segment(batches) == as_given(segments)
    assert sum(batch.targets for batch in batches) == sum(s.targets for s in segments)
    assert all(batch.tokens.shape[0] <= rows and batch.tokens.shape[1] <= room + 7 for batch in batches)


def test_two_segments_under_one_number_would_be_noticed() -> None:
    segments = [segment(4, 1), segment(3, 2)]
    batch = collate([segments])
    leaky = Batch(batch.tokens, np.minimum(batch.segments, 1), batch.weights, batch.sources)
    assert by_segment([batch]) == as_given(segments)
    assert by_segment([leaky]) != as_given(segments)


@given(LENGTHS, st.integers(1, 64))
def test_padding_is_never_learned(lengths: list[int], multiple: int) -> None:
    segments = [segment(n, i) for i, n in enumerate(lengths)]
    batch = collate([[s] for s in segments], multiple=multiple)
    assert no_target_in_padding(batch)
    assert batch.targets == sum(s.targets for s in segments)
    assert batch.real_tokens == sum(lengths)


def no_target_in_padding(batch: Batch) -> bool:
    return not batch.weights[batch.segments == 0].any()


def test_one_learned_pad_per_row_would_be_noticed() -> None:
    batch = collate([[segment(3)]])
    weights = batch.weights.copy()
    weights[0, 3] = 1.0
    assert not no_target_in_padding(Batch(batch.tokens, batch.segments, weights, batch.sources))


def test_best_fit_fills_the_tightest_row() -> None:
    rows = pack([segment(n, i) for i, n in enumerate([6, 5, 4, 3, 2])], 10, packed=True)
    assert [[len(s.tokens) for s in row] for row in rows] == [[6, 4], [5, 3, 2]]


def test_packing_is_deterministic() -> None:
    segments = [segment(1 + (7 * i) % 30, i) for i in range(200)]
    first, second = ([[s.source for s in row] for row in pack(segments, 64, packed=True)] for _ in range(2))
    assert first == second


def test_a_segment_longer_than_a_row_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        pack([segment(11)], 10, packed=True)
