"""What foreign text may look like on the screen."""

import pytest
from localtune_tui.text import plain, shown, sign_for_sign
from textual.content import Content

from tests.tui.conftest import HOSTILE
from tests.tui.screen_text import assert_clean


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_a_hostile_string_becomes_harmless(number: int) -> None:
    said = shown(HOSTILE[number])
    assert_clean(said)
    assert "\n" not in said
    assert len(said) <= 300


def test_there_are_at_least_200_hostile_strings() -> None:
    assert len(set(HOSTILE)) >= 200


def test_lines_are_kept_where_they_are_wanted_and_nothing_else() -> None:
    assert shown("a\r\nb\nc\td", keep_lines=True) == "a\nb\nc   d"
    assert shown("a\nb") == "a b"


def test_letters_of_the_world_stay_as_they_are() -> None:
    for text in ("Grüße", "漢字かな", "שלום", "مرحبا", "नमस्ते", "🙂", "x²"):
        assert shown(text) == text


def test_long_text_is_cut_before_it_is_read_whole() -> None:
    assert shown("x" * 50_000_000, 10) == "x" * 9 + "…"
    assert shown("\x1b" * 1_000, 10) == "\\x1b\\x1b\\…"


def test_a_pile_of_marks_is_not_drawn_over_other_lines() -> None:
    assert shown("e" + "\u0300" * 50) == "e" + "\u0300" * 4


def test_square_brackets_are_text() -> None:
    assert plain("[bold]x[/bold] [/]") == Content("[bold]x[/bold] [/]")


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_what_is_edited_is_painted_sign_for_sign(number: int) -> None:
    painted = sign_for_sign(HOSTILE[number])
    assert len(painted) == len(HOSTILE[number])
    assert_clean(painted.replace("\n", "\x00"))
    assert sign_for_sign("Grüße 漢字 🙂") == "Grüße 漢字 🙂"
