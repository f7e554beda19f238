"""What is found in files as they were found."""

from pathlib import Path

import pytest

from localtune.data.check import Finding, check, held_out_part
from localtune.data.measure import measure
from localtune.data.opened import open_data
from localtune.errors import InputError
from localtune.settings import DataSettings
from tests.material import material
from tests.unit.data.check.rows import by_code

pytestmark = pytest.mark.material


def found_in(path: Path, **settings: object) -> dict[str, Finding]:
    """The findings in a file, by code."""
    made = DataSettings.model_validate({"train": path.name} | settings)
    return by_code(check(open_data(path.name, made, path.parent)))


def test_gsm8k_is_clean() -> None:
    columns = {"prompt": "question", "completion": "answer"}
    assert found_in(material("sft-gsm8k") / "train-2000.jsonl", columns=columns) == {}


def test_wikisql_holds_one_row_twice_and_leaks_nothing() -> None:
    folder = material("sft-wikisql")
    parts = [open_data(f"{name}.jsonl", DataSettings(train="x"), folder) for name in ("train", "valid", "test")]
    held_out = {"validation": held_out_part("validation", parts[1]), "test": held_out_part("test", parts[2])}
    found = by_code(check(parts[0], held_out))
    assert found["duplicate"].first == ("train.jsonl:162 = train.jsonl:161",)
    assert "leak" not in found


def test_web_text_holds_addresses_and_broken_characters() -> None:
    found = found_in(material("llamafactory-demos") / "c4_demo.jsonl")
    assert found["characters"].details == {"replacement U+FFFD": 4, "zero-width": 4}
    assert found["personal"].details["e-mail"] == 7


def test_korean_chats_have_prompts_with_several_answers_and_one_script() -> None:
    found = found_in(material("ko-chatbot") / "ko-chat-2000.jsonl")
    assert set(found) == {"same-prompt", "near-duplicate"}
    assert found["same-prompt"].count == 11


def test_openais_toy_rows_have_one_without_a_question_and_one_far_too_long() -> None:
    found = found_in(material("chat-shapes") / "openai-toy_chat_fine_tuning.jsonl")
    assert found["empty"].first == ("openai-toy_chat_fine_tuning.jsonl:4  no user turn",)
    assert found["long"].first[0].startswith("openai-toy_chat_fine_tuning.jsonl:5")


def test_every_dirty_table_is_checked_or_refused_by_name() -> None:
    for path in sorted(material("dirty-tables").iterdir()):
        made = DataSettings(train=path.name)
        try:
            opened = open_data(path.name, made, path.parent)
        except InputError as error:
            refused = str(error)
            assert path.name in refused, refused
        else:
            assert check(opened).rows == measure(opened).rows + measure(opened).unusable
