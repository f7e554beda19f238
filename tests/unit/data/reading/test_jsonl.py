import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localtune.data.reading import find
from localtune.data.reading.jsonl import parse_line
from localtune.data.reading.strict import TOO_MANY, VALUES, Fault, parse, too_many
from localtune.data.rows import BadRows, Place
from localtune.errors import InputError, LocaltuneError, Problem
from tests.unit.data.reading.read import read, values


def test_rows_are_split_at_newline_bytes_only(tmp_path: Path) -> None:
    text = "a\u2028b\u2029c\u0085d\x0be"
    line = json.dumps({"text": text}, ensure_ascii=False).encode()
    assert values(tmp_path / "a.jsonl", line + b"\n" + line) == [{"text": text}] * 2
    as16 = (line + b"\n" + line).decode().encode("utf-16")
    assert values(tmp_path / "b.jsonl", as16) == [{"text": text}] * 2


def test_byte_order_mark_crlf_and_blank_lines_are_accepted(tmp_path: Path) -> None:
    rows, problems, source = read(tmp_path / "a.jsonl", b'\xef\xbb\xbf{"a": 1}\r\n\r\n  \n{"a": 2}')
    assert [(row.place.line, row.value["a"]) for row in rows] == [(1, 1), (4, 2)]
    assert problems == []
    assert source.said() == ("a.jsonl: read as UTF-8 with a byte order mark, because it begins with its mark",)


def test_a_carriage_return_between_two_keys_does_not_split_the_row(tmp_path: Path) -> None:
    assert values(tmp_path / "a.jsonl", b'{"a": 1,\r"b": 2}\r\n{"a": 3}\r\n') == [{"a": 1, "b": 2}, {"a": 3}]


@pytest.mark.parametrize("codec", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_utf16_is_read_and_said(codec: str, tmp_path: Path) -> None:
    text = "".join(json.dumps({"a": f"한국어 {i} 🙂"}, ensure_ascii=False) + "\n" for i in range(20))
    rows, problems, source = read(tmp_path / "a.jsonl", text.encode(codec))
    assert [row.value["a"] for row in rows] == [f"한국어 {i} 🙂" for i in range(20)]
    assert problems == []
    assert codec[:6].upper() in source.said()[0]


def test_half_a_surrogate_pair_in_utf16_is_the_problem_of_its_row(tmp_path: Path) -> None:
    text = '{"a": "x"}\n{"a": "\ud800"}\n{"a": "y"}\n'
    rows, problems, _ = read(tmp_path / "a.jsonl", b"\xff\xfe" + text.encode("utf-16-le", "surrogatepass"))
    assert [row.place.line for row in rows] == [1, 3]
    assert problems[0].where == "a.jsonl:2:8"


def test_the_caret_stands_below_the_error(tmp_path: Path) -> None:
    _, (problem,), _ = read(tmp_path / "a.jsonl", '{"question": "한국어 \t", "answer": }'.encode())
    text, caret = problem.evidence.split("\n")
    assert problem.where == "a.jsonl:1:19"
    assert text.index("\t") == 18
    assert caret == " " * (18 + 3) + "^"


def test_long_lines_are_shortened_around_the_error(tmp_path: Path) -> None:
    _, (problem,), _ = read(tmp_path / "a.jsonl", b'{"a": "' + b"x" * 9999 + b'" "b": 1}')
    text, caret = problem.evidence.split("\n")
    assert len(text) < 100
    assert text[caret.index("^")] == '"'


def test_a_list_in_a_jsonl_file_is_read_as_json_and_said(tmp_path: Path) -> None:
    rows, _, source = read(tmp_path / "a.jsonl", b'[\n{"a": 1},\n{"a": 2}\n]\n')
    assert [row.value for row in rows] == [{"a": 1}, {"a": 2}]
    assert source.said() == ("a.jsonl: holds one list, and is read as JSON",)


def test_rows_are_read_lazily(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"a": 1}\n' * 10 + b"broken\n")
    rows = find("a.jsonl", tmp_path).rows(BadRows("stop"))
    assert next(rows).value == {"a": 1}
    with pytest.raises(InputError, match=r"a\.jsonl:11:1"):
        list(rows)


NEAR_JSON = st.text('{}[]":,0aNI\\u\ud800\x00\n -', max_size=60).map(lambda s: s.encode("utf-8", "surrogatepass"))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200) | NEAR_JSON)
def test_any_bytes_give_rows_or_problems_that_name_the_file(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    for name in ("fuzz.jsonl", "fuzz.json", "fuzz.csv", "fuzz.txt", "fuzz.parquet", "fuzz"):
        try:
            _, problems, _ = read(tmp_path_factory.getbasetemp() / name, content)
        except LocaltuneError as error:
            problems = list(error.problems)
        assert all(problem.where.startswith(name) for problem in problems)


JUNK = st.binary(max_size=40).map(lambda raw: raw.replace(b"\n", b""))
LETTERS = st.characters(codec="utf-8", exclude_characters="\0")
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
OBJECTS = st.dictionaries(st.text(LETTERS, max_size=5), st.text(LETTERS) | st.none() | NUMBERS, max_size=4)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(OBJECTS, JUNK), min_size=1, max_size=6), st.booleans())
def test_valid_rows_among_junk_all_come_back(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[dict[str, object], bytes]], ascii_only: bool
) -> None:
    first = b'{"first": "\xed\x95\x9c"}\n'
    lines = [json.dumps(value, ensure_ascii=ascii_only).encode() + b"\n" + junk for value, junk in pairs]
    rows, _, _ = read(tmp_path_factory.getbasetemp() / "among.jsonl", first + b"\n".join(lines))
    there = {row.place.line: row.value for row in rows}
    assert [there[2 + 2 * i] for i in range(len(pairs))] == [value for value, _ in pairs]


@settings(max_examples=100, deadline=None)
@given(OBJECTS, st.booleans())
def test_a_line_is_read_to_the_value(value: dict[str, object], ascii_only: bool) -> None:
    assert parse_line(json.dumps(value, ensure_ascii=ascii_only).encode(), Place("a", 1)) == value


def test_numbers_keep_their_kind() -> None:
    found = parse_line(b'{"a": 1, "b": 1.0, "c": 1e3, "d": true, "e": 123456789012345678901234567890}', Place("a", 1))
    assert not isinstance(found, Problem)
    assert [type(v) for v in found.values()] == [int, float, float, bool, int]
    assert found["e"] == 123456789012345678901234567890


def test_a_line_longer_than_any_row_ends_the_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("localtune.data.reading.jsonl.LONGEST", 1000)
    with pytest.raises(InputError, match=r"a\.jsonl:2"):
        read(tmp_path / "a.jsonl", b'{"a": 1}\n{"a": "' + b"x" * 2000 + b'"}\n')
    assert len(read(tmp_path / "a.jsonl", b'{"a": "' + b"x" * 900 + b'"}\n')[0]) == 1


def test_a_long_text_full_of_separators_is_one_value(tmp_path: Path) -> None:
    row = {"text": 'f(a, b)["\\"] = {1: [2, {3: 4}]}, ' * 150_000}
    line = json.dumps(row)
    assert len(line) > 5_000_000
    assert sum(map(line.count, ",:[{")) > VALUES
    assert values(tmp_path / "a.jsonl", line.encode()) == [row]
    assert parse(f'{{"text": [{"1," * VALUES} 1]}}') == Fault(TOO_MANY)


def test_a_string_without_an_end_is_looked_through_once() -> None:
    assert not too_many('"' + '\\",' * 1_500_000)  # seconds if once, years if once for each quote
