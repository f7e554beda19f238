"""Every file of two real collections of dirty tables: what is read, what is said, what is refused."""

from pathlib import Path
from typing import Any

import pytest

from localtune.data.reading import find
from localtune.data.rows import BadRows
from localtune.errors import InputError
from tests.material import material

pytestmark = pytest.mark.material

ABC = {"a": "1", "b": "2", "c": "3"}
READ: dict[str, tuple[int, dict[str, Any], str]] = {
    # rows, what the first or the only one holds, part of what is said
    "csvkit-blanks.csv": (1, {"a": "", "b": "NA", "c": "N/A", "d": "NONE", "e": "NULL", "f": "."}, ""),
    "csvkit-dummy.csv.gz": (1, ABC, ""),
    "csvkit-dummy_col_shuffled_ragged.csv": (1, {"a": "1", "b": "2", "c": "3", "d": "4"}, ""),
    "csvkit-mac_newlines.csv": (2, ABC, ""),
    "csvkit-optional_quote_characters.csv": (1, ABC, ""),
    "csvkit-test_header_newline.csv": (1, {"b": "e", "c": "f"}, ""),
    "csvkit-test_latin1.csv": (2, ABC, "CP1252 (Western Windows"),
    "csvkit-test_utf16_big.csv": (2, ABC, "UTF-16"),
    "csvkit-test_utf16_little.csv": (2, ABC, "UTF-16"),
    "csvkit-test_utf8_bom.csv": (2, {"foo": "1", "bar": "2", "baz": "3"}, "UTF-8 with a byte order mark"),
    "charset-sample-korean.txt": (1, {}, "CP949 (Korean Windows)"),
    "charset-sample-french-1.txt": (1, {}, "CP1252 (Western Windows"),
    "charset-sample-english.bom.txt": (1, {}, "UTF-8 with a byte order mark"),
    "charset-sample-chinese.txt": (1, {}, "BIG5 (traditional Chinese)"),
    "parquet-testing-alltypes_plain.parquet": (8, {"id": 4, "date_string_col": "03/01/09", "string_col": "0"}, ""),
    "parquet-testing-list_columns.parquet": (3, {"int64_list": [1, 2, 3], "utf8_list": ["abc", "efg", "hij"]}, ""),
}
BAD: dict[str, list[tuple[str, str, str]]] = {
    "csvkit-bad.csv": [
        ("data.ragged", ":2", "has 4 cells, the header 3 columns"),
        ("data.ragged", ":3", "has 2 cells, the header 3 columns"),
    ],
    "csvkit-null_byte.csv": [("data.nul", ":2:1", "holds a NUL character")],
    "csvkit-test_empty_columns_long_row.csv": [("data.ragged", ":2", "has 4 cells, the header 3 columns")],
    "csvkit-empty.csv": [("data.empty", "", "the file holds only blanks")],
    "csvkit-no_header_row.csv": [("data.empty", "", "holds one line and no rows")],
    "csvkit-test_empty_columns.csv": [("data.header", ":1", "column 4 of 5 has no name")],
    "parquet-testing-null_list.parquet": [("data.parquet", "", "no column holds text")],
    "parquet-testing-nulls.snappy.parquet": [("data.parquet", "", "no column holds text")],
    "parquet-testing-bad-PARQUET-1481.parquet": [("data.parquet", "", "no sound Parquet file")],
}


def test_every_file_is_in_one_of_the_tables() -> None:
    files = {path.name for path in material("dirty-tables").iterdir()} - {"README.md"}
    assert files == READ.keys() | BAD.keys()


@pytest.mark.parametrize("name", READ)
def test_what_can_be_read_is_read_and_said(name: str) -> None:
    count, holds, said = READ[name]
    source = find(name, material("dirty-tables"))
    rows = list(source.rows(BadRows("stop")))
    assert len(rows) == count
    assert rows[0].value.items() >= holds.items()
    assert len(source.said()) == bool(said)
    assert said in " ".join(source.said())


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_read_gives_file_line_and_reason(name: str) -> None:
    bad = BadRows("skip")
    try:
        list(find(name, material("dirty-tables")).rows(bad))
        problems = bad.first
    except InputError as error:
        problems = list(error.problems)
    assert len(problems) == len(BAD[name])
    for problem, (code, where, what) in zip(problems, BAD[name], strict=True):
        assert (problem.code, problem.where) == (code, f"{name}{where}")
        assert what in problem.what
        assert problem.fix


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("charset-sample-korean.txt", "euc_kr"),
        ("charset-sample-chinese.txt", "big5"),
        ("charset-sample-french-1.txt", "cp1252"),
    ],
)
def test_old_encodings_are_read_to_the_letter(name: str, codec: str) -> None:
    folder = material("dirty-tables")
    (row,) = find(name, folder).rows(BadRows("stop"))
    assert row.value["text"] == (folder / name).read_bytes().decode(codec).replace("\r\n", "\n")


def test_four_encodings_of_one_table_give_the_same_rows() -> None:
    folder = material("ko-chatbot")

    def rows(name: str) -> list[tuple[int, dict[str, Any]]]:
        return [(row.place.line, row.value) for row in find(name, folder).rows(BadRows("stop"))]

    whole = rows("ChatbotData.csv")
    assert len(whole) == 11_823
    assert rows("ChatbotData-cp949.csv") == whole
    assert rows("ChatbotData-utf8bom-1000.csv") == whole[:1000]
    assert rows("ChatbotData-utf16-200.csv") == whole[:200]


def test_the_korean_table_says_how_it_is_read() -> None:
    (said,) = find("ChatbotData-cp949.csv", material("ko-chatbot")).said()
    wanted = "ChatbotData-cp949.csv: read as CP949 (Korean Windows), because it is not UTF-8: byte 0xbd at line 2"
    assert said == wanted


@pytest.mark.parametrize("name", ["chat-shapes", "llamafactory-demos", "cpt-text", "sft-gsm8k", "sft-wikisql"])
def test_every_data_file_of_the_real_collections_is_read_without_a_bad_row(name: str) -> None:
    folder: Path = material(name)
    for path in sorted(folder.iterdir()):
        if path.suffix in (".json", ".jsonl", ".csv", ".txt") and path.name != "dataset_info.json":
            assert sum(1 for _ in find(path.name, folder).rows(BadRows("stop"))) > 0
