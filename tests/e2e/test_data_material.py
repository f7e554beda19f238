"""The data verbs on files as they were found."""

import pytest

from tests.command import Command
from tests.material import material

pytestmark = pytest.mark.material


def test_korean_tables_in_four_encodings_hold_the_same_rows(localtune: Command) -> None:
    folder = material("ko-chatbot")
    columns = "--set=data.columns={prompt: Q, completion: A}"
    rows = {}
    for name in (
        "ChatbotData.csv",
        "ChatbotData-cp949.csv",
        "ChatbotData-utf8bom-1000.csv",
        "ChatbotData-utf16-200.csv",
    ):
        result = localtune("data", "stats", folder / name, columns, "--json")
        assert result.code == 0, result.err
        rows[name] = result.json()
    assert [found["rows"] for found in rows.values()] == [11823, 11823, 1000, 200]
    whole, cp949 = rows["ChatbotData.csv"], rows["ChatbotData-cp949.csv"]
    assert whole["characters"] == cp949["characters"]
    assert whole["scripts"]["Hangul"] > 11000


def test_alpaca_rows_are_checked_with_a_real_tokenizer(localtune: Command) -> None:
    data = material("llamafactory-demos") / "alpaca_en_demo.json"
    result = localtune("data", "check", data, "-m", material("tok-qwen2.5"), "--json")
    value = result.json()
    assert (value["rows"], value["shape"]) == (999, "alpaca")
    assert not {"refused", "template", "unreadable", "unusable"} & {f["code"] for f in value["findings"]}
    assert 0 < value["tokens"]["learned"] < value["tokens"]["total"]


@pytest.mark.parametrize("name", ["csvkit-bad.csv", "csvkit-empty.csv", "parquet-testing-bad-PARQUET-1481.parquet"])
def test_a_dirty_table_ends_with_2_and_a_reason(name: str, localtune: Command) -> None:
    path = material("dirty-tables") / name
    result = localtune("data", "check", path)
    assert result.code == 2
    assert name in result.err
    assert "Traceback" not in result.err
    assert "error[internal]" not in result.err
