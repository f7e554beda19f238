import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localtune.batch import Batch, Segment, collate
from localtune.data.order import update_examples, updates_per_epoch
from localtune.data.packing import WASTE, WASTE_ALONE, arrange, micro_batches, positions
from localtune.data.parts import Tokenised
from localtune.data.render import Renderer
from localtune.data.tokenizer import Tokenizer
from tests.material import material
from tests.unit.data.builders import conversation, segment

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


def best_fit(lengths: list[int], room: int) -> list[list[int]]:
    """Written plainly: each segment, longest first, into the fullest row that still has room for it."""
    rows: list[list[int]] = []
    for n in sorted(lengths, reverse=True):
        fitting = [row for row in rows if sum(row) + n <= room]
        max(fitting, key=sum).append(n) if fitting else rows.append([n])
    return rows


def padded(totals: list[int], rows: int) -> int:
    """Positions of rows with these tokens, longest first, `rows` a batch."""
    totals = sorted(totals, reverse=True)
    return sum(-(-totals[at] // 8) * 8 * len(totals[at : at + rows]) for at in range(0, len(totals), rows))


@given(LENGTHS, st.integers(50, 120), st.integers(1, 9), st.booleans())
def test_nothing_is_lost_or_split_and_no_row_is_too_long(
    lengths: list[int], room: int, rows: int, packed: bool
) -> None:
    shares = arrange(lengths, room, rows, packed)
    packs = [row for share in shares for row in share]
    assert sorted(i for row in packs for i in row) == list(range(len(lengths)))
    totals = [sum(lengths[i] for i in row) for row in packs]
    assert max(totals) <= room
    assert totals == sorted(totals, reverse=True)
    assert max(map(len, shares)) <= rows
    assert packed or len(packs) == len(lengths)


@given(LENGTHS, st.integers(50, 120), st.integers(1, 9))
def test_there_are_never_more_rows_or_more_padding_than_best_fit_has(lengths: list[int], room: int, rows: int) -> None:
    shares, plain = arrange(lengths, room, rows, packed=True), best_fit(lengths, room)
    assert sum(map(len, shares)) <= len(plain)
    assert positions(shares, lengths) <= padded([sum(row) for row in plain], rows)
    assert positions(arrange(lengths, room, rows, packed=False), lengths) <= padded(lengths, rows)


@given(LENGTHS, st.integers(50, 120), st.integers(1, 9))
def test_rows_of_unequal_length_cost_at_most_the_share_that_is_promised(
    lengths: list[int], room: int, rows: int
) -> None:
    for packed, waste in ((True, WASTE), (False, WASTE_ALONE)):
        shares = arrange(lengths, room, rows, packed)
        alone = [[row] for share in shares for row in share]
        assert positions(shares, lengths) - positions(alone, lengths) <= waste * positions(shares, lengths)


def test_full_batches_of_best_fit_alone_would_break_that_promise() -> None:
    lengths = [400, 300, 300, 200, 200, 150, 120, 100]
    totals = [sum(row) for row in best_fit(lengths, 512)]
    needed = padded(totals, 1)
    assert padded(totals, 4) - needed > 4 * WASTE * padded(totals, 4)
    assert positions(arrange(lengths, 512, 4, packed=True), lengths) < padded(totals, 4)


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
    lengths = [6, 5, 4, 3, 2]
    shares = arrange(lengths, 10, 1, packed=True)
    assert [[lengths[i] for i in row] for (row,) in shares] == [[6, 4], [5, 3, 2]]


def test_rows_share_a_batch_evenly_where_best_fit_fills_the_first() -> None:
    lengths = [40, 30, 30, 20, 20]
    assert [sum(row) for row in best_fit(lengths, 90)] == [90, 50]
    (share,) = arrange(lengths, 90, 2, packed=True)
    assert [sum(lengths[i] for i in row) for row in share] == [70, 70]


def test_without_packing_segments_of_similar_length_share_a_batch() -> None:
    lengths = [8, 80, 16, 72, 8, 80]
    assert arrange(lengths, 100, 2, packed=False) == [[[1], [5]], [[3]], [[2], [0]], [[4]]]
    assert arrange(lengths, 100, 3, packed=False) == [[[1], [5], [3]], [[2], [0], [4]]]


def test_no_segments_are_no_batches() -> None:
    assert micro_batches([], 10, 2, packed=True) == micro_batches([], 10, 2, packed=False) == []


def test_packing_is_deterministic() -> None:
    lengths = [1 + (7 * i) % 30 for i in range(200)]
    assert arrange(lengths, 64, 4, packed=True) == arrange(list(lengths), 64, 4, packed=True)


def test_a_segment_longer_than_a_row_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        micro_batches([segment(11)], 10, 1, packed=True)


def epoch(name: str) -> list[int]:
    """Tokens of 400 real conversations, in the order of the file."""
    if name == "gsm8k":
        lines = (material("sft-gsm8k") / "train-2000.jsonl").read_text("utf-8").splitlines()[:400]
        pairs = [(row["question"], row["answer"]) for row in map(json.loads, lines)]
    else:
        rows = json.loads((material("llamafactory-demos") / "alpaca_en_demo.json").read_text("utf-8"))[:400]
        pairs = [(f"{row['instruction']}\n{row['input']}".strip(), row["output"]) for row in rows]
    examples = [conversation(("user", asked), ("assistant", answer)) for asked, answer in pairs]
    done = Renderer(Tokenizer(material("tok-qwen2.5")), learn="answers").render(examples)
    return [len(one.tokens) for row in done if isinstance(row, Tokenised) for one in row.segments]


@pytest.mark.material
@pytest.mark.parametrize("name", ["gsm8k", "alpaca"])
def test_an_epoch_of_real_rows_has_under_three_percent_padding(name: str) -> None:
    lengths = epoch(name)
    assert len(lengths) == 400
    for max_tokens, batch_size, rows in itertools.product((512, 2048), (8, 32), (1, 2, 4, 8)):
        computed = real = unpacked = 0
        for step in range(updates_per_epoch(400, batch_size)):
            chosen = update_examples(step + 1, count=400, batch_size=batch_size, seed=42).indices
            update = [min(lengths[i], max_tokens) for i in chosen]
            real += sum(update)
            computed += positions(arrange(update, max_tokens, rows, packed=True), update)
            in_order = [[[i] for i in range(at, min(at + rows, len(update)))] for at in range(0, len(update), rows)]
            unpacked += positions(in_order, update)
        assert 1 - real / computed < 0.03, (max_tokens, batch_size, rows)
        assert rows < 4 or 1 - real / unpacked > 0.2  # the control: as they come, one a row
