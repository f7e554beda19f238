import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localtune.data.rows import BadRows, Place, Row, parse_line, read_rows
from localtune.errors import InputError, LocaltuneError, Problem


def read(path: Path, content: bytes, on_error: str = "stop") -> tuple[list[Row], BadRows]:
    path.write_bytes(content)
    bad = BadRows("skip" if on_error == "skip" else "stop")
    return list(read_rows(path, bad, path.name)), bad


def the_problem(content: bytes, path: Path) -> Problem:
    with pytest.raises(InputError) as caught:
        read(path, content)
    (problem,) = caught.value.problems
    return problem


def test_rows_are_split_at_newline_bytes_only(tmp_path: Path) -> None:
    text = "a\u2028b\u2029c\u0085d\x0be"
    line = json.dumps({"text": text}, ensure_ascii=False).replace("\\u000b", "\\u000b").encode()
    rows, _ = read(tmp_path / "a.jsonl", line + b"\n" + line)
    assert [row.value["text"] for row in rows] == [text, text]


def test_byte_order_mark_crlf_and_blank_lines_are_accepted(tmp_path: Path) -> None:
    rows, _ = read(tmp_path / "a.jsonl", b'\xef\xbb\xbf{"a": 1}\r\n\r\n  \n{"a": 2}')
    assert [(row.place.line, row.value["a"]) for row in rows] == [(1, 1), (4, 2)]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"a": NaN}', "NaN is no JSON number"),
        (b'{"a": -Infinity}', "-Infinity is no JSON number"),
        (b'{"a": ' + b"9" * 5000 + b"}", "digits"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a": ' * 100_000, "nested too deeply"),
        (b'{"a": "\\ud800"}', "surrogate"),
        (b'{"a": ["\\udc00x"]}', "surrogate"),
        (b'{"a": "\x00"}', "control character"),
        (b'{"a": "\\u0000"}', "NUL"),
        (b'\x00\x00{"a": 1}', "expecting value"),
        (b"[1, 2]", "this is a list"),
        (b"null", "this is null"),
        (b"3", "this is a number"),
        (b'{"a": 1, "a": 2}', "the key 'a' is there twice"),
        (b'{"a": "\xff"}', "not UTF-8"),
        (b'{"a": 1', "expecting"),
        (b"\xff\xfe{\x00}\x00", "not UTF-8"),
    ],
)
def test_a_bad_line_is_explained(line: bytes, reason: str, tmp_path: Path) -> None:
    problem = the_problem(b'{"a": 1}\n' + line + b"\n", tmp_path / "a.jsonl")
    assert problem.where.startswith("a.jsonl:2")
    assert reason in problem.what
    assert problem.evidence
    assert problem.fix == "--set data.on_error=skip"


def test_the_caret_stands_below_the_error(tmp_path: Path) -> None:
    problem = the_problem('{"question": "한국어 \t", "answer": }'.encode(), tmp_path / "a.jsonl")
    text, caret = problem.evidence.split("\n")
    assert problem.where == "a.jsonl:1:19"
    assert text.index("\t") == 18
    assert caret == " " * (18 + 3) + "^"


def test_long_lines_are_shortened_around_the_error(tmp_path: Path) -> None:
    problem = the_problem(b'{"a": "' + b"x" * 9999 + b'" "b": 1}', tmp_path / "a.jsonl")
    text, caret = problem.evidence.split("\n")
    assert len(text) < 100
    assert text[caret.index("^")] == '"'


def test_skipped_rows_are_counted_up_to_one_percent(tmp_path: Path) -> None:
    rows, bad = read(tmp_path / "a.jsonl", b'{"a": 1}\n' * 99 + b"oops\n", on_error="skip")
    assert (len(rows), bad.count) == (99, 1)
    bad.check(100, "a.jsonl")
    with pytest.raises(InputError, match=r"1 of 99 rows"):
        bad.check(99, "a.jsonl")


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("a.jsonl", b"", "data.empty"),
        ("a.jsonl", b"\xef\xbb\xbf", "data.empty"),
        ("a.txt", b" \n", "data.empty"),
        ("a.csv", b"a,b\n", "data.suffix"),
        ("a.json", b"[]", "data.suffix"),
        ("a.txt", b"a\x00b", "data.nul"),
        ("a.txt", b"a\n\xff", "data.utf8"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(name: str, content: bytes, code: str, tmp_path: Path) -> None:
    assert the_problem(content, tmp_path / name).code == code


def test_missing_files_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data\.missing"):
        read_rows(tmp_path / "none.jsonl", BadRows("stop"))
    (tmp_path / "train.jsonl").write_text("{}")
    with pytest.raises(InputError, match=r"name a file in it: .*train\.jsonl"):
        read_rows(tmp_path, BadRows("stop"))


def test_a_text_file_is_one_document(tmp_path: Path) -> None:
    rows, _ = read(tmp_path / "a.txt", "\ufeffone\r\ntwo\n".encode())
    assert [row.value for row in rows] == [{"text": "one\ntwo\n"}]


def test_rows_are_read_lazily(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"a": 1}\n' * 10 + b"broken\n")
    rows = read_rows(tmp_path / "a.jsonl", BadRows("stop"))
    assert next(rows).value == {"a": 1}


NEAR_JSON = st.text('{}[]":,0aNI\\u\ud800\x00\n -', max_size=60).map(lambda s: s.encode("utf-8", "surrogatepass"))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200) | NEAR_JSON)
def test_no_bytes_raise_anything_but_our_errors(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.jsonl"
    try:
        rows, bad = read(path, content, on_error="skip")
    except LocaltuneError:
        return
    assert len(rows) + bad.count == sum(
        bool(line.strip()) for line in content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    )


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.text(max_size=5), st.text() | st.integers() | st.none() | st.lists(st.text()), max_size=4))
def test_every_json_object_is_read_back(value: dict[str, object]) -> None:
    clean = "\\u0000" not in json.dumps(value) and not any("\ud800" <= c <= "\udfff" for c in repr(value))
    for ascii_only in (True, False):
        line = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8")
        assert parse_line(line, Place("a", 1)) == value or not clean
