import datetime
import decimal
import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.unit.data.reading.read import first_problem, read, values


def parquet(table: Any, **options: Any) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out, **options)
    return out.getvalue()


def test_lists_structs_and_maps_become_lists_and_objects(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "안녕"}]
    maps = pa.array([[("k", 1)], []], pa.map_(pa.string(), pa.int64()))
    table = pa.table({"messages": [turns, []], "tags": [["x", None], None], "map": maps})
    assert values(tmp_path / "a.parquet", parquet(table)) == [
        {"messages": turns, "tags": ["x", None], "map": {"k": 1}},
        {"messages": [], "tags": None, "map": []},
    ]


def test_times_decimals_and_missing_numbers_are_plain_values(tmp_path: Path) -> None:
    table = pa.table(
        {
            "text": pa.array(["x"]).dictionary_encode(),
            "day": [datetime.date(2026, 11, 21)],
            "at": [datetime.datetime(2026, 11, 21, 13, 5)],
            "price": [decimal.Decimal("1.50")],
            "none": [float("nan")],
            "yes": [True],
        }
    )
    wanted = {"text": "x", "day": "2026-11-21", "at": "2026-11-21T13:05:00", "price": "1.50", "none": None, "yes": True}
    assert values(tmp_path / "a.parquet", parquet(table)) == [wanted]


def test_bytes_are_text_where_they_are_utf8_and_passed_over_and_said_where_not(tmp_path: Path) -> None:
    table = pa.table({"text": ["x"], "name": ["한".encode()], "image": [{"bytes": b"\x89PNG\xff", "path": "a.png"}]})
    rows, _, source = read(tmp_path / "a.parquet", parquet(table))
    assert [row.value for row in rows] == [{"text": "x", "name": "한"}]
    assert source.said() == ("a.parquet: columns passed over, not text: image",)


def test_later_bytes_that_are_no_text_are_the_problem_of_their_row(tmp_path: Path) -> None:
    rows, problems, _ = read(tmp_path / "a.parquet", parquet(pa.table({"text": [b"x"] * 100 + [b"\xff", b"y"]})))
    assert (len(rows), rows[-1].place.line) == (101, 102)
    assert [(p.where, p.what) for p in problems] == [("a.parquet:101", "the bytes in text are not UTF-8")]


def test_a_string_that_is_not_utf8_is_the_problem_of_its_row(tmp_path: Path) -> None:
    column = pa.Array.from_buffers(pa.string(), 3, pa.array([b"a", b"\xff", b"c"], pa.binary()).buffers())
    rows, problems, _ = read(tmp_path / "a.parquet", parquet(pa.table({"text": column})))
    assert [row.place.line for row in rows] == [1, 3]
    assert problems[0].where == "a.parquet:2"
    assert "not UTF-8" in problems[0].what


def test_rows_of_several_groups_and_batches_keep_their_order(tmp_path: Path) -> None:
    table = pa.table({"text": [str(i) for i in range(2000)]})
    found = values(tmp_path / "a.parquet", parquet(table, row_group_size=300, compression="zstd"))
    assert found == [{"text": str(i)} for i in range(2000)]


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array(["x"]), pa.array(["y"])], names=["a", "a"])
    assert first_problem(tmp_path / "a.parquet", parquet(table)).code == "data.header"


def test_a_parquet_file_of_another_name_is_told_by_its_first_bytes(tmp_path: Path) -> None:
    rows, _, source = read(tmp_path / "shard", parquet(pa.table({"text": ["x"]})))
    assert [row.value for row in rows] == [{"text": "x"}]
    assert source.said() == ("shard: read as parquet, by its first bytes",)


@pytest.mark.parametrize("unit", ["ns", "us"])
def test_a_time_that_python_cannot_hold_is_read_or_the_problem_of_its_row(unit: str, tmp_path: Path) -> None:
    table = pa.table({"text": ["x", "y"], "at": pa.array([2**62, 0], pa.timestamp(unit))})
    rows, problems, _ = read(tmp_path / "a.parquet", parquet(table))
    assert len(rows) + len(problems) == 2
    assert rows[-1].value["text"] == "y"
