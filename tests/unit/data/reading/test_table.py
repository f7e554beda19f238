import csv
import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.data.reading.read import first_problem, read, values


def test_the_first_record_names_the_columns_and_all_cells_are_text(tmp_path: Path) -> None:
    content = b'a, b ,c\n1,"x, y","say ""hi"""\n\n 2 ,,NA\n'
    rows, problems, _ = read(tmp_path / "a.csv", content)
    assert [row.value for row in rows] == [
        {"a": "1", "b": "x, y", "c": 'say "hi"'},
        {"a": " 2 ", "b": "", "c": "NA"},
    ]
    assert [row.place.line for row in rows] == [2, 4]
    assert problems == []


def test_line_ends_in_quotes_stay_and_a_row_stands_where_it_begins(tmp_path: Path) -> None:
    rows, _, _ = read(tmp_path / "a.csv", b'a,b\r\n"one\r\ntwo\nthree",1\r\nfour,2\r\n')
    assert [(row.place.line, row.value["a"]) for row in rows] == [(2, "one\r\ntwo\nthree"), (5, "four")]


def test_old_mac_line_ends_are_read(tmp_path: Path) -> None:
    rows, _, _ = read(tmp_path / "a.csv", b'a,b\r1,2\r"x\ry",3\r')
    assert [(row.place.line, row.value["a"]) for row in rows] == [(2, "1"), (3, "x\ry")]


@pytest.mark.parametrize(("mark", "word"), [(";", "a semicolon"), ("\t", "a tab"), ("|", "a vertical bar")])
def test_another_delimiter_is_seen_in_the_header_and_said(mark: str, word: str, tmp_path: Path) -> None:
    content = f'question{mark}"an{mark}swer"{mark}c\n1,5{mark}x, y, z, w{mark}3\n'.encode()
    rows, _, source = read(tmp_path / "a.csv", content)
    assert rows[0].value == {"question": "1,5", f"an{mark}swer": "x, y, z, w", "c": "3"}
    assert source.said() == (f"a.csv: cells are separated by {word}",)


def test_tsv_cells_are_separated_by_tabs_and_nothing_is_said(tmp_path: Path) -> None:
    rows, _, source = read(tmp_path / "a.tsv", b"a,b\tc\n1\t2\n")
    assert rows[0].value == {"a,b": "1", "c": "2"}
    assert source.said() == ()


def test_one_column_is_enough(tmp_path: Path) -> None:
    assert values(tmp_path / "a.csv", b"text\nhello\n") == [{"text": "hello"}]


def test_ragged_rows_are_problems_and_the_others_stay(tmp_path: Path) -> None:
    rows, problems, _ = read(tmp_path / "a.csv", b"a,b\n1,2\n1,2,3\n1\n3,4\n")
    assert [row.place.line for row in rows] == [2, 5]
    assert [(p.where, p.what) for p in problems] == [
        ("a.csv:3", "has 3 cells, the header 2 columns"),
        ("a.csv:4", "has 1 cell, the header 2 columns"),
    ]


def test_lines_that_a_misplaced_quote_swallows_are_all_counted(tmp_path: Path) -> None:
    rows, problems, _ = read(tmp_path / "a.csv", b'a,b\n"x,1\ny,2\nz"w,3\nv,4\n')
    assert [row.value for row in rows] == [{"a": "v", "b": "4"}]
    assert [problem.where for problem in problems] == ["a.csv:2", "a.csv:3", "a.csv:4"]


def test_a_quote_that_is_never_closed_ends_the_reading_even_when_bad_rows_are_skipped(tmp_path: Path) -> None:
    problem = first_problem(tmp_path / "a.csv", b"a,b\n" + b"1,2\n" * 1000 + b'"x,2\n3,4\n')
    assert (problem.code, problem.where) == ("data.quote", "a.csv:1002")


def test_a_cell_of_a_megabyte_is_read(tmp_path: Path) -> None:
    assert values(tmp_path / "a.csv", b"a\n" + b"x" * 2**20 + b"\n") == [{"a": "x" * 2**20}]


CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 4),
    st.data(),
    st.sampled_from(["\r\n", "\n", "\r"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_what_a_writer_writes_is_read_back_to_the_cell(
    tmp_path_factory: pytest.TempPathFactory, width: int, data: st.DataObject, end: str, codec: str
) -> None:
    rows = data.draw(st.lists(st.lists(CELLS, min_size=width, max_size=width), min_size=1, max_size=5))
    header = [f"c{i}" for i in range(width)]
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator=end, quoting=csv.QUOTE_ALL).writerows([header, *rows])
    found = values(tmp_path_factory.getbasetemp() / "back.csv", out.getvalue().encode(codec))
    assert found == [dict(zip(header, row, strict=True)) for row in rows]
