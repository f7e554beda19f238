"""Errors are one screen of safe text, and nothing from data or models can drive the terminal."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localtune.errors import Problem, escaped, safe


def test_a_problem_reads_what_where_and_how_to_mend_it() -> None:
    problem = Problem("data.json", "not valid JSON", "rows.jsonl:3:7", '3 | {"a" 1}', "correct the line")
    assert str(problem).splitlines() == [
        "error[data.json]: rows.jsonl:3:7  not valid JSON",
        '  3 | {"a" 1}',
        "  fix: correct the line",
    ]


@pytest.mark.parametrize("text", ["\x1b[2J", "\x9b31m", "a\rb", "\u202egnp.exe", "\ufeff", "\x07", "\ud800"])
def test_what_drives_a_terminal_is_shown_as_an_escape(text: str) -> None:
    shown = safe(text)
    assert "\\" in shown
    assert all(character.isprintable() for character in shown)


@given(st.text(st.characters(codec=None)))
def test_no_text_at_all_gets_a_control_character_through(text: str) -> None:
    shown = str(Problem("x", text, text, text, text))
    assert not [c for c in shown if c != "\n" and c != "\t" and (ord(c) < 32 or 127 <= ord(c) < 160)]
    shown.encode("utf-8")


def test_ordinary_text_of_any_script_is_left_alone() -> None:
    for text in ("naïve café", "모델을 학습", "日本語", "emoji 🙂", "tab\tand [brackets]"):
        assert safe(text) == text


def test_what_is_to_be_kept_is_shown_as_it_is_and_nothing_else_is() -> None:
    persian, rocket = "می\u200cخواهم", "👩\u200d🚀"
    assert escaped(persian + rocket, keep="\u200c\u200d") == persian + rocket
    assert "\\u200c" in safe(persian)
    assert escaped("\u200b\x1b", keep="\u200c\u200d") == "\\u200b\\x1b"


def test_long_text_is_cut_with_a_mark() -> None:
    assert safe("a" * 5000, limit=10) == "a" * 9 + "…"
