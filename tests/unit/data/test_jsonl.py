"""A JSONL file is there whole or not at all."""

import json
from pathlib import Path

import pytest

from localtune.data.jsonl import line_of, new_jsonl
from localtune.errors import InputError


def test_rows_are_written_as_they_are_one_a_line(tmp_path: Path) -> None:
    path = tmp_path / "new" / "rows.jsonl"
    rows = [{"b": "한국어 \u2028 \n", "a": [1, None]}, {}]
    with new_jsonl(path) as write:
        for row in rows:
            write(row)
        assert not path.exists()
    assert [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]] == rows
    assert "한국어".encode() in path.read_bytes()


def test_an_interruption_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("old")

    def interrupted() -> None:
        with new_jsonl(path, force=True) as write:
            write({"a": 1})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_is_overwritten_unless_it_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("old")
    with pytest.raises(InputError, match="is there already"), new_jsonl(path):
        pass
    with new_jsonl(path, force=True) as write:
        write({"a": 1})
    assert path.read_text() == '{"a": 1}\n'
    with pytest.raises(InputError, match="is a folder"), new_jsonl(tmp_path, force=True):
        pass


def test_half_a_surrogate_pair_becomes_an_escape() -> None:
    assert json.loads(line_of({"a": "\ud800"})) == {"a": "\ud800"}
