"""Forty-odd malformed files: each gives file, line where there is one, and the reason, and never a traceback."""

import gzip
import io
import os
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from localtune.data.reading import find
from localtune.data.rows import BadRows
from localtune.errors import InputError, LocaltuneError
from tests.typed import words
from tests.unit.data.reading.read import first_problem, read


def parquet(**columns: object) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


GOOD = b'{"a": "x"}\n'
KO = "질문,답\n안녕하세요,반갑습니다\n".encode("cp949")
SOUND = parquet(text=["one", "two"] * 500)
MALFORMED = [
    # name, bytes, code, ":line" or ":line:column" or "", part of the reason
    ("nan.jsonl", GOOD + b'{"a": NaN}', "data.json", ":2:7", "NaN is no JSON number"),
    ("inf.jsonl", GOOD + b'{"a": "-Infinity", "b": -Infinity}', "data.json", ":2:25", "-Infinity is no JSON number"),
    ("overflow.jsonl", GOOD + b'{"a": 1e999}', "data.json", ":2", "larger than a number can be"),
    ("digits.jsonl", GOOD + b'{"a": ' + b"9" * 5000 + b"}", "data.json", ":2:7", "a number with 5,000 digits"),
    ("lists.jsonl", GOOD + b"[" * 100_000, "data.json", ":2", "nested too deeply"),
    ("objects.jsonl", GOOD + b'{"a": ' * 100_000, "data.json", ":2", "nested too deeply"),
    ("surrogate.jsonl", GOOD + b'{"a": "\\ud800"}', "data.json", ":2", "half a surrogate pair"),
    ("surrogate-key.jsonl", GOOD + b'{"\\udc00": ["x"]}', "data.json", ":2", "half a surrogate pair"),
    ("raw-surrogate.jsonl", GOOD * 200 + b'{"a": "\xed\xa0\x80"}', "data.encoding", ":201:8", "not UTF-8: byte 0xed"),
    ("nul.jsonl", GOOD + b'{"a": "\x00"}', "data.json", ":2:8", "control character"),
    ("nul-escape.jsonl", GOOD + b'{"a": "\\u0000"}', "data.json", ":2", "NUL character"),
    ("keys.jsonl", GOOD + b'{"a": 1, "a": 2}', "data.json", ":2", "the key 'a' is there twice"),
    ("deep-keys.jsonl", GOOD + b'{"m": [{"b": 1, "b": 2}]}', "data.json", ":2", "the key 'b' is there twice"),
    ("list.jsonl", GOOD + b"[1, 2]", "data.json", ":2", "this is a list"),
    ("null.jsonl", GOOD + b"null", "data.json", ":2", "this is null"),
    ("torn.jsonl", GOOD + b'{"a": "x', "data.json", ":2:7", "unterminated string"),
    ("bad-byte.jsonl", GOOD * 200 + b'{"a": "\xff"}', "data.encoding", ":201:8", "not UTF-8: byte 0xff"),
    ("korean.jsonl", '{"a": "안녕하세요"}\n'.encode("cp949") * 3, "data.encoding", ":1", "it looks like CP949"),
    ("empty.jsonl", b"", "data.empty", "", "the file is empty"),
    ("mark.jsonl", b"\xef\xbb\xbf", "data.empty", "", "the file is empty"),
    ("blank.jsonl", b"\n\n  \n", "data.empty", "", "holds only blanks"),
    (
        "torn.jsonl.gz",
        gzip.compress(GOOD * 1000, mtime=0)[:-9],
        "data.gzip",
        "",
        "the compressed file ends in the middle",
    ),
    ("wrong.jsonl.gz", gzip.compress(GOOD * 1000, mtime=0)[:-8] + b"12345678", "data.gzip", "", "no sound gzip file"),
    (
        "torn.json",
        b'[{"a": 1},\n{"a": 2}',
        "data.json",
        ":2:9",
        "the file ends in the middle of the list (after row 2)",
    ),
    ("comma.json", b'[{"a": 1}\n{"a": 2}]', "data.json", ":2:1", "expecting ',' or ']' (after row 1)"),
    ("after.json", b'[{"a": 1}]\nmore', "data.json", ":2:1", "text after the end of the list"),
    ("nested.json", b'[\n{"a": ' + b"[" * 100_000, "data.json", ":2:1", "nested too deeply"),
    ("nan.json", b'[{"a": 1},\n{"a": NaN}]', "data.json", ":2:7", "NaN is no JSON number (row 2)"),
    ("keys.json", b'[{"a": 1},\n {"a": 1, "a": 2}]', "data.json", ":2:2", "'a' is there twice (row 2)"),
    ("surrogate.json", b'[{"a": "\\udc00"}]', "data.json", ":1:2", "half a surrogate pair"),
    ("numbers.json", b"[\n1, 2]", "data.json", ":2:1", "this is a number or truth value (row 1)"),
    ("columns.json", b'{"a": ["x"], "b": ["y"]}', "data.json", ":1:8", "holds no objects"),
    ("lists.json", b'{"a": [{"x": 1}], "b": [{"x": 1}]}', "data.json", ":1:24", "two lists, under 'a' and 'b'"),
    ("objects.json", b'{"a": {"x": 1}, "b": {"x": 1}}', "data.json", ":1:7", "an object of objects"),
    ("none.json", b"[]", "data.empty", "", "holds no rows"),
    ("ragged.csv", b"a,b\n1,2\n\n1,2,3\n", "data.ragged", ":4", "has 3 cells, the header 2 columns"),
    ("short.csv", b'a,b\n"1\n2"\n', "data.ragged", ":2", "has 1 cell (lines 2 to 3), the header 2 columns"),
    ("quote.csv", b'a,b\n1,2\n"x,2\n3,4\n', "data.quote", ":3", "a quote opens in this record and is never closed"),
    ("inner.csv", b'a,b\n1,2\n"x"y,2\n', "data.quote", ":3", "quotes are misplaced"),
    ("nul.csv", b"a,b\n1,\x002\n", "data.nul", ":2:3", "NUL character"),
    ("twice.csv", b"a,a\n1,2\n", "data.header", ":1", "'a' is there twice"),
    ("nameless.csv", b"a,,b\n1,2,3\n", "data.header", ":1", "column 2 of 3 has no name"),
    ("header.csv", b"question,answer\n", "data.empty", "", "one line and no rows"),
    ("bad-byte.csv", b"a,b\n" + b"1,2\n" * 200 + b"1,\xff\n", "data.encoding", ":202:3", "not UTF-8: byte 0xff"),
    ("bad-korean.csv", KO * 100 + b"\xb0\x20,1\n", "data.encoding", ":201:1", "not CP949: byte 0xb0"),
    ("junk.csv", bytes(range(128, 256)) * 4, "data.encoding", ":1", "cannot be told"),
    ("nul.txt", b"one\ntwo\x00", "data.nul", ":2:4", "NUL characters"),
    ("bad-byte.txt", b"one\n" * 200 + b"x\xff", "data.encoding", ":201:2", "not UTF-8: byte 0xff"),
    ("blank.txt", b" \n\n", "data.empty", "", "holds only blanks"),
    ("sheet.csv", b"PK\x03\x04\x14\x00", "data.suffix", "", "a ZIP archive or an Excel sheet"),
    ("sheet.xlsx", b"PK\x03\x04\x14\x00", "data.suffix", "", "a ZIP archive or an Excel sheet"),
    ("unknown.bin", b"\x01\x02\x03", "data.suffix", "", "a kind that its name and its first bytes do not tell"),
    ("text.parquet", b"no parquet at all", "data.parquet", "", "no sound Parquet file"),
    ("torn.parquet", SOUND[: len(SOUND) // 2], "data.parquet", "", "no sound Parquet file"),
    ("numbers.parquet", parquet(a=[1, 2], b=[[1.5], [2.5]]), "data.parquet", "", "no column holds text"),
    ("none.parquet", parquet(text=pa.array([], pa.string())), "data.empty", "", "holds no rows"),
    ("infinite.parquet", parquet(text=["x"], n=[float("inf")]), "data.parquet", ":1", "n: infinity is no JSON number"),
    ("nul.parquet", parquet(text=["x", "\x00"]), "data.parquet", ":2", "text: a string holds the NUL character"),
]


@pytest.mark.parametrize(("name", "content", "code", "where", "reason"), MALFORMED, ids=[row[0] for row in MALFORMED])
def test_a_malformed_file_gives_file_line_and_reason(
    name: str, content: bytes, code: str, where: str, reason: str, tmp_path: Path
) -> None:
    problem = first_problem(tmp_path / name, content)
    assert (problem.code, problem.where) == (code, f"{name}{where}")
    assert reason in problem.what
    assert problem.fix
    assert "Traceback" not in str(problem)


def test_there_are_at_least_forty_malformed_files() -> None:
    assert len({row[0] for row in MALFORMED}) == len(MALFORMED) >= 40


def refused(name: str, folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        list(find(name, folder).rows(BadRows("stop")))
    (problem,) = caught.value.problems
    assert problem.where == name
    assert problem.fix
    return problem.code


@pytest.mark.skipif(os.name == "nt", reason="no pipes among the files")
def test_a_missing_file_a_pipe_and_a_device_are_refused_at_once(tmp_path: Path) -> None:
    assert refused("none.jsonl", tmp_path) == "data.missing"
    os.mkfifo(tmp_path / "pipe.jsonl")
    assert refused("pipe.jsonl", tmp_path) == "data.not-a-file"
    (tmp_path / "endless.jsonl").symlink_to("/dev/zero")
    assert refused("endless.jsonl", tmp_path) == "data.not-a-file"
    (tmp_path / "inside.jsonl").symlink_to("nowhere.jsonl")
    assert refused("inside.jsonl", tmp_path) == "data.missing"


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(GOOD)
    (tmp_path / "a.jsonl").chmod(0)
    assert refused("a.jsonl", tmp_path) == "data.unreadable"


@pytest.mark.parametrize(
    ("change", "code"), [("gone", "data.missing"), ("shorter", "data.changed"), ("longer", "data.changed")]
)
@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.txt", "a.parquet"])
def test_a_file_that_is_not_what_was_found_is_refused(name: str, change: str, code: str, tmp_path: Path) -> None:
    content = {"a.jsonl": GOOD * 9, "a.json": b'[{"a": 1}]', "a.csv": b"a\n1\n", "a.txt": b"text", "a.parquet": SOUND}[
        name
    ]
    (tmp_path / name).write_bytes(content)
    source = find(name, tmp_path)
    if change == "gone":
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(content[:-1] if change == "shorter" else content + b"\n")
    for use in (lambda: list(source.rows(BadRows("skip"))), source.fingerprint):
        with pytest.raises(InputError) as caught:
            use()
        assert caught.value.problems[0].code == code


def test_a_file_that_changes_while_it_is_read_is_no_whole_file(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(GOOD * 100_000)
    rows = find("a.jsonl", tmp_path).rows(BadRows("skip"))
    next(rows)
    os.truncate(tmp_path / "a.jsonl", len(GOOD) * 50_000)
    with pytest.raises(InputError, match=r"data\.changed"):
        list(rows)


@pytest.mark.parametrize(
    ("name", "content"), [("a.parquet", SOUND), ("a.jsonl.gz", gzip.compress(GOOD * 300, mtime=0)), ("a.csv", KO * 20)]
)
def test_damaged_files_give_rows_or_our_errors(name: str, content: bytes, tmp_path: Path) -> None:
    rng = random.Random(7)
    for _ in range(60):
        damaged = bytearray(content)
        for _ in range(rng.randint(1, 4)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        try:
            _, problems, _ = read(tmp_path / name, bytes(damaged[: rng.randint(len(damaged) // 2, len(damaged))]))
        except LocaltuneError as error:
            problems = list(error.problems)
        assert all(problem.where.startswith(name) for problem in problems)


def test_names_in_commands_are_quoted_as_a_shell_wants_them(tmp_path: Path) -> None:
    problem = first_problem(tmp_path / "my data.json", b'{"a": [{}], "\'; rm -rf ~; \'": [{}]}')
    command, _, target = problem.fix.partition(" > ")
    assert words(command) == ["jq", "-c", ".[\"'; rm -rf ~; '\"][]", "my data.json"]
    assert target == "x.jsonl"
