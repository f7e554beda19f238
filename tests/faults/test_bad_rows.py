"""Rows that cannot be used are explained: file, line, reason, and no traceback, whatever is wrong with them.

Forty files go through `localtune data check` and through what a run reads rows with; what the readers say of bytes
alone is in tests/unit/data/reading/test_malformed.py.
"""

import gzip
import io
import json
import re
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from localtune.cli import main
from localtune.data.prepare import sources
from localtune.data.rows import BadRows
from localtune.data.shapes import examples
from localtune.errors import InputError, Problem
from localtune.settings import DataSettings
from tests.command import MODEL, Command
from tests.goals import Reached


def row(*turns: tuple[str, Any], **more: Any) -> bytes:
    """A conversation as a line."""
    messages = [{"role": role, "content": content} for role, content in turns]
    return json.dumps({"messages": messages} | more).encode() + b"\n"


def line(**values: Any) -> bytes:
    return json.dumps(values, ensure_ascii=False).encode() + b"\n"


def parquet(**columns: Any) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


TALK = row(("user", "a"), ("assistant", "b"))
PAIR = line(prompt="a", completion="b")
PAIRS = b"prompt,completion\n" + b"a,b\n" * 3
CALLED = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}
FILES: dict[str, tuple[bytes, str, str]] = {
    # name: content, ":line" of the fault or "", part of the reason
    "comma.jsonl": (TALK + TALK.replace(b", ", b" ", 1), ":2", "not JSON"),
    "torn.jsonl": (TALK * 3 + TALK[:30], ":4", "not JSON"),
    "nan.jsonl": (PAIR + PAIR.replace(b'"b"', b"NaN"), ":2", "NaN is no JSON number"),
    "digits.jsonl": (PAIR + PAIR.replace(b'"b"', b"9" * 5000), ":2", "5,000 digits"),
    "deep.jsonl": (PAIR + b'{"prompt": ' * 100_000, ":2", "nested too deeply"),
    "levels.jsonl": (PAIR + PAIR.replace(b'"b"', b"[" * 70 + b"]" * 70), ":2", "nested too deeply"),
    "half.jsonl": (PAIR + PAIR.replace(b'"b"', b'"\\ud800"'), ":2", "half a surrogate pair"),
    "nul.jsonl": (PAIR + PAIR.replace(b'"b"', b'"\\u0000"'), ":2", "NUL"),
    "twice.jsonl": (PAIR + PAIR.replace(b"completion", b"prompt"), ":2", "twice"),
    "list.jsonl": (PAIR + b"[1]\n", ":2", "this is a list"),
    "text.jsonl": (PAIR + b'"x"\n', ":2", "this is a string"),
    "byte.jsonl": (line(prompt="é", completion="b") * 9 + PAIR.replace(b'"b"', b'"\xff"'), ":10", "byte 0xff"),
    "utf16.jsonl": (PAIR + b"\xfe\xff" * 9 + b"\n", ":2", "0xfe"),
    "many.jsonl": (PAIR + b'{"prompt": [' + b"[]," * 600_000 + b"1]}\n", ":2", "values in one row"),
    "role.jsonl": (TALK + row(("user", "a"), ("narrator", "b")), ":2", "narrator"),
    "content.jsonl": (TALK + row(("user", {"a": 1}), ("assistant", "b")), ":2", "content"),
    "question.jsonl": (TALK + row(("user", "a")), ":2", "assistant turn"),
    "none.jsonl": (TALK + b'{"messages": []}\n', ":2", "messages"),
    "object.jsonl": (TALK + b'{"messages": {"role": "user"}}\n', ":2", "messages"),
    "turn.jsonl": (TALK + b'{"messages": ["hi", "there"]}\n', ":2", "messages"),
    "roleless.jsonl": (TALK + b'{"messages": [{"content": "a"}, {"content": "b"}]}\n', ":2", "role"),
    "number.jsonl": (TALK + row(("user", 5), ("assistant", "b")), ":2", "5"),
    "blank.jsonl": (TALK + row(("user", "a"), ("assistant", "  ")), ":2", "empty"),
    "unasked.jsonl": (TALK + row(("user", ""), ("assistant", "b")), ":2", "empty"),
    "weight.jsonl": (
        TALK + line(messages=[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": "x"}]),
        ":2",
        "weight",
    ),
    "call.jsonl": (TALK + line(messages=[{"role": "user", "content": "a"}, CALLED]), ":2", "JSON"),
    "tools.jsonl": (TALK + row(("user", "a"), ("assistant", "b"), tools="{"), ":2", "tools"),
    "answer.jsonl": (PAIR + line(prompt="a", completion=None), ":2", "completion"),
    "prompt.jsonl": (PAIR + line(prompt=["a"], completion="b"), ":2", "prompt"),
    "reserved.jsonl": (PAIR + line(completion="b"), ":2", "prompt"),
    "same.jsonl": (line(prompt="a", chosen="b", rejected="c") + line(prompt="a", chosen="b"), ":2", "rejected"),
    "label.jsonl": (
        line(prompt="a", completion="b", label=True) + line(prompt="a", completion="b", label="?"),
        ":2",
        "label",
    ),
    "torn.json": (b"[" + PAIR + b"," + PAIR, ":3", "ends in the middle of the list"),
    "comma.json": (b"[" + PAIR + PAIR + b"]", ":2", "expecting ',' or ']'"),
    "nan.json": (b"[" + PAIR + b"," + PAIR.replace(b'"b"', b"NaN") + b"]", ":2", "NaN"),
    "ragged.csv": (PAIRS + b"a,b,c\n", ":5", "3 cells"),
    "short.csv": (PAIRS + b"a\n", ":5", "1 cell"),
    "quote.csv": (PAIRS + b'"a,b\n', ":5", "never closed"),
    "cell.csv": (PAIRS + b"a,\n", ":5", "completion"),
    "nul.csv": (PAIRS + b"a,\0b\n", ":5", "NUL"),
    "header.csv": (b"prompt,prompt\na,b\n", ":1", "there twice"),
    "nul.txt": (b"one\ntwo\0\n", ":2", "NUL"),
    "null.parquet": (parquet(prompt=["a", None], completion=["b", "c"]), ":2", "prompt"),
    "infinite.parquet": (parquet(prompt=["a", "b"], completion=["b", "c"], n=[1.0, float("inf")]), ":2", "infinity"),
    "torn.parquet": (parquet(prompt=["a"] * 500, completion=["b"] * 500)[:-20], "", "Parquet"),
    "torn.jsonl.gz": (gzip.compress(PAIR * 999, mtime=0)[:-9], "", "ends in the middle"),
    "empty.jsonl": (b"", "", "empty"),
    "keys.jsonl": (line(q="a", w="b") * 3, ":1", "columns"),
}


def told(name: str, folder: Path) -> str:
    """What a run is told of the rows in a file."""
    bad = BadRows("skip")
    try:
        _, found = examples(sources(DataSettings(train=name, valid="none"), folder).train.rows(bad), SETTINGS, bad)
        rows = sum(1 for _ in found)
        bad.check(rows + bad.count, name)
    except InputError as error:
        return str(error)
    return ""


SETTINGS = DataSettings(train="rows")


def checked(name: str, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    """Exit code and output of `localtune data check NAME`, in this process."""
    monkeypatch.setattr(sys, "argv", ["localtune", "data", "check", name])
    out = io.StringIO()
    with redirect_stdout(out), redirect_stderr(out), pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0), out.getvalue()


def explains(text: str, name: str, where: str, reason: str) -> bool:
    """Whether `text` names file, line and reason."""
    place = re.search(rf"{re.escape(name + where)}(?![0-9])", text)
    return place is not None and reason in text and "Traceback" not in text


def test_bad_rows_are_explained_by_file_line_and_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, goal: Reached
) -> None:
    monkeypatch.chdir(tmp_path)
    wrong = []
    for name, (content, where, reason) in FILES.items():
        (tmp_path / name).write_bytes(content)
        said, (code, output) = told(name, tmp_path), checked(name, monkeypatch)
        if not explains(said, name, where, reason):
            wrong.append((name, "run", said))
        if code != 2 or not explains(output, name, where, reason):
            wrong.append((name, "check", f"{code} {output}"))
    goal("rows", f"{len(FILES) - len({name for name, *_ in wrong})}/{len(FILES)} files, by data check and by a run")
    assert wrong == []
    assert len(FILES) >= 40


def test_a_file_without_a_fault_is_not_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.jsonl").write_bytes(TALK * 3)
    assert told("good.jsonl", tmp_path) == ""
    assert checked("good.jsonl", monkeypatch)[0] == 0
    assert not explains("good.jsonl:21 not JSON", "good.jsonl", ":2", "not JSON")


@pytest.mark.parametrize(("good", "stops"), [(98, True), (99, False), (199, False), (198, False)])
def test_more_than_one_bad_row_in_a_hundred_stops(good: int, stops: bool, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(PAIR * good + b"{\n")
    said = told("rows.jsonl", tmp_path)
    assert bool(said) == stops
    assert ("at most 1 % are skipped" in said) == stops


def test_with_stop_the_first_bad_row_ends_it(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(PAIR * 999 + b"{\n")
    bad = BadRows("stop")
    with pytest.raises(InputError, match=r"rows\.jsonl:1000"):
        list(sources(DataSettings(train="rows.jsonl", valid="none"), tmp_path).train.rows(bad))
    bad = BadRows("skip")
    bad.add(Problem("data.json", "x"))
    assert bad.count == 1


@pytest.mark.parametrize("name", ["torn.jsonl", "ragged.csv"])
def test_a_plan_tells_the_same_on_the_command_line(name: str, localtune: Command, tmp_path: Path) -> None:
    content, where, reason = FILES[name]
    (tmp_path / name).write_bytes(content)
    result = localtune("plan", name, "-m", MODEL, cwd=tmp_path)
    assert result.code == 2
    assert explains(result.err, name, where, reason)
