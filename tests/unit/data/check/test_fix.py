"""A clean copy: what was to be mended is gone, what is kept is untouched, what was left out is named."""

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from localtune.data.check import check, held_out_part
from localtune.data.check.fix import KINDS, Kind, normalised, write_clean
from localtune.data.opened import open_data
from localtune.settings import DataSettings
from tests.unit.data.check.rows import Rows, by_code, chat, checked, good, opened, sentence, turns

CODES: dict[Kind, set[str]] = {
    "bad": {"unreadable", "unusable", "mixed"},
    "empty": {"empty", "no-target"},
    "leak": {"leak"},
    "dup": {"duplicate"},
    "near": {"near-duplicate"},
    "nfc": {"not-nfc"},
}
LONG = sentence(7, 60)
DECOMPOSED = unicodedata.normalize("NFD", "한국어 대화 데이터")
VALID = [chat("held out", "one"), *good(3, 900)]
KOREAN = " ".join(f"주문{n} 번호{n} 확인{n}" for n in range(20))
DIRTY: list[dict[str, Any]] = [
    *good(5),
    turns(("system", "S"), ("assistant", "an answer to nobody")),
    chat("twice", "said"),
    chat("twice", "said"),
    chat("  ", "an answer to nothing"),
    turns(("user", "a question to nobody")),
    chat("held out", "another answer"),
    chat("near", LONG),
    chat("near", LONG + " again"),
    chat("한국어", DECOMPOSED),
    chat("한국어", unicodedata.normalize("NFC", DECOMPOSED)),
    chat("긴 글", KOREAN),
    chat("긴 글", unicodedata.normalize("NFD", KOREAN + " 끝")),
    turns(("wizard", "hocus pocus"), ("assistant", "fidibus")),
    {"text": "of another shape"},
]


def fixed(folder: Path, rows: Rows, kinds: frozenset[Kind], valid: Rows = VALID) -> tuple[Rows, Rows]:
    """Kept rows, and what is said of the others."""
    train = opened(folder, rows)
    held_out = {"validation": held_out_part("validation", opened(folder, valid, "valid.jsonl"))}
    kept: list[dict[str, Any]] = []
    dropped: list[dict[str, Any]] = []
    keys = check(train, held_out, near=50).keys
    parts = {"validation": held_out["validation"].keys}
    result = write_clean(train, kinds, keys, parts, kept.append, dropped.append, near=50)
    assert (result.kept, sum(result.dropped.values())) == (len(kept), len(dropped))
    return kept, dropped


@pytest.mark.parametrize("kind", KINDS)
def test_the_copy_is_free_of_what_was_to_be_mended_and_the_original_is_not(kind: Kind, tmp_path: Path) -> None:
    before = set(by_code(checked(tmp_path, DIRTY, valid=VALID)))
    assert before & CODES[kind]
    kept, _ = fixed(tmp_path, DIRTY, frozenset([kind]))
    after = set(by_code(checked(tmp_path, kept, valid=VALID)))
    assert not after & CODES[kind]
    assert before - after <= CODES[kind] | {"role-order", "unanswered", "scripts", "same-prompt", "near-duplicate"}


def test_a_copy_with_everything_mended_has_nothing_of_it_left(tmp_path: Path) -> None:
    kept, dropped = fixed(tmp_path, DIRTY, frozenset(KINDS))
    assert not set(by_code(checked(tmp_path, kept, valid=VALID))) & set().union(*CODES.values())
    assert len(kept) + len(dropped) == len(DIRTY)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    picks=st.lists(st.integers(0, len(DIRTY) - 1), min_size=1, max_size=40),
    kinds=st.sets(st.sampled_from(KINDS), min_size=1),
)
def test_any_rows_with_any_fixes_are_free_of_these_faults_and_kept_rows_are_as_they_were(
    picks: list[int], kinds: set[Kind], tmp_path: Path
) -> None:
    rows = [good(1)[0], *(DIRTY[pick] for pick in picks)]
    kept, dropped = fixed(tmp_path, rows, frozenset(kinds))
    assert len(kept) + len(dropped) == len(rows)
    wanted = [normalised(row) for row in rows] if "nfc" in kinds else rows
    remaining = iter(json.dumps(row) for row in wanted)
    assert all(json.dumps(row) in remaining for row in kept), "kept rows are a subsequence of the rows"
    if kept and "messages" in kept[0]:
        after = set(by_code(checked(tmp_path, kept, valid=VALID, near=50)))
        assert not after & set().union(*(CODES[kind] for kind in kinds))


def test_what_is_left_out_is_named_with_file_line_reason_and_what_it_repeats(tmp_path: Path) -> None:
    _, dropped = fixed(tmp_path, DIRTY, frozenset(["dup", "leak", "near"]))
    named = [(row["line"], row["reason"], row["why"]) for row in dropped]
    assert named == [
        (8, "duplicate", "the same as rows.jsonl:7"),
        (11, "leak", "the validation row valid.jsonl:1 asks or says the same"),
        (13, "near-duplicate", "nearly the same as rows.jsonl:12"),
        (15, "duplicate", "the same as rows.jsonl:14"),
    ]
    assert all(row["file"] == "rows.jsonl" and row["row"] == DIRTY[row["line"] - 1] for row in dropped)


def test_a_row_that_cannot_be_read_is_always_left_out_and_named_with_its_text(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps(good(1)[0]) + '\n{"messages": [\n' + json.dumps(good(2)[1]) + "\n")
    train = open_data("rows.jsonl", DataSettings(train="rows.jsonl"), tmp_path)
    kept: list[dict[str, Any]] = []
    dropped: list[dict[str, Any]] = []
    write_clean(train, frozenset(["dup"]), check(train).keys, {}, kept.append, dropped.append)
    assert kept == good(2)
    assert [(row["file"], row["line"], row["reason"], row["row"]) for row in dropped] == [
        ("rows.jsonl", 2, "unreadable", '{"messages": [')
    ]


def test_nfc_changes_values_and_keeps_keys() -> None:
    row = {DECOMPOSED: [DECOMPOSED, {"deep": DECOMPOSED}], "n": 3}
    plain = unicodedata.normalize("NFC", DECOMPOSED)
    assert normalised(row) == {DECOMPOSED: [plain, {"deep": plain}], "n": 3}
