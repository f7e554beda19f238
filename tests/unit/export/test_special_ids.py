"""Where llama.cpp begins and stops, also where a template or a vocabulary is out of the ordinary."""

import time
from pathlib import Path
from typing import Any

import pytest

from localtune.export.pretokenizers import QWEN2
from localtune.export.special_ids import FILLING, STOPS_BY_TEXT
from localtune.export.vocabulary import read_vocabulary
from tests.unit.export.served import Served
from tests.unit.export.tiny import (
    CHATML,
    added,
    byte_level,
    changed,
    codes,
    exported,
    model_of,
    notes,
    opened,
    refused,
    split_by,
)


def with_tokens(folder: Path, *texts: str, **config: Any) -> tuple[Path, dict[str, int]]:
    """A model that stops at <|im_end|>, and the ids of further control tokens."""
    tokenizer = byte_level(split_by(QWEN2), size=330)
    added(tokenizer, *texts, special=True)
    return model_of(folder, tokenizer, **config), {text: tokenizer.get_vocab()[text] for text in texts}


def also(folder: Path) -> str:
    """The note about where llama.cpp stops besides."""
    return next((note for note in notes(folder) if "also stops" in note), "")


def stops(folder: Path, ids: dict[str, int]) -> set[str]:
    with Served(exported(folder)) as served:
        return {text for text, number in ids.items() if served.stop([300], number) == "eos"}


def test_the_note_lists_where_llama_cpp_stops_besides(tmp_path: Path) -> None:
    texts = [*sorted(STOPS_BY_TEXT - {"<|im_end|>", "<|endoftext|>"}), "[PAD]", "<reponame>", "<|file_sep|>"]
    folder, ids = with_tokens(tmp_path / "m", *texts, "<|other|>", "<|fim_suffix|>")
    listed = also(folder).partition(" stops at ")[2].partition(", at which")[0].split(", ")
    assert stops(folder, ids) == set(listed) - {"<|endoftext|>"}
    assert set(texts) - set(listed) == {"<|end|>", "</s>"}  # which other tokens switch off


@pytest.mark.parametrize("row", FILLING)
def test_of_the_texts_for_filling_llama_cpp_stops_at_one(tmp_path: Path, row: tuple[str, ...]) -> None:
    folder, ids = with_tokens(tmp_path / "m", *row)
    assert len(stops(folder, ids)) == 1
    assert f"one of {' and '.join(row)}" in also(folder)
    folder, ids = with_tokens(tmp_path / "n", row[-1])
    assert stops(folder, ids) == {row[-1]}
    assert row[-1] in also(folder)
    assert "one of" not in also(folder)


def test_a_stop_that_other_tokens_switch_off_is_noted(tmp_path: Path) -> None:
    folder, ids = with_tokens(tmp_path / "m", "<|end|>", "<|calls|>", "<|flush|>", eos=330)
    assert any("does not stop at '<|end|>'" in note for note in notes(folder))
    assert "<|end|>" not in stops(folder, ids)


def test_an_eos_beyond_the_embedding_is_refused(tmp_path: Path) -> None:
    folder, _ = with_tokens(tmp_path / "m")
    changed(folder / "generation_config.json", eos_token_id=[2, 330])
    found = refused(folder)
    assert "eos_token_id 330 is beyond the 330 rows" in found["gguf.no-stop"]


def test_a_bos_that_only_the_configuration_states_is_written(tmp_path: Path) -> None:
    folder, _ = with_tokens(tmp_path / "m")
    assert read_vocabulary(*opened(folder)).special.ids["bos"] == 2  # the eos, as there is none
    for stated, bos in ((5, 5), ([1], 2), (330, 2), (-1, 2), (True, 2)):
        changed(folder / "config.json", bos_token_id=stated)
        found = read_vocabulary(*opened(folder)).special
        assert (found.ids["bos"], found.add_bos) == (bos, False)


ENDLESS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}" + CHATML


def test_a_template_without_an_end_is_refused(tmp_path: Path) -> None:
    folder, _ = with_tokens(tmp_path / "m", chat_template=ENDLESS)
    began = time.monotonic()
    assert codes(folder) == ["template.endless"]
    assert time.monotonic() - began < 20


@pytest.mark.parametrize(
    ("template", "code"),
    [("{% if", "template.syntax"), ("{{ 'a' * 10 ** 11 }}", ""), ("{{ raise_exception('x') }}", ""), ("", "")],
)
def test_a_template_that_renders_nothing_is_told_or_left_alone(tmp_path: Path, template: str, code: str) -> None:
    folder, _ = with_tokens(tmp_path / "m", chat_template=template)
    if code:
        assert codes(folder) == [code]
    else:
        assert read_vocabulary(*opened(folder)).special.ids["eos"] == 2


@pytest.mark.parametrize("key", ["chat_template", "eos_token", "pad_token"])
def test_half_a_character_is_refused(tmp_path: Path, key: str) -> None:
    folder, _ = with_tokens(tmp_path / "m")
    changed(folder / "tokenizer_config.json", **{key: CHATML + "\ud800"})
    assert key in refused(folder)["gguf.text"]
