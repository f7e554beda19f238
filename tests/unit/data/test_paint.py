from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localtune.batch import Segment
from localtune.data.paint import paint
from localtune.data.tokenizer import Tokenizer
from tests.unit.data.builders import TALK, byte_level, conversation, save_tokenizer, segments, sentencepiece


@pytest.fixture(scope="module", params=["bytes", "prepend", "first", "always"])
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    raw = byte_level([("a", "b")]) if request.param == "bytes" else sentencepiece(request.param)
    return save_tokenizer(tmp_path_factory.mktemp("paint"), raw)


def whole(tokenizer: Tokenizer, one: Segment) -> str:
    return tokenizer.decode(one.tokens.tolist(), skip_special=False)


def test_learned_pieces_are_what_is_learned(tmp_path: Path) -> None:
    tokenizer = save_tokenizer(tmp_path)
    (one,) = segments(tokenizer, TALK)
    pieces = paint(tokenizer, one)
    assert "".join(piece.text for piece in pieces if piece.weight) == "one<|im_end|>two <|im_end|>"
    assert [token for piece in pieces for token in piece.ids] == one.tokens.tolist()


def test_a_character_of_several_tokens_is_one_piece(tmp_path: Path) -> None:
    tokenizer = save_tokenizer(tmp_path)
    (one,) = segments(tokenizer, conversation(("user", "a"), ("assistant", "한😀")))
    learned = [piece for piece in paint(tokenizer, one) if piece.weight]
    assert [(piece.text, len(piece.ids)) for piece in learned] == [("한", 3), ("😀", 4), ("<|im_end|>", 1)]


@settings(max_examples=100, deadline=None)
@given(text=st.text(st.sampled_from("ab \n한é😀\ufffd<|") | st.characters(exclude_categories=["Cs"]), min_size=1))
def test_pieces_joined_are_the_text(tokenizer: Tokenizer, text: str) -> None:
    ids = np.array(tokenizer.encode(text, special=False), np.int32)
    one = Segment(ids, np.arange(len(ids), dtype=np.float32), 1)
    pieces = paint(tokenizer, one)
    assert "".join(piece.text for piece in pieces) == whole(tokenizer, one)
    assert [token for piece in pieces for token in piece.ids] == ids.tolist()
    assert all(piece.weight in one.weights for piece in pieces)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 259), min_size=1, max_size=80))
def test_broken_bytes_are_pieces_too(tokenizer: Tokenizer, ids: list[int]) -> None:
    one = Segment(np.array(ids, np.int32), np.ones(len(ids), np.float32), 1)
    assert "".join(piece.text for piece in paint(tokenizer, one)) == whole(tokenizer, one)
