"""What `localtune chat` refuses before anything is loaded, and the commands it names, as they can be typed."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from localtune.chat.opening import find, has_template
from localtune.cli.chat import chat
from localtune.errors import InputError
from localtune.serve import served_file
from tests.typed import words
from tests.unit.chat.tiny_gguf import write_gguf, write_lora


@pytest.mark.parametrize("option", ["--temp", "--top-p"])
@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e999", "NaN"])
def test_what_is_no_number_is_refused_at_once(tmp_path: Path, option: str, value: str) -> None:
    path = write_gguf(tmp_path / "tiny.gguf")
    result = CliRunner().invoke(chat, [str(path), "-p", "hello", option, value])
    assert result.exit_code == 2
    assert f"Invalid value for '{option}'" in result.output
    assert "loading" not in result.output


def looked_at(name: Path) -> None:
    found = find(str(name))
    assert isinstance(found, Path)
    has_template(found)


def fix(name: Path) -> str:
    with pytest.raises(InputError) as caught:
        looked_at(name)
    return caught.value.problems[0].fix


def test_commands_with_blanks_in_them_can_be_typed(tmp_path: Path) -> None:
    folder = tmp_path / "my files"
    folder.mkdir()
    lora = write_lora(folder / "a.gguf")
    assert words(fix(lora).partition(";")[0]) == ["localtune", "chat", "BASE.gguf", "--lora", str(lora)]
    assert words(fix(folder)) == ["localtune", "chat", str(lora)]
    (folder / "config.json").write_text("{}")
    with pytest.raises(InputError) as caught:
        served_file(str(folder))
    assert words(caught.value.problems[0].fix)[:3] == ["localtune", "export", str(folder)]


def test_an_adapters_folder_is_to_be_fused_by_us(tmp_path: Path) -> None:
    folder = tmp_path / "my adapter"
    folder.mkdir()
    for base, said in (("org/Tiny", "org/Tiny"), (None, "BASE")):
        (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
        first = ["localtune", "fuse", str(folder), "-m", said, "-o", "FUSED"]
        assert words(fix(folder)) == [*first, "and", "then", "localtune", "chat", "FUSED"]
