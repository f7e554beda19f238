"""Rows of several sources: exact proportions, no row twice before all were used once."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localtune.data.mix import alternated, chosen, parse_source, quotas
from localtune.errors import InputError

COUNTS = st.lists(st.tuples(st.integers(1, 50), st.floats(0.1, 10)), min_size=1, max_size=4)


@given(COUNTS, st.integers(1, 300))
def test_quotas_add_up_and_keep_the_proportions(sources: list[tuple[int, float]], rows: int) -> None:
    counts, weights = [count for count, _ in sources], [weight for _, weight in sources]
    taken = quotas(counts, weights, rows)
    assert sum(taken) == rows
    assert all(abs(t - rows * w / sum(weights)) < 1 for t, w in zip(taken, weights, strict=True))


@given(COUNTS)
def test_without_a_number_of_rows_no_row_is_needed_twice(sources: list[tuple[int, float]]) -> None:
    counts, weights = [count for count, _ in sources], [weight for _, weight in sources]
    taken = quotas(counts, weights, None)
    assert all(t <= count for t, count in zip(taken, counts, strict=True))


@given(st.integers(1, 40), st.integers(0, 150), st.integers(0, 100))
def test_no_row_is_used_again_before_all_were_used(count: int, quota: int, seed: int) -> None:
    taken = list(chosen(count, quota, seed, 0))
    used = Counter(taken)
    assert len(taken) == quota
    assert max(used.values(), default=0) - min((used[i] for i in range(count)), default=0) <= 1
    assert taken == list(chosen(count, quota, seed, 0))


@given(st.lists(st.integers(0, 30), min_size=1, max_size=4))
def test_every_stretch_has_the_proportions_of_the_whole(taken: list[int]) -> None:
    mixed = list(alternated([iter([number] * quota) for number, quota in enumerate(taken)], taken))
    assert Counter(mixed) == Counter({number: quota for number, quota in enumerate(taken) if quota})
    for end in range(len(mixed)):
        for number, quota in enumerate(taken):
            assert abs(mixed[:end].count(number) - quota * end / sum(taken)) <= len(taken)


def test_a_name_may_end_with_its_weight() -> None:
    assert parse_source("a.jsonl") == ("a.jsonl", 1.0)
    assert parse_source("a.jsonl:0.5") == ("a.jsonl", 0.5)
    assert parse_source("owner/name:config") == ("owner/name:config", 1.0)
    assert parse_source("C:\\rows.jsonl") == ("C:\\rows.jsonl", 1.0)
    for wrong in ("a.jsonl:0", "a.jsonl:-1", "a.jsonl:nan", "a.jsonl:inf"):
        with pytest.raises(InputError):
            parse_source(wrong)
