"""Parts of the rows: every row in one, groups whole, strata in proportion, the same for the same seed."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localtune.data.partition import By, Size, parse_size, partition
from localtune.errors import InputError

KEYS = st.lists(st.integers(0, 6), min_size=10, max_size=120)
SHARES = st.sampled_from([0.0, 0.05, 0.1, 0.2, 0.3])
WAYS = st.sampled_from(["random", "group", "stratify"])


@given(KEYS, WAYS, SHARES, SHARES, st.integers(0, 2**32 - 1))
def test_every_row_is_in_one_part_and_the_seed_decides(
    keys: list[int], by: By, valid: float, test: float, seed: int
) -> None:
    parts = partition(keys, by, Size(valid), Size(test), seed)
    assert len(parts) == len(keys)
    assert set(parts.tolist()) <= {0, 1, 2}
    assert parts.tolist() == partition(keys, by, Size(valid), Size(test), seed).tolist()


@given(KEYS, SHARES, SHARES, st.integers(0, 1000))
def test_random_parts_have_their_sizes_to_the_row(keys: list[int], valid: float, test: float, seed: int) -> None:
    counts = Counter(partition(keys, "random", Size(valid), Size(test), seed).tolist())
    assert (counts[1], counts[2]) == (round(len(keys) * valid), round(len(keys) * test))


@given(KEYS, SHARES, SHARES, st.integers(0, 1000))
def test_a_group_is_never_on_two_sides(keys: list[int], valid: float, test: float, seed: int) -> None:
    parts = partition(keys, "group", Size(valid), Size(test), seed).tolist()
    for key in set(keys):
        assert len({part for part, other in zip(parts, keys, strict=True) if other == key}) == 1
    assert Counter(parts)[1] <= round(len(keys) * valid)


@given(KEYS, SHARES, SHARES, st.integers(0, 1000))
def test_every_stratum_has_its_share_to_within_one_row(keys: list[int], valid: float, test: float, seed: int) -> None:
    parts = partition(keys, "stratify", Size(valid), Size(test), seed).tolist()
    wanted = {1: round(len(keys) * valid) / len(keys), 2: round(len(keys) * test) / len(keys)}
    for key, size in Counter(keys).items():
        for part, share in wanted.items():
            got = sum(p == part for p, other in zip(parts, keys, strict=True) if other == key)
            assert abs(got - size * share) <= 1


def test_another_seed_gives_other_parts() -> None:
    keys = list(range(100))
    first, second = (partition(keys, "random", Size(0.1), Size(0.1), seed).tolist() for seed in (1, 2))
    assert first != second


def test_sizes_are_shares_or_counts() -> None:
    assert parse_size("5%", "--valid").of(200) == 10
    assert parse_size("7", "--valid").of(200) == 7
    for wrong in ("half", "-3", "100%", "5%%", "1.5"):
        with pytest.raises(InputError):
            parse_size(wrong, "--valid")


def test_parts_that_leave_nothing_to_train_on_are_refused() -> None:
    with pytest.raises(InputError, match="leave nothing of 10"):
        partition(range(10), "random", Size(count=5), Size(count=5), 1)
