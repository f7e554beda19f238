"""Work spread over the processor's cores, its results in the order of what it was given and few of them at a time."""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Given = TypeVar("Given")
Made = TypeVar("Made")


def threads() -> int:
    """How many threads compute: `OMP_NUM_THREADS` where it is a number above 0, else every core."""
    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return int(asked) if asked.isdecimal() and int(asked) > 0 else os.cpu_count() or 1


def in_order(
    work: Callable[[Given], Made],
    items: Iterable[Given],
    size: Callable[[Given], int] | None = None,
    limit: int | None = None,
) -> Generator[Made, None, None]:
    """`work` of every item, in their order; `items` is advanced here, in the caller's thread.

    Items under way have `limit` bytes together at most, by `size`, or are one; without `size` they are one more than
    there are threads. What `work` or `items` raises is raised in its place, and what is under way is waited for.
    """
    count = threads()
    if count == 1:
        yield from map(work, items)
        return
    most = limit if limit is not None else count + 1
    pending: deque[tuple[Future[Made], int]] = deque()
    held = 0
    with ThreadPoolExecutor(count) as pool:
        try:
            for item in items:
                pending.append((pool.submit(work, item), size(item) if size else 1))
                held += pending[-1][1]
                while pending and (held > most or len(pending) > 4 * count):
                    future, bytes_of = pending.popleft()
                    held -= bytes_of
                    yield future.result()
            while pending:
                yield pending.popleft()[0].result()
        finally:
            for future, _ in pending:
                future.cancel()
