from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.data.reading.read import read, values


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.text"])
def test_a_text_file_is_one_document(name: str, tmp_path: Path) -> None:
    assert values(tmp_path / name, "\ufeffone\r\ntwo\n".encode()) == [{"text": "one\ntwo\n"}]


def test_a_separator_splits_documents_that_stand_where_they_begin(tmp_path: Path) -> None:
    rows, _, source = read(tmp_path / "a.txt", b"one\n---\ntwo\r\ntwo\r\n---\r\n \n---\n\nthree", "\n---\n")
    assert [(row.place.line, row.value["text"]) for row in rows] == [(1, "one"), (3, "two\ntwo"), (9, "\nthree")]
    assert source.said() == ()


def test_a_separator_that_is_not_there_is_said(tmp_path: Path) -> None:
    rows, _, source = read(tmp_path / "a.txt", b"one", "@@")
    assert [row.value for row in rows] == [{"text": "one"}]
    assert source.said() == ("a.txt: the separator '@@' is not in it: it is one document",)


def test_a_bad_document_leaves_the_others(tmp_path: Path) -> None:
    content = b"one|t\nw\x00o|three|fo\xffur|" + b"x\n" * 200
    rows, problems, _ = read(tmp_path / "a.txt", content, "|")
    assert [row.value["text"] for row in rows] == ["one", "three", "x\n" * 200]
    assert [problem.where for problem in problems] == ["a.txt:2:2", "a.txt:2:13"]


@settings(max_examples=200, deadline=None)
@given(st.text("ab\n\r한", max_size=40), st.sampled_from(["a", "ab", "aab", "\n", "b\nb"]), st.integers(1, 9))
def test_nothing_is_lost_but_separators_and_blank_documents(
    tmp_path_factory: pytest.TempPathFactory, text: str, separator: str, window: int
) -> None:
    whole = text.replace("\r\n", "\n")
    wanted = [(piece, i) for i, piece in enumerate(whole.split(separator)) if piece.strip()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("localtune.data.reading.document._CHUNK", window)
        if not wanted:
            return
        rows, _, _ = read(tmp_path_factory.getbasetemp() / "lost.txt", text.encode(), separator)
    assert [row.value["text"] for row in rows] == [piece for piece, _ in wanted]
    pieces = whole.split(separator)
    for row, (piece, i) in zip(rows, wanted, strict=True):
        before = separator.join([*pieces[:i], ""]) + piece[: len(piece) - len(piece.lstrip())]
        assert row.place.line == before.count("\n") + 1
