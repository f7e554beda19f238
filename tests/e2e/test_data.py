"""`localtune data` as a user types it: what is said, what is written, how it ends, and nothing half left behind."""

import json
import signal
import time
from pathlib import Path

import pytest
from rich.cells import cell_len

from localtune.cli.data_options import placed, wrapped
from tests.command import MODEL, QUICKSTART, Command, wait_until

TRAIN = QUICKSTART / "train.jsonl"
KOREAN = [("주문한 물건이 아직 오지 않았어요", "주문 번호를 알려 주세요."), ("환불은 언제 되나요", "사흘 안에 됩니다.")]


def _chats(path: Path, *pairs: tuple[str, str]) -> Path:
    turns = ([{"role": "user", "content": a}, {"role": "assistant", "content": b}] for a, b in pairs)
    path.write_text("".join(json.dumps({"messages": t}, ensure_ascii=False) + "\n" for t in turns), encoding="utf-8")
    return path


def _rows(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def test_the_quickstarts_rows_check_without_an_error(localtune: Command) -> None:
    result = localtune("data", "check", TRAIN, "--valid", QUICKSTART / "valid.jsonl", "-m", MODEL)
    assert result.code == 0, result.out + result.err
    assert "messages, because" in result.out
    assert "checks; nothing found of: " in result.out
    assert "learned (" in result.out


def test_rows_no_run_could_use_end_with_2_and_say_file_and_line(localtune: Command, tmp_path: Path) -> None:
    path = _chats(tmp_path / "rows.jsonl", *KOREAN)
    path.write_bytes(path.read_bytes() + b'{"messages": [\n')
    result = localtune("data", "check", "rows.jsonl", cwd=tmp_path)
    assert result.code == 2
    assert "error    unreadable  1" in result.out
    assert "rows.jsonl:3" in result.out
    assert "Traceback" not in result.out + result.err


def test_on_a_terminal_no_sentence_is_wider_than_it_also_in_korean() -> None:
    long = "물건이 아직 오지 않았어요 " * 40
    assert max(map(cell_len, wrapped(long, "  ", 80))) <= 80
    assert list(wrapped(long.strip(), "  ")) == ["  " + long.strip()], "stdout is no terminal here"


def test_a_place_is_never_split_whatever_the_width() -> None:
    place = "a folder with a long name/" * 4 + "rows.jsonl:3"
    first, *more = placed(place, "what is there " * 5, "    ", 60)
    assert first == "    " + place
    assert max(map(cell_len, more)) <= 60


def test_places_and_commands_are_whole_lines_where_the_output_is_a_file(localtune: Command, tmp_path: Path) -> None:
    folder = tmp_path / ("a rather long name of a folder " * 3).strip()
    folder.mkdir()
    _chats(folder / "rows.jsonl", *KOREAN, KOREAN[0], (" ", "답"))
    out = localtune("data", "check", folder / "rows.jsonl", cwd=tmp_path).out.splitlines()
    command = f"localtune data check '{folder / 'rows.jsonl'}' --fix "
    assert f"  fix: {command}dup -o clean.jsonl" in out
    assert out[-1] == f"mend all of these:  {command}empty,dup -o clean.jsonl"
    assert any(line.endswith("rows.jsonl:1") and "rows.jsonl:3 = " in line for line in out)


def _four_shapes(folder: Path) -> None:
    """Conversations in a folder, each file in a shape of its own."""
    folder.mkdir()
    rows: dict[str, list[dict[str, object]]] = {
        "a": [{"instruction": f"sum {n}", "input": "", "output": f"it is {n}"} for n in range(3)],
        "b": [{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]}] * 2,
        "c": [{"prompt": "up", "completion": "down"}],
        "d": [{"conversations": [{"from": "human", "value": "left"}, {"from": "gpt", "value": "right"}]}],
    }
    for name, values in rows.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(value) + "\n" for value in values))


def test_a_clean_copy_of_files_of_different_shapes_is_messages_and_checks_clean(
    localtune: Command, tmp_path: Path
) -> None:
    _four_shapes(tmp_path / "rows")
    result = localtune("data", "check", "rows", "--fix", "dup", "-o", "clean.jsonl", cwd=tmp_path)
    assert result.code == 0, result.out + result.err
    assert "different shapes, so every row was written as messages" in result.err
    assert [list(row) for row in _rows(tmp_path / "clean.jsonl")] == [["messages"]] * 6
    again = localtune("data", "check", "clean.jsonl", "--json", cwd=tmp_path)
    assert (again.code, again.json()["rows"]) == (0, 6), again.out
    (tmp_path / "rows" / "a.jsonl").rename(tmp_path / "a.jsonl")
    alike = localtune("data", "check", "a.jsonl", "--fix", "dup", "-o", "alike.jsonl", cwd=tmp_path)
    assert "different shapes" not in alike.err
    assert list(_rows(tmp_path / "alike.jsonl")[0]) == ["instruction", "input", "output"]


def test_parts_of_files_of_different_shapes_are_messages(localtune: Command, tmp_path: Path) -> None:
    _four_shapes(tmp_path / "rows")
    result = localtune("data", "split", "rows", "-o", "parts", "--valid", "2", cwd=tmp_path)
    assert (result.code, "every row was written as messages" in result.err) == (0, True), result.err
    parts = [_rows(tmp_path / "parts" / f"{name}.jsonl") for name in ("train", "valid")]
    assert [len(part) for part in parts] == [5, 2]
    assert all(list(row) == ["messages"] for part in parts for row in part)


def test_a_row_is_found_by_the_end_of_its_files_name_and_a_missing_one_tells_the_last(
    localtune: Command, tmp_path: Path
) -> None:
    _four_shapes(tmp_path / "rows")
    show = ("data", "show", "rows", "--row")
    assert "rows/c.jsonl:1" in localtune(*show, "c.jsonl:1", cwd=tmp_path).out
    missing = localtune(*show, "9", cwd=tmp_path).err
    assert "there is no row 9 among 7 rows; the last one is rows/d.jsonl:1" in missing
    assert "the last one is rows/b.jsonl:2" in localtune(*show, "b.jsonl:9", cwd=tmp_path).err
    assert "is none of the files: rows/a.jsonl" in localtune(*show, "e.jsonl:1", cwd=tmp_path).err
    for unfit in ("first", "a.jsonl", ":3", "-1"):
        refused = localtune(*show, unfit, cwd=tmp_path)
        assert (refused.code, "expected a row's number or FILE:LINE" in refused.err) == (2, True), refused.err


def test_a_clean_copy_checks_clean_and_names_what_was_left_out(localtune: Command, tmp_path: Path) -> None:
    path = _chats(tmp_path / "rows.jsonl", *KOREAN, *KOREAN, ("  ", "답"))
    path.write_bytes(path.read_bytes() + b"{\n")
    fix = ("--fix", "bad,dup,empty", "-o", "clean.jsonl")
    assert localtune("data", "check", "rows.jsonl", cwd=tmp_path).code == 2
    assert localtune("data", "check", "rows.jsonl", *fix, cwd=tmp_path).code == 0
    assert len(_rows(tmp_path / "clean.jsonl")) == 2
    reasons = [(row["line"], row["reason"]) for row in _rows(tmp_path / "clean.dropped.jsonl")]
    assert reasons == [(3, "duplicate"), (4, "duplicate"), (5, "empty"), (6, "unreadable")]
    again = localtune("data", "check", "clean.jsonl", cwd=tmp_path)
    assert (again.code, "no findings in" in again.out) == (0, True), again.out
    refused = localtune("data", "check", "rows.jsonl", *fix, cwd=tmp_path)
    assert (refused.code, "data.exists" in refused.err) == (2, True)
    assert localtune("data", "check", "rows.jsonl", *fix, "--force", cwd=tmp_path).code == 0


def test_the_check_speaks_json(localtune: Command, tmp_path: Path) -> None:
    _chats(tmp_path / "rows.jsonl", *KOREAN, KOREAN[0])
    value = localtune("data", "check", "rows.jsonl", "--json", cwd=tmp_path).json()
    assert (value["format"], value["rows"], value["shape"]) == (1, 3, "messages")
    assert [(f["code"], f["count"], f["first"]) for f in value["findings"]] == [
        ("duplicate", 1, ["rows.jsonl:3 = rows.jsonl:1"])
    ]


def test_a_row_is_shown_as_the_model_sees_it_with_what_is_learned_marked(localtune: Command, tmp_path: Path) -> None:
    _chats(tmp_path / "rows.jsonl", *KOREAN)
    shown = localtune("data", "show", "rows.jsonl", "--row", "2", "-m", MODEL, "--mask", cwd=tmp_path)
    assert shown.code == 0, shown.err
    assert "rows.jsonl:2" in shown.out
    assert "▒사흘 안에 됩니다." in shown.out
    assert "환불은 언제 되나요" in shown.out.split("▒")[0]
    plain = localtune("data", "show", "rows.jsonl", "-n", "1", cwd=tmp_path).out
    assert plain.splitlines()[1:] == ["── user", KOREAN[0][0], "── assistant", KOREAN[0][1]]


def test_the_ids_that_are_shown_are_those_of_the_json(localtune: Command, tmp_path: Path) -> None:
    _chats(tmp_path / "rows.jsonl", KOREAN[0])
    asked = ("data", "show", "rows.jsonl", "--row", "1", "-m", MODEL)
    (segment,) = localtune(*asked, "--json", cwd=tmp_path).json()["rows"][0]["segments"]
    listed = [line.split() for line in localtune(*asked, "--ids", cwd=tmp_path).out.splitlines()[1:]]
    assert [int(line[1]) for line in listed] == segment["tokens"]
    assert [float(line[2]) for line in listed] == segment["weights"]
    assert "".join(run["text"] for run in segment["text"]).count(KOREAN[0][1]) == 1


def test_a_row_that_is_not_there_or_cannot_be_read_is_said(localtune: Command, tmp_path: Path) -> None:
    path = _chats(tmp_path / "rows.jsonl", *KOREAN)
    path.write_bytes(b"{\n" + path.read_bytes())
    missing = localtune("data", "show", "rows.jsonl", "--row", "9", cwd=tmp_path)
    broken = localtune("data", "show", "rows.jsonl", "--row", "1", cwd=tmp_path)
    assert (missing.code, "the last one is 3" in missing.err) == (2, True)
    assert (broken.code, "data.json" in broken.err) == (2, True)


def test_parts_are_whole_rows_none_twice_and_the_same_each_time(localtune: Command, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        split = ("split", TRAIN, "-o", folder, "--valid", "10%", "--test", "20", "--seed", "7")
        assert localtune("data", *split, cwd=tmp_path).code == 0
    parts = [
        (tmp_path / "one" / f"{name}.jsonl").read_text("utf-8").splitlines() for name in ("train", "valid", "test")
    ]
    rows = [json.loads(line) for part in parts for line in part]
    original = _rows(TRAIN)
    assert sorted(map(json.dumps, rows)) == sorted(map(json.dumps, original))
    assert [len(part) for part in parts[1:]] == [round(len(original) * 0.1), 20]
    assert (tmp_path / "one" / "valid.jsonl").read_bytes() == (tmp_path / "two" / "valid.jsonl").read_bytes()


def test_no_group_is_on_two_sides(localtune: Command, tmp_path: Path) -> None:
    rows = [{"prompt": f"q{n}", "completion": f"a{n}", "customer": {"id": n % 11}} for n in range(60)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    split = ("split", "rows.jsonl", "-o", "parts", "--by", "group", "--key", "customer", "--valid", "20%")
    assert localtune("data", *split, cwd=tmp_path).code == 0
    train, valid = (_rows(tmp_path / "parts" / f"{name}.jsonl") for name in ("train", "valid"))
    assert len(train) + len(valid) == 60
    assert valid
    assert not {str(row["customer"]) for row in train} & {str(row["customer"]) for row in valid}


def test_rows_that_leak_are_taken_out_with_the_command_that_was_said(localtune: Command, tmp_path: Path) -> None:
    _chats(tmp_path / "rows.jsonl", *KOREAN)
    _chats(tmp_path / "valid.jsonl", KOREAN[1])
    value = localtune("data", "check", "rows.jsonl", "--valid", "valid.jsonl", "--json", cwd=tmp_path).json()
    (leak,) = value["findings"]
    assert leak["severity"] == "error"
    command = leak["fix"].split()
    assert " ".join(command) == "localtune data check rows.jsonl --valid valid.jsonl --fix leak -o clean.jsonl"
    assert localtune(*command[1:], cwd=tmp_path).code == 0
    assert len(_rows(tmp_path / "clean.jsonl")) == 1


def test_a_recipe_stands_for_its_data_its_settings_and_its_model(localtune: Command, tmp_path: Path) -> None:
    folder = tmp_path / "recipes"
    folder.mkdir()
    (folder / "rows.jsonl").write_text('{"Q": "1 + 1?", "A": "2"}\n{"Q": "2 + 2?", "A": "4"}\n')
    (folder / "held.jsonl").write_text('{"Q": "2 + 2?", "A": "four"}\n')
    data = "{train: rows.jsonl, valid: held.jsonl, columns: {prompt: Q, completion: A}}"
    (folder / "recipe.yaml").write_text(f"model: {MODEL.as_posix()}\ndata: {data}\n")
    value = localtune("data", "check", "recipes/recipe.yaml", "--json", cwd=tmp_path).json()
    assert (value["rows"], value["held_out"]) == (2, {"validation": 1})
    assert [finding["code"] for finding in value["findings"]] == ["leak"]
    assert value["tokens"]["total"] > 0


def test_a_key_that_no_row_has_is_refused_with_the_columns(localtune: Command, tmp_path: Path) -> None:
    result = localtune("data", "split", TRAIN, "-o", "parts", "--by", "group", "--key", "customer", cwd=tmp_path)
    assert result.code == 2
    assert "no row has the column customer; they have messages" in result.err
    assert not (tmp_path / "parts").exists()


def test_sources_are_mixed_by_weight_and_different_shapes_become_messages(localtune: Command, tmp_path: Path) -> None:
    _chats(tmp_path / "own.jsonl", *KOREAN)
    pairs = [{"prompt": f"question {n}", "completion": f"answer {n}"} for n in range(30)]
    (tmp_path / "general.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))
    mix = ("mix", "own.jsonl:3", "general.jsonl:1", "-o", "mixed.jsonl", "--rows", "12")
    result = localtune("data", *mix, cwd=tmp_path)
    assert result.code == 0, result.err
    said = [json.dumps(row, ensure_ascii=False) for row in _rows(tmp_path / "mixed.jsonl")]
    assert sum("question" in line for line in said) == 3
    assert len(set(said)) == 2 + 3
    assert localtune("data", "check", "mixed.jsonl", cwd=tmp_path).code == 0
    (tmp_path / "text.jsonl").write_text('{"text": "x"}\n')
    assert "one file has one shape" in localtune("data", "mix", "own.jsonl", "text.jsonl", "-o", "m", cwd=tmp_path).err


def test_a_failed_conversion_leaves_nothing(localtune: Command, tmp_path: Path) -> None:
    (tmp_path / "text.jsonl").write_text('{"text": "only text"}\n')
    result = localtune("data", "convert", "text.jsonl", "--to", "messages", "-o", "out.jsonl", cwd=tmp_path)
    assert result.code == 2
    assert "text.jsonl:1" in result.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs", "text.jsonl"]


def test_ctrl_c_ends_with_130_and_leaves_no_half_file(localtune: Command, tmp_path: Path) -> None:
    row = TRAIN.read_bytes()
    (tmp_path / "big.jsonl").write_bytes(row * (40_000_000 // len(row)))
    child = localtune.start("data", "convert", "big.jsonl", "--to", "text", "-o", "out.jsonl", cwd=tmp_path)
    wait_until(lambda: any(tmp_path.glob("out.jsonl.*")))
    time.sleep(0.1)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130, err
    assert "Traceback" not in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["big.jsonl", "runs"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("check", "nothing.jsonl"), "nothing.jsonl"),
        (("check", "rows.jsonl", "--fix", "dup"), "-o OUT"),
        (("check", "rows.jsonl", "--fix", "everything", "-o", "x.jsonl"), "known: bad, empty, leak, dup, near, nfc"),
        (("check", "rows.jsonl", "--fix", "leak", "-o", "x.jsonl"), "--valid NAME"),
        (("check", "rows.jsonl", "--set", "data.colums={}"), "data.colums"),
        (("show", "rows.jsonl", "--mask"), "-m MODEL --mask"),
        (("split", "rows.jsonl", "-o", "parts", "--valid", "most"), "expected a share or a count"),
        (("mix", "rows.jsonl:0", "-o", "x.jsonl"), "expected a number above 0"),
    ],
)
def test_a_command_line_that_cannot_work_says_what_does(
    arguments: tuple[str, ...], said: str, localtune: Command, tmp_path: Path
) -> None:
    _chats(tmp_path / "rows.jsonl", *KOREAN)
    result = localtune("data", *arguments, cwd=tmp_path)
    assert result.code == 2, result.err
    assert said in result.err
    assert "Traceback" not in result.err
