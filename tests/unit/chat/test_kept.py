"""Rated answers: which can still be rated, and what becomes a row."""

from pathlib import Path

import pytest

from localtune.chat.kept import MOST, Kept, row_of
from localtune.data.conversations import Message
from localtune.errors import InputError

HEARD = [Message("user", "hi")]


def test_without_a_template_a_row_is_prompt_and_completion() -> None:
    assert row_of(HEARD, "ho", template=False) == {"prompt": "hi", "completion": "ho"}


def test_only_the_last_answers_can_be_rated(tmp_path: Path) -> None:
    kept = Kept()
    for number in range(MOST + 1):
        kept.note(number, HEARD, "ho", whole=True)
    with pytest.raises(InputError, match="no such answer"):
        kept.rate(0, tmp_path, good=True, template=True)
    assert kept.rate(1, tmp_path, good=True, template=True) == tmp_path / "good.jsonl"


def test_an_answer_given_again_under_its_id_is_the_one_that_counts(tmp_path: Path) -> None:
    kept = Kept()
    kept.note(1, HEARD, "cut", whole=False)
    kept.note(1, HEARD, "whole", whole=True)
    assert "whole" in kept.rate(1, tmp_path, good=True, template=True).read_text()


def test_what_cannot_be_written_can_be_rated_later(tmp_path: Path) -> None:
    kept, folder = Kept(), tmp_path / "feedback"
    folder.write_text("a file")
    kept.note(1, HEARD, "ho", whole=True)
    with pytest.raises(InputError, match=r"chat\.save"):
        kept.rate(1, folder, good=False, template=True)
    folder.unlink()
    assert kept.rate(1, folder, good=False, template=True).is_file()
