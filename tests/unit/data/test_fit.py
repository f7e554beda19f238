from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localtune.batch import Segment
from localtune.data.fit import Fitted, TooLong, fit, resolved
from localtune.data.parts import Tokenised
from localtune.errors import Problem
from localtune.settings import Shape
from tests.unit.data.builders import PLACE, segment


def fitted(length: int, learned: int, max_tokens: int, too_long: TooLong) -> Fitted | Problem:
    return fit(Tokenised(PLACE, (segment(length, learned=learned),)), max_tokens, too_long)


@pytest.mark.parametrize("too_long", ["cut", "drop", "error", "split"])
def test_a_row_that_fits_is_left_alone(too_long: TooLong) -> None:
    row = fitted(10, 4, 10, too_long)
    assert isinstance(row, Fitted)
    assert (len(row.row.segments[0].tokens), row.row.segments[0].targets, row.cut) == (10, 4, False)


def test_cut_keeps_the_first_tokens_and_counts() -> None:
    row = fitted(10, 4, 8, "cut")
    assert isinstance(row, Fitted)
    assert row.cut
    assert row.row.segments[0].tokens.tolist() == list(range(1, 9))
    assert row.row.segments[0].targets == 2


def test_a_row_whose_answer_is_cut_away_names_the_numbers() -> None:
    problem = fitted(10, 4, 6, "cut")
    assert isinstance(problem, Problem)
    assert (problem.code, problem.where) == ("data.answer-cut", str(PLACE))
    assert "10 tokens" in problem.what
    assert "behind token 6" in problem.what
    assert problem.fix == "--set data.max_tokens=10 or --set data.too_long=drop"


def test_drop_leaves_the_row_out() -> None:
    row = fitted(10, 4, 8, "drop")
    assert isinstance(row, Fitted)
    assert row.dropped


def test_error_says_what_would_be_needed() -> None:
    problem = fitted(10, 4, 8, "error")
    assert isinstance(problem, Problem)
    assert (problem.code, problem.fix) == ("data.too-long", "--set data.max_tokens=10")


def test_a_single_token_teaches_nothing() -> None:
    problem = fitted(1, 1, 8, "cut")
    assert isinstance(problem, Problem)
    assert problem.code == "data.nothing-to-learn"


@given(st.integers(2, 200), st.integers(8, 64))
def test_split_loses_no_token_and_one_target_per_further_piece(length: int, max_tokens: int) -> None:
    row = fitted(length, length, max_tokens, "split")
    assert isinstance(row, Fitted)
    pieces = row.row.segments
    assert all(len(piece.tokens) <= max_tokens and piece.weights[0] == 0 for piece in pieces)
    tokens = np.concatenate([piece.tokens for piece in pieces]).tolist()
    assert tokens == list(range(1, length + 1))
    assert sum(piece.targets for piece in pieces) == len(tokens) - len(pieces)


def test_segments_of_a_row_are_cut_one_by_one() -> None:
    row = fit(Tokenised(PLACE, (segment(20, learned=2), segment(6, learned=2))), 10, "cut")
    assert isinstance(row, Fitted)
    assert [len(one.tokens) for one in row.row.segments] == [6]


@given(st.lists(st.sampled_from([0.0, 1.0, 0.5]), min_size=2, max_size=120), st.integers(8, 40))
def test_a_split_is_the_text_and_counts_the_firsts_that_are_not_learned(weights: list[float], max_tokens: int) -> None:
    weights = [0.0, 1.0, *weights[2:]]
    one = Segment(np.arange(len(weights), dtype=np.int32), np.array(weights, np.float32), 7)
    row = fit(Tokenised(PLACE, (one,)), max_tokens, "split")
    assert isinstance(row, Fitted)
    count = len(weights)
    starts = {*range(0, count, max_tokens), *([count - 2] if count % max_tokens == 1 else [])}
    learned = {int(t): float(w) for p in row.row.segments for t, w in zip(p.tokens, p.weights, strict=True) if w}
    assert all(learned.get(i) == w for i, w in enumerate(weights) if w and i not in starts)
    assert learned.items() <= dict(enumerate(weights)).items()
    held = sum(len(piece.tokens) for piece in row.row.segments)
    assert held + row.cut_tokens == count
    assert (row.cut, row.cut_targets) == (False, 0)
    assert row.pieces == -(-count // max_tokens) - 1


@given(st.integers(3, 100), st.integers(1, 60), st.integers(8, 64))
def test_a_cut_counts_what_it_takes_away(length: int, learned: int, max_tokens: int) -> None:
    whole = segment(length, learned=min(learned, length - 1))
    row = fit(Tokenised(PLACE, (whole,)), max_tokens, "cut")
    if isinstance(row, Problem):
        assert row.code == "data.answer-cut"
        assert not whole.weights[:max_tokens].any()
        return
    (kept,) = row.row.segments
    assert len(kept.tokens) + row.cut_tokens == length
    assert kept.targets + row.cut_targets == whole.targets
    assert row.cut == (row.cut_tokens > 0) == (length > max_tokens)


def test_a_segment_that_is_lost_whole_is_counted() -> None:
    row = fit(Tokenised(PLACE, (segment(20, learned=2), segment(6, learned=2))), 10, "cut")
    assert isinstance(row, Fitted)
    assert (row.cut_tokens, row.cut_targets) == (20, 2)


def test_of_a_preference_both_answers_must_keep_something() -> None:
    chosen, rejected = segment(20, learned=2), segment(6, learned=2)
    for pair in ((chosen, rejected), (rejected, chosen)):
        problem = fit(Tokenised(PLACE, pair), 10, "cut", together=True)
        assert isinstance(problem, Problem)
        assert (problem.code, problem.fix) == (
            "data.answer-cut", "--set data.max_tokens=20 or --set data.too_long=drop",
        )  # fmt: skip
    whole = fit(Tokenised(PLACE, (chosen, rejected)), 20, "cut", together=True)
    assert isinstance(whole, Fitted)
    assert len(whole.row.segments) == 2


def test_a_row_without_anything_learned_is_a_problem_and_no_crash() -> None:
    silent = Segment(np.ones(5, np.int32), np.zeros(5, np.float32), 1)
    for row in (Tokenised(PLACE, (silent,)), Tokenised(PLACE, (segment(5), silent))):
        problem = fit(row, 8, "cut", together=True)
        assert isinstance(problem, Problem)
        assert problem.code == "data.nothing-to-learn"


@pytest.mark.parametrize("shape", get_args(Shape))
def test_auto_splits_text_and_cuts_all_else(shape: Shape) -> None:
    assert resolved("auto", shape) == ("split" if shape == "text" else "cut")
    assert [resolved(given, shape) for given in get_args(TooLong)] == list(get_args(TooLong))
