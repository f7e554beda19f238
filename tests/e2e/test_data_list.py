"""What programs, the terminal app among them, are told of rows and of a plan."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.command import MODEL, QUICKSTART, Command, short

DIRTY = Path(__file__).parents[1] / "tui" / "recorded" / "new" / "dirty.jsonl"


def listed(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


def test_every_row_is_a_line_with_what_becomes_of_it(localtune: Command) -> None:
    result = localtune("data", "list", DIRTY, "-m", MODEL, "--set=data.max_tokens=100", "--json")
    *rows, end = listed(result.out)
    assert result.code == 0
    assert end == {"type": "end", "more": False}
    issues = {row["row"]: row["issue"] for row in rows}
    assert [row["row"] for row in rows] == [str(line) for line in range(1, 9)]
    assert issues["1"] == issues["2"] == issues["8"] == ""
    assert issues["3"] == "duplicate of 1"
    assert "no assistant turn" in issues["4"]
    assert issues["6"] == "cut at 100"
    assert "not JSON" in issues["7"]


def test_the_list_tells_what_rows_say_only_where_it_is_asked_to(localtune: Command) -> None:
    rows = listed(localtune("data", "list", DIRTY, "--json", "--text").out)
    assert rows[1]["text"].splitlines()[-1] == "Go to Orders and press Refund."
    assert all("cancel order 2210" in row["text"] for row in rows[3:5])
    assert "text" not in listed(localtune("data", "list", DIRTY, "--json", "-n", "1").out)[0]


def test_tokens_of_the_list_are_those_of_the_row(localtune: Command) -> None:
    rows = listed(localtune("data", "list", DIRTY, "-m", MODEL, "-n", "2", "--json").out)
    shown = localtune("data", "show", DIRTY, "-m", MODEL, "-n", "2", "--ids", "--json").json()["rows"]
    assert [(row["tokens"], row["learned"], row["place"]) for row in rows[:-1]] == [
        (row["tokens"], row["learned"], row["place"]) for row in shown
    ]
    for segment in (segment for row in shown for segment in row["segments"]):
        assert [token for piece in segment["pieces"] for token in piece["ids"]] == segment["tokens"]
        assert "".join(p["text"] for p in segment["pieces"]) == "".join(t["text"] for t in segment["text"])


def test_a_list_ends_where_it_was_asked_to_and_says_that_there_is_more(localtune: Command) -> None:
    rows = listed(localtune("data", "list", QUICKSTART / "train.jsonl", "-n", "5", "--json").out)
    assert rows[-1] == {"type": "end", "more": True}
    assert [row["tokens"] for row in rows[:-1]] == [None] * 5
    result = localtune("data", "list", QUICKSTART / "train.jsonl", "-n", "5")
    assert len(result.out.splitlines()) == 5
    assert "more rows" in result.err


def test_rows_of_several_files_are_called_by_file_and_line(localtune: Command, tmp_path: Path) -> None:
    line = (QUICKSTART / "train.jsonl").read_text(encoding="utf-8").splitlines()[0] + "\n"
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / name).write_text(line, encoding="utf-8")
    rows = listed(localtune("data", "list", "a.jsonl", "b.jsonl", "--json", cwd=tmp_path).out)
    assert [row["row"] for row in rows[:-1]] == ["a.jsonl:1", "b.jsonl:1"]
    assert rows[1]["issue"] == "duplicate of a.jsonl:1"


@pytest.mark.parametrize(
    ("how", "said"), [("drop", "left out, longer than 100"), ("error", "stops a run, longer than 100")]
)
def test_what_becomes_of_a_long_row_is_what_the_recipe_says(localtune: Command, how: str, said: str) -> None:
    flags = ["--set=data.max_tokens=100", f"--set=data.too_long={how}"]
    rows = listed(localtune("data", "list", DIRTY, "-m", MODEL, *flags, "--json").out)
    assert rows[5]["issue"] == said


def test_a_plan_for_programs_says_what_it_rests_on(localtune: Command, tmp_path: Path) -> None:
    result = localtune("plan", *short(tmp_path), "--no-download", "--json")
    plan = result.json()
    assert result.code == 0
    assert plan["report"]["shape"] == "messages"
    assert plan["model"]["size"] > 0
    assert plan["disk_free"] > plan["disk"]
    assert Path(plan["run"]).parent == localtune.runs
    assert not Path(plan["run"]).exists()


def test_a_plan_that_must_not_download_says_so(localtune: Command, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_bytes((QUICKSTART / "valid.jsonl").read_bytes())
    separate = Command(localtune.runs)  # the hub's library reads its environment once, when it is imported
    result = separate("plan", rows, "-m", "no-such-org/no-such-model", "--no-download", "--json")
    assert result.code == 3
    assert "model.offline" in result.err
