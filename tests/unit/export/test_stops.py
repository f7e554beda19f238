"""Generation in llama.cpp stops where the model stops; what a file has no room for is noted."""

from pathlib import Path

from localtune.export.pretokenizers import QWEN2
from tests.unit.export.served import Served
from tests.unit.export.tiny import (
    CHATML,
    added,
    byte_level,
    codes,
    exported,
    llama,
    model_of,
    notes,
    save_tokenizer,
    split_by,
)


def test_generation_stops_at_every_id_of_the_model(tmp_path: Path) -> None:
    tokenizer = byte_level(split_by(QWEN2), size=400)
    added(tokenizer, "<|a|>", "<|b|>", "<|c|>", special=True)
    a, b, c = (tokenizer.get_vocab()[text] for text in ("<|a|>", "<|b|>", "<|c|>"))
    folder = model_of(tmp_path / "m", tokenizer, eos=[a, 0, b, c])
    with Served(exported(folder)) as served:
        assert [served.stop([300], i) for i in (0, 2, a, b, c)] == ["eos"] * 5
        assert [served.stop([300], i) for i in (1, 300)] == ["limit"] * 2
    assert any("ends an answer" in note for note in notes(folder))


def test_what_a_file_has_no_room_for_is_noted(tmp_path: Path) -> None:
    tokenizer = byte_level(split_by(QWEN2), size=400)
    folder = model_of(tmp_path / "m", tokenizer, eos=[301, 302, 303, 304])
    assert [note for note in notes(folder) if "does not stop at" in note] != []
    with Served(exported(folder)) as served:
        assert [served.stop([300], i) for i in (301, 302, 303, 304)] == ["eos", "eos", "eos", "limit"]


def test_the_end_of_an_answer_has_room_before_any_other_stop(tmp_path: Path) -> None:
    tokenizer = byte_level(split_by(QWEN2), size=400)
    added(tokenizer, "<|turn|>", special=True)
    end = tokenizer.get_vocab()["<|turn|>"]
    template = CHATML.replace("<|im_end|>", "<|turn|>")
    for eos in ([301, 302, 303, 304], [301, 302, 303, 304, end]):
        folder = model_of(tmp_path / str(len(eos)), tokenizer, eos=eos, chat_template=template)
        with Served(exported(folder)) as served:
            assert [served.stop([300], i) for i in (301, end, 302, 303)] == ["eos", "eos", "eos", "limit"]


def test_a_model_without_any_stop_is_refused(tmp_path: Path) -> None:
    tokenizer = byte_level(split_by(QWEN2), size=400)
    save_tokenizer(tmp_path / "m", tokenizer, eos_token=None, chat_template=None)
    llama(tmp_path / "m", 400, eos=[])
    assert codes(tmp_path / "m") == ["gguf.no-stop"]
