import json
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localtune.data.reading import find
from localtune.data.rows import BadRows
from localtune.errors import InputError
from tests.unit.data.reading.read import read, values


def test_a_list_of_objects_gives_a_row_each_with_its_number(tmp_path: Path) -> None:
    rows, problems, _ = read(tmp_path / "a.json", b' [ {"a": 1} ,\n\n{"a": [{"b": null}]}\n] \n')
    assert [(row.place.line, row.value) for row in rows] == [(1, {"a": 1}), (2, {"a": [{"b": None}]})]
    assert problems == []


def test_the_one_list_of_an_object_is_read(tmp_path: Path) -> None:
    content = b'{"version": "1.0", "data": [{"a": 1}, {"a": 2}], "license": null}'
    assert values(tmp_path / "a.json", content) == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize("row", [b'{"messages": [{"role": "user"}]}', b'{"prompt": "x",\n "completion": "y"}'])
def test_an_object_that_is_a_row_by_itself_is_one_row_and_said(row: bytes, tmp_path: Path) -> None:
    rows, _, source = read(tmp_path / "a.json", row)
    assert [row.value for row in rows] == [json.loads(row)]
    assert source.said() == ("a.json: holds one object, and is read as one row",)


def test_json_lines_in_a_json_file_are_read_and_said(tmp_path: Path) -> None:
    rows, _, source = read(tmp_path / "a.json", b'{"a": 1}\n{"a": 2}\n')
    assert [(row.place.line, row.value) for row in rows] == [(1, {"a": 1}), (2, {"a": 2})]
    assert source.said() == ("a.json: holds JSON Lines, one object a line, and is read as such",)


def test_a_fault_inside_a_row_leaves_the_other_rows(tmp_path: Path) -> None:
    content = b'[{"a": 1},\n{"a": NaN}, {"a": ' + b"9" * 5000 + b'}, "x",\n{"a": "\\ud800"}, {"a": 6}]'
    rows, problems, _ = read(tmp_path / "a.json", content)
    assert [(row.place.line, row.value) for row in rows] == [(1, {"a": 1}), (6, {"a": 6})]
    assert [problem.where for problem in problems] == ["a.json:2:7", "a.json:2:19", "a.json:2:5022", "a.json:3:1"]


def test_bad_bytes_in_one_row_are_the_problem_of_that_row(tmp_path: Path) -> None:
    content = b"[" + b'{"a": "\xed\x95\x9c"},\n' * 3 + b'{"a": "\xff"},\n{"a": "\xed\x95\x9c"}]'
    rows, problems, _ = read(tmp_path / "a.json", content)
    assert [row.place.line for row in rows] == [1, 2, 3, 5]
    assert [problem.where for problem in problems] == ["a.json:4:8"]


KEYS = st.text(st.characters(codec="ascii", min_codepoint=32))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8", exclude_characters="\0")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.dictionaries(KEYS, VALUES, max_size=3), min_size=1),
    st.sampled_from([None, 2]), st.booleans(), st.integers(1, 40), st.sampled_from(["utf-8", "utf-16"]),
)  # fmt: skip
def test_a_list_is_read_back_whatever_the_size_of_the_window(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[object],
    indent: int | None,
    ascii_only: bool,
    window: int,
    codec: str,
) -> None:
    content = json.dumps(rows, indent=indent, ensure_ascii=ascii_only).encode(codec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("localtune.data.reading.json_list._CHUNK", window)
        assert values(tmp_path_factory.getbasetemp() / "back.json", content) == rows


@pytest.mark.parametrize("window", [1, 3, 17, 1000])
def test_the_place_of_a_fault_does_not_depend_on_the_window(
    window: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("localtune.data.reading.json_list._CHUNK", window)
    content = b'[{"abcdefgh": 1},\n  {"a": "' + "한".encode() * 50 + b'", "n": NaN},\n{"a": tru}]'
    with pytest.raises(Exception, match=r"a\.json:3:7  not JSON: expecting value"):
        read(tmp_path / "a.json", content)
    sound = content.replace(b"tru}", b"true}")
    rows, problems, _ = read(tmp_path / "a.json", sound)
    assert len(rows) == 2
    assert problems[0].where == "a.json:2:68"


@pytest.mark.parametrize("window", [1, 2, 5])
def test_a_number_cut_by_the_window_stays_one_number(
    window: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("localtune.data.reading.json_list._CHUNK", window)
    content = b'{"version": 1234567, "size": -1.25e10, "data": [{"a": 1}, 1234567, {"a": 2}]}'
    rows, problems, _ = read(tmp_path / "a.json", content)
    assert [row.value for row in rows] == [{"a": 1}, {"a": 2}]
    assert [problem.where for problem in problems] == ["a.json:1:59"]


def test_memory_does_not_grow_with_the_file_nor_with_what_follows_a_fault(tmp_path: Path) -> None:
    row = json.dumps({"text": "x" * 1000})
    sound = "[" + ",\n".join([row] * 12_000) + "]"
    for content in (sound, "[{oops}" + sound[1:]):
        (tmp_path / "a.json").write_text(content)
        tracemalloc.start()
        try:
            source = find("a.json", tmp_path)
            assert sum(1 for _ in source.rows(BadRows("skip"))) == 12_000
        except InputError as error:
            assert error.problems[0].where == "a.json:1:3"  # noqa: PT017
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < len(content) * 0.75
