"""Work on several cores gives what it gives on one, in order, with few items at a time."""

import threading
from collections.abc import Iterator

import pytest

from localtune.threads import in_order, threads


@pytest.fixture(params=["1", "2", "5"])
def cores(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setenv("OMP_NUM_THREADS", request.param)
    return int(request.param)


@pytest.mark.usefixtures("cores")
def test_results_come_in_the_order_of_the_items() -> None:
    first = threading.Event()

    def slow(item: int) -> int:
        if item == 0:
            first.wait(0.05)
        return item * item

    assert list(in_order(slow, range(50), lambda _: 1, 10)) == [item * item for item in range(50)]


@pytest.mark.parametrize("limit", [1, 10])
def test_no_more_bytes_are_under_way_than_allowed(cores: int, limit: int) -> None:
    read, done = 0, 0

    def items() -> Iterator[int]:
        nonlocal read
        for item in range(60):
            read += 1
            assert (read - done) * 4 <= max(limit, 4) + 4
            yield item

    for _ in in_order(str, items(), lambda _: 4, limit):
        done += 1
    assert done == 60


@pytest.mark.usefixtures("cores")
def test_the_first_error_in_order_is_raised_and_later_work_is_dropped() -> None:
    started: list[int] = []
    found: list[int] = []

    def work(item: int) -> int:
        started.append(item)
        if item in (3, 5):
            raise ValueError(item)
        return item

    with pytest.raises(ValueError, match="3"):
        found.extend(in_order(work, range(1000), lambda _: 1, 4))
    assert found == [0, 1, 2]
    assert len(started) < 100


@pytest.mark.usefixtures("cores")
def test_an_error_of_the_items_is_raised() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        list(in_order(str, items(), lambda _: 1, 4))


@pytest.mark.parametrize(("value", "count"), [("3", 3), ("4,2", 4), ("0", None), ("many", None), ("", None)])
def test_omp_num_threads_decides_where_it_is_a_number(
    monkeypatch: pytest.MonkeyPatch, value: str, count: int | None
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    every = threads()
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert threads() == (count or every)
