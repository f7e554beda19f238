"""Rows that are there twice, prompts with several answers, rows that leak, rows that are nearly the same."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localtune.data.check import near
from localtune.data.check.near import NearIndex, runs_of
from localtune.data.check.same import Keys, leaked, origins, several_answers
from localtune.data.conversations import Pair
from localtune.data.rows import Place
from tests.unit.data.check.rows import by_code, chat, checked, good, opened, sentence

A, B = "the very same question", "the very same answer"


def keys(*pairs: tuple[str, str]) -> Keys:
    """Keys of (prompt, completion)."""
    made = Keys()
    for line, (prompt, completion) in enumerate(pairs, start=1):
        made.add(Pair(Place("rows.jsonl", line), prompt, completion))
    return made


@given(st.lists(st.integers(0, 12), max_size=60))
def test_the_origin_of_a_row_is_the_first_that_equals_it(values: list[int]) -> None:
    found = origins(np.array(values, np.uint64))
    assert found.tolist() == [values.index(value) for value in values]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xyz")), max_size=20))
def test_prompts_with_several_answers_are_those_that_have_several(pairs: list[tuple[str, str]]) -> None:
    answers = {prompt: {b for a, b in pairs if a == prompt} for prompt, _ in pairs}
    count, first = several_answers(keys(*pairs))
    assert count == sum(len(different) > 1 for different in answers.values())
    assert all(pairs[a][0] == pairs[b][0] and pairs[a][1] != pairs[b][1] for a, b in first)


@given(*[st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("xy")), max_size=12)] * 2)
def test_a_row_leaks_if_its_prompt_is_held_out(train: list[tuple[str, str]], valid: list[tuple[str, str]]) -> None:
    found = leaked(keys(*train), keys(*valid))
    for (prompt, _), at in zip(train, found.tolist(), strict=True):
        assert (at >= 0) == (prompt in {other for other, _ in valid})
        assert at < 0 or valid[at][0] == prompt


def test_a_duplicate_names_the_row_it_repeats(tmp_path: Path) -> None:
    finding = by_code(checked(tmp_path, [*good(5), chat(A, B), *good(5, 50), chat(A, B)]))["duplicate"]
    assert (finding.count, finding.first) == (1, ("rows.jsonl:12 = rows.jsonl:6",))


def test_rows_that_differ_in_a_blank_or_a_system_turn_are_no_duplicates(tmp_path: Path) -> None:
    rows = [*good(), chat(A, B), chat(A, B + " "), chat(A, B, system="S")]
    assert "duplicate" not in by_code(checked(tmp_path, rows))


def test_the_same_letters_composed_and_decomposed_are_a_duplicate(tmp_path: Path) -> None:
    assert by_code(checked(tmp_path, [*good(), chat(A, "caf\u00e9"), chat(A, "cafe\u0301")]))["duplicate"].count == 1


def test_one_prompt_with_two_answers_is_a_note_and_with_one_is_none(tmp_path: Path) -> None:
    finding = by_code(checked(tmp_path, [*good(), chat(A, B), chat(A, "quite another answer")]))["same-prompt"]
    assert finding.severity == "note"
    assert finding.first == ("rows.jsonl:21 and rows.jsonl:22",)
    assert "same-prompt" not in by_code(checked(tmp_path, [*good(), chat(A, B), chat(A, B)]))


def test_a_leak_is_an_error_above_one_percent_of_the_held_out_rows(tmp_path: Path) -> None:
    train = [*good(30), chat(A, B), chat(B, A)]
    few = by_code(checked(tmp_path, train, valid=[*good(120, 500), chat(A, "x")]))["leak"]
    many = by_code(checked(tmp_path, train, valid=[*good(120, 500), chat(A, "x"), chat(B, "x")]))["leak"]
    assert (few.severity, many.severity) == ("warning", "error")
    assert many.first == ("valid.jsonl:121 = rows.jsonl:31", "valid.jsonl:122 = rows.jsonl:32")
    assert "leak" not in by_code(checked(tmp_path, train, valid=good(5, 500)))


def test_passages_leak_as_a_whole(tmp_path: Path) -> None:
    train = [{"text": sentence(n)} for n in range(10)]
    valid = [{"text": sentence(3)}, {"text": sentence(99)}]
    assert by_code(checked(tmp_path, train, valid=valid))["leak"].count == 1


def test_a_row_with_a_word_changed_is_nearly_the_same_and_an_equal_one_is_not_counted(tmp_path: Path) -> None:
    text = sentence(7, 80)
    rows = [*good(5), {"messages": chat("Q", text)["messages"]}, chat("Q", text + " indeed"), chat("Q", text)]
    finding = by_code(checked(tmp_path, rows))["near-duplicate"]
    assert finding.first == ("rows.jsonl:7 ~ rows.jsonl:6",)


def test_rows_that_share_a_fifth_of_their_words_are_not_nearly_the_same(tmp_path: Path) -> None:
    common = sentence(7, 20)
    rows = [chat(f"Q{n}", f"{common} {sentence(n, 80)}") for n in range(10, 20)]
    assert "near-duplicate" not in by_code(checked(tmp_path, rows))


def test_rows_that_share_two_thirds_of_their_runs_are_not_nearly_the_same(tmp_path: Path) -> None:
    rows = []
    for n in range(30):
        common = sentence(n, 80)
        rows += [chat("Q", f"{common} {sentence(1000 + n, 20)}"), chat("Q", f"{common} {sentence(2000 + n, 20)}")]
    assert "near-duplicate" not in by_code(checked(tmp_path, rows))


def test_scripts_without_spaces_are_compared_by_characters() -> None:
    text = "注文した商品がまだ届いていませんので確認をお願いします" * 2
    index = NearIndex()
    assert index.resembles(Place("a", 1), text) is None
    assert index.resembles(Place("a", 2), text + "。") == Place("a", 1)
    assert len(runs_of(text)) > 20


def test_near_duplicates_are_looked_for_among_a_bounded_number_of_rows_and_it_is_said(tmp_path: Path) -> None:
    text = sentence(7, 80)
    rows = [chat("Q", text), chat("Q", text + " so"), *good(10), chat("Q", text + " too")]
    finding = by_code(checked(tmp_path, rows, near=5))["near-duplicate"]
    assert finding.count == 1
    assert "of the first 6" in finding.what


def test_without_datasketch_the_check_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near, "MODULE", "no_such_module_as_datasketch")
    result = checked(tmp_path, good())
    finding = by_code(result)["near-duplicate"]
    assert (finding.severity, finding.fix) == ("note", "pip install 'localtune[data]'")
    assert not result.failed


def test_places_of_several_files_are_kept_apart(tmp_path: Path) -> None:
    made = Keys()
    made.add(Pair(Place("a.jsonl", 3, 0), "x", "y"))
    made.add(Pair(Place("b.jsonl", 3, 1), "x", "y"))
    assert [str(made.place(i)) for i in range(2)] == ["a.jsonl:3", "b.jsonl:3"]
    assert len(opened(tmp_path, good(2)).files) == 1
