"""Every finding: rows in which it is found, and rows like them in which it is not."""

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from localtune.data.check import check, held_out_part
from localtune.data.check.scripts import script_of
from localtune.data.opened import open_data
from localtune.settings import DataSettings
from tests.unit.data.check.rows import by_code, chat, checked, good, sentence, turns

A = "a question that is long enough"
B = "an answer that is long enough, too"
KO = "주문한 물건이 아직 오지 않았어요 언제 오나요"
JA = "注文した商品がまだ届いていません。いつ届きますか"

FAULTS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    # what is tried: (row with it, row without it, code)
    "an empty question": (chat("  ", B), chat(A, B), "empty"),
    "no user turn": (turns(("system", "S"), ("assistant", B)), turns(("user", A), ("assistant", B)), "empty"),
    "no answer": (turns(("user", A)), chat(A, B), "no-target"),
    "only answers of weight 0": (
        {"messages": [{"role": "user", "content": A}, {"role": "assistant", "content": B, "weight": 0}]},
        {"messages": [{"role": "user", "content": A}, {"role": "assistant", "content": B, "weight": 1}]},
        "no-target",
    ),
    "two questions in a row": (
        turns(("user", A), ("user", "x"), ("assistant", B)),
        turns(("user", A), ("assistant", "x"), ("user", "y"), ("assistant", B)),
        "role-order",
    ),
    "an answer first": (
        turns(("assistant", "Hello!"), ("user", A), ("assistant", B)),
        turns(("system", "Hello!"), ("user", A), ("assistant", B)),
        "role-order",
    ),
    "a system turn in the middle": (
        turns(("user", A), ("system", "S"), ("assistant", B)),
        turns(("system", "S"), ("user", A), ("assistant", B)),
        "role-order",
    ),
    "a question last": (turns(("user", A), ("assistant", B), ("user", "?")), chat(A, B), "unanswered"),
    "a role nobody knows": (turns(("user", A), ("wizard", B)), chat(A, B), "unusable"),
    "an e-mail address": (chat(A, "write to jane.doe@example.org"), chat(A, "write to jane @ home"), "personal"),
    "a Korean phone number": (chat(A, "010-1234-5678 입니다"), chat(A, "2010-12-31 입니다"), "personal"),
    "a North American phone number": (chat(A, "call (555) 123-4567"), chat(A, "call 555 at 12:34"), "personal"),
    "an IPv4 address": (chat(A, "at 203.0.113.77"), chat(A, "at 192.168.10.77"), "personal"),
    "a card number": (chat(A, "4111 1111 1111 1111"), chat(A, "4111 1111 1111 1112"), "personal"),
    "a resident number": (chat(A, "900101-1234568"), chat(A, "900101-1234567"), "personal"),
    "an IBAN": (chat(A, "GB82 WEST 1234 5698 7654 32"), chat(A, "GB83 WEST 1234 5698 7654 32"), "personal"),
    "a key": (chat(A, "export KEY=sk-" + "a1B2" * 8), chat(A, "a sk-etch of a plan"), "keys"),
    "a key of AWS": (chat(A, "AKIAIOSFODNN7EXAMPLE"), chat(A, "AKIA is a prefix"), "keys"),
    "Llama's marks": (chat(A, "[INST] hi [/INST]"), chat(A, "list[INSTANCE]"), "markup"),
    "ChatML's marks": (chat("<|im_start|>user\nhi", B), chat("a |> b <| c", B), "markup"),
    "Alpaca's marks": (chat("### Instruction:\ndo it", B), chat("### Instructions for use", B), "markup"),
    "a bell": (chat(A, "ding\x07"), chat(A, "ding\tdong\r\n"), "characters"),
    "a zero-width space": (chat(A, "in\u200bvisible"), chat(A, "می\u200cخواهم"), "characters"),
    "a bidirectional override": (chat(A, "\u202eevil"), chat(A, "שלום"), "characters"),
    "a replacement character": (chat(A, "caf\ufffd"), chat(A, "café"), "characters"),
    "a private character": (chat(A, "\ue000 arrow"), chat(A, "→ arrow"), "characters"),
    "UTF-8 read as Latin-1": (chat(A, "cafÃ© crÃ¨me"), chat(A, "SÃO PAULO"), "mojibake"),
    "a quote read as Windows-1252": (chat(A, "itâ€™s"), chat(A, "it’s"), "mojibake"),
    "decomposed letters": (
        chat(A, unicodedata.normalize("NFD", "한국어")),
        chat(A, unicodedata.normalize("NFC", "한국어")),
        "not-nfc",
    ),
    "HTML tags": (chat(A, "<div class='x'>hi</div>"), chat(A, "a < b and c > d"), "html"),
    "HTML entities": (chat(A, "you &amp; me"), chat(A, "AT&T; R&D"), "html"),
    "another script": (chat(KO, KO), chat(A, f"{B} 안녕"), "scripts"),
}


@pytest.mark.parametrize("what", FAULTS)
def test_a_fault_is_found_where_it_is(what: str, tmp_path: Path) -> None:
    faulty, _, code = FAULTS[what]
    found = by_code(checked(tmp_path, [*good(), faulty]))
    assert code in found
    assert found[code].count == 1
    assert found[code].first[0].startswith("rows.jsonl:21")
    assert found[code].what


@pytest.mark.parametrize("what", FAULTS)
def test_a_fault_is_not_found_where_it_is_not(what: str, tmp_path: Path) -> None:
    _, harmless, code = FAULTS[what]
    assert code not in by_code(checked(tmp_path, [*good(), harmless]))


def test_good_rows_have_no_findings_and_it_is_said_what_was_looked_for(tmp_path: Path) -> None:
    result = checked(tmp_path, good(40))
    assert result.findings == ()
    assert result.rows == 40
    assert result.why.startswith("messages, because ")
    assert {"duplicate", "near-duplicate", "personal", "role-order", "unreadable"} <= set(result.looked_for)
    assert not result.failed


def test_unreadable_rows_are_a_warning_up_to_one_percent_and_an_error_above(tmp_path: Path) -> None:
    lines = [json.dumps(row) for row in good(99)]
    for bad, severity in ((1, "warning"), (2, "error")):
        (tmp_path / "rows.jsonl").write_text("\n".join([*lines, *['{"messages": '] * bad]) + "\n")
        result = check(open_data("rows.jsonl", DataSettings(train="rows.jsonl"), tmp_path))
        finding = by_code(result)["unreadable"]
        assert (finding.severity, finding.count) == (severity, bad)
        assert finding.first[0].startswith("rows.jsonl:100")
        assert result.rows == 99 + bad
        assert result.failed is (severity == "error")


def test_a_row_of_another_shape_is_an_error_but_does_not_end_the_check(tmp_path: Path) -> None:
    found = by_code(checked(tmp_path, [*good(), {"text": "hello"}, chat("  ", "x")]))
    assert found["mixed"].severity == "error"
    assert found["mixed"].first[0].startswith("rows.jsonl:21")
    assert "empty" in found


def test_a_row_far_longer_than_the_others_is_found_longest_first(tmp_path: Path) -> None:
    long = [chat(A + str(n), sentence(n, 300 + n)) for n in range(2)]
    found = by_code(checked(tmp_path, [*good(), *long]))
    assert found["long"].count == 2
    assert found["long"].first[0].startswith("rows.jsonl:22")
    assert "long" not in by_code(checked(tmp_path, long))


def test_an_answer_far_shorter_than_the_others_is_found_but_not_among_one_word_answers(tmp_path: Path) -> None:
    assert by_code(checked(tmp_path, [*good(), chat(A, "no")]))["short"].count == 1
    fifth = chat(A, sentence(50)[:20])
    assert "short" not in by_code(checked(tmp_path, [*good(), fifth]))
    words = [chat(sentence(n), "yes" if n % 2 else "no") for n in range(20)]
    assert "short" not in by_code(checked(tmp_path, words))


def test_labels_out_of_balance_are_found_and_even_ones_are_not(tmp_path: Path) -> None:
    rows = [row | {"group": "rare" if n < 2 else "common"} for n, row in enumerate(good(30))]
    finding = by_code(checked(tmp_path, rows))["imbalance"]
    assert finding.details == {"common": 28, "rare": 2}
    even = [row | {"group": "one" if n % 2 else "two"} for n, row in enumerate(good(30))]
    assert "imbalance" not in by_code(checked(tmp_path, even))


def test_a_column_of_many_values_holds_no_labels(tmp_path: Path) -> None:
    rows = [row | {"group": f"g{n}"} for n, row in enumerate(good(120))] + [
        row | {"group": "g0"} for row in good(60, 200)
    ]
    assert "imbalance" not in by_code(checked(tmp_path, rows))


def test_labelled_answers_of_one_kind_only_are_found(tmp_path: Path) -> None:
    rows = [{"prompt": sentence(n), "completion": sentence(n + 100), "label": True} for n in range(25)]
    assert by_code(checked(tmp_path, rows))["imbalance"].severity == "warning"
    mixed = [row | {"label": n % 2 == 0} for n, row in enumerate(rows)]
    assert "imbalance" not in by_code(checked(tmp_path, mixed))


def test_han_beside_kana_is_one_script_and_han_alone_another(tmp_path: Path) -> None:
    japanese = [chat(f"{JA}{n}", f"{JA}{n}{n}") for n in range(20)]
    chinese = chat("我的订单还没有到什么时候能到呢请问", "请问您的订单号是多少我来帮您查询")
    found = by_code(checked(tmp_path, [*japanese, chinese]))
    assert found["scripts"].details == {"Kana": 20, "Han": 1}


def test_a_script_is_that_of_more_than_half_of_the_letters() -> None:
    assert script_of("hello there 안녕") == "Latin"
    assert script_of("안녕하세요 여러분 hello") == "Hangul"
    assert script_of("hello 안녕하세 Привет") == "mixed"
    assert script_of("12 + 3 = 15 ok") == ""


def test_what_looks_personal_is_masked(tmp_path: Path) -> None:
    result = checked(tmp_path, [*good(), chat(A, "jane.doe@example.org 4111 1111 1111 1111 sk-" + "a1B2" * 8)])
    text = json.dumps(result.to_json())
    for secret in ("jane.doe", "4111 1111", "a1B2a1B2"):
        assert secret not in text
    assert "ja********rg" in text


def test_commands_that_show_a_row_name_the_first_one(tmp_path: Path) -> None:
    found = by_code(checked(tmp_path, [*good(), chat(A, "jane.doe@example.org")]))
    assert found["personal"].fix.startswith("localtune data show rows.jsonl --row 21 ")


def test_everything_is_said_in_json(tmp_path: Path) -> None:
    value = checked(tmp_path, [*good(), chat("  ", B)]).to_json()
    assert value["format"] == 1
    assert value["rows"] == 21
    assert value["findings"][0]["code"] == "empty"
    assert json.loads(json.dumps(value)) == value


@pytest.mark.parametrize(("rows", "severity"), [(20, "error"), (150, "warning")])
def test_held_out_rows_of_no_use_are_found_with_their_lines_and_more_than_1_percent_are_an_error(
    rows: int, severity: str, tmp_path: Path
) -> None:
    held = [*good(rows, 500), turns(("wizard", A), ("assistant", B))]
    found = by_code(checked(tmp_path, good(), valid=held))["validation-unusable"]
    assert (found.severity, found.count) == (severity, 1)
    assert found.first[0].startswith(f"valid.jsonl:{rows + 1}")
    assert not [code for code in by_code(checked(tmp_path, good(), valid=held[:-1])) if code.startswith("validation")]


def test_a_held_out_line_that_cannot_be_read_is_found(tmp_path: Path) -> None:
    lines = "".join(json.dumps(row) + "\n" for row in good(3, 500))
    (tmp_path / "test.jsonl").write_text(lines + "{\n")
    held = open_data("test.jsonl", DataSettings(train="test.jsonl"), tmp_path)
    (found,) = held_out_part("test", held).findings
    assert (found.code, found.severity) == ("test-unreadable", "error")
    assert found.first[0].startswith("test.jsonl:4")
    assert "data check test.jsonl --fix" in found.fix


def test_one_command_mends_all_that_can_be_mended_and_is_said_only_for_several(tmp_path: Path) -> None:
    rows = [*good(), chat("  ", B), good(1)[0]]
    assert checked(tmp_path, rows).mend == "localtune data check rows.jsonl --fix empty,dup -o clean.jsonl"
    assert checked(tmp_path, rows[:-1]).mend == ""


def test_no_copy_is_proposed_that_would_hold_no_row(tmp_path: Path) -> None:
    rows = [chat("  ", B), chat(" ", B)]
    assert "--fix" in by_code(checked(tmp_path, [*rows, chat(A, B)]))["empty"].fix
    assert "--fix" not in by_code(checked(tmp_path, rows))["empty"].fix
    assert checked(tmp_path, [rows[0], rows[0]]).mend == ""


def test_the_command_that_shows_a_row_names_its_file_where_there_are_several(tmp_path: Path) -> None:
    (tmp_path / "my data").mkdir()
    for name, row in (("a", chat(A, B)), ("b", chat(A, "write to jane.doe@example.org"))):
        (tmp_path / "my data" / f"{name}.jsonl").write_text(json.dumps(row) + "\n")
    train = open_data("my data", DataSettings(train="my data"), tmp_path)
    fix = by_code(check(train, shown="'my data'"))["personal"].fix
    assert "data show 'my data' --row 'my data/b.jsonl:1' " in fix
    alone = by_code(checked(tmp_path, [chat(A, "write to jane.doe@example.org")]))["personal"].fix
    assert "--row 1 " in alone
