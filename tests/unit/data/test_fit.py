import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localtune.data.fit import Fitted, TooLong, fit
from localtune.data.render import Tokenised
from localtune.errors import Problem
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
