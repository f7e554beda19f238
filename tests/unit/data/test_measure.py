"""Rows in numbers."""

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from localtune.data.measure import BINS, measure, spread
from localtune.data.rendering import Rendering
from tests.unit.data.builders import save_tokenizer
from tests.unit.data.check.rows import chat, opened, turns


def test_turns_roles_columns_and_scripts_are_counted(tmp_path: Path) -> None:
    rows = [
        chat("a question in plain words", "yes"),
        chat("주문한 물건이 아직 오지 않았어요", "네", system="S") | {"group": "ko"},
        turns(("user", "no answer")),
    ]
    with Rendering(save_tokenizer(tmp_path), learn="answers", workers=1) as rendering:
        found = measure(opened(tmp_path, rows), rendering)
    assert (found.rows, found.unusable, found.shape) == (2, 1, "messages")
    assert found.columns == {"messages": 3, "group": 1}
    assert found.roles == {"user": 2, "assistant": 2, "system": 1}
    assert (found.turns.total, found.turns.longest) == (5, 3)
    assert found.scripts == {"Latin": 1, "Hangul": 1}
    assert found.tokens is not None
    assert found.learned is not None
    assert found.learned.total == len("yes") + len("네".encode()) + 2


@given(st.lists(st.integers(0, 10_000), max_size=300))
def test_a_histogram_holds_every_row_once(lengths: list[int]) -> None:
    found = spread(np.array(lengths, np.int64))
    assert sum(found.histogram) == len(lengths)
    assert len(found.histogram) in (0, BINS)
    assert found.total == sum(lengths)
    assert found.longest == max(lengths, default=0)
    assert not lengths or found.p5 <= found.p50 <= found.p95 <= found.longest


def test_what_is_longer_than_99_of_100_rows_is_in_the_last_bin() -> None:
    found = spread(np.array([*range(99), 98, 5_000]))
    assert found.histogram[-1] == len([n for n in [*range(99), 98, 5_000] if n >= 98 * (BINS - 1) / BINS])
    assert sum(found.histogram[:12]) == 49
