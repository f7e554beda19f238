"""A run's data that is missing, torn or foreign is an input error that names the file."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from localtune.data.prepare import load, prepare, save
from localtune.data.report import from_json
from localtune.errors import InputError
from localtune.settings import DataSettings
from tests.unit.data.builders import save_tokenizer, write_rows


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Prepared data that loads."""
    write_rows(tmp_path / "rows.jsonl", [{"prompt": f"say {i}", "completion": f"{i}!"} for i in range(12)])
    settings = DataSettings(train="rows.jsonl", test="rows.jsonl")
    tokenizer = save_tokenizer(tmp_path / "model")
    done = prepare(settings, tokenizer, learn="answers", seed=1, base=tmp_path, vocabulary=999, samples=["hi"])
    kept = tmp_path / "data"
    kept.mkdir()
    save(done, kept)
    assert len(load(kept).test) == 12
    return kept


FILES = ("train.safetensors", "valid.safetensors", "test.jsonl", "samples.json", "report.json")


def refused(folder: Path, name: str) -> str:
    with pytest.raises(InputError) as caught:
        load(folder)
    (problem,) = caught.value.problems
    assert (problem.code, problem.where, problem.fix) == ("run.unreadable", str(folder / name), "start a new run")
    return problem.what


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    refused(folder, name)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.98])
def test_a_torn_file_is_named(folder: Path, name: str, share: float) -> None:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: int(len(content) * share)])
    refused(folder, name)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("content", [b"[]", b"5", b"null", b'{"format": 2}', b'{"format": 1}', b"\xff", b"[" * 9**5])
def test_a_foreign_file_is_named(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    refused(folder, name)


@pytest.mark.parametrize("key", ["tokens", "weights", "offsets", "sources"])
def test_missing_and_wrong_arrays_are_named(folder: Path, key: str) -> None:
    path = folder / "train.safetensors"
    arrays = load_file(path)
    save_file({name: array for name, array in arrays.items() if name != key}, path)
    assert f"'{key}' is missing" in refused(folder, "train.safetensors")
    for wrong in (arrays[key][:-1].copy(), arrays[key].astype(np.float16), arrays[key][:, None].copy()):
        save_file(arrays | {key: wrong}, path)
        refused(folder, "train.safetensors")


@pytest.mark.parametrize("value", [[0, 9, 5], [0, 12, 9], [-1, 5, 9], [1, 5, 9], [0, 5, 10], []])
def test_offsets_that_do_not_fit_are_refused(folder: Path, value: list[int]) -> None:
    tokens, weights = np.zeros(9, np.int32), np.zeros(9, np.float32)
    offsets, sources = np.array(value, np.int64), np.zeros(2, np.int64)
    arrays: dict[str, Any] = {"tokens": tokens, "weights": weights, "offsets": offsets, "sources": sources}
    save_file(arrays, folder / "valid.safetensors")
    assert "offsets" in refused(folder, "valid.safetensors")


def without(key: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda value: {name: entry for name, entry in value.items() if name != key}


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("test.jsonl", without("expected"), "'expected' is missing"),
        ("test.jsonl", lambda value: value | {"prompt": [2**40]}, ""),
        ("test.jsonl", lambda value: value | {"prompt": ["x"]}, ""),
        ("samples.json", without("samples"), "'samples' is missing"),
        ("samples.json", lambda value: value | {"samples": [{"text": "x"}]}, "'prompt' is missing"),
        ("report.json", without("train"), "'train' is missing"),
        ("report.json", without("why"), "why"),
        ("report.json", lambda value: value | {"more": 1}, "more"),
        ("report.json", lambda value: value | {"train": {}}, "missing"),
        ("report.json", lambda value: value | {"losses": 3}, ""),
    ],
)
def test_what_a_file_lacks_is_said(
    folder: Path, name: str, change: Callable[[dict[str, Any]], dict[str, Any]], words: str
) -> None:
    first = (folder / name).read_text("utf-8")
    value = json.loads(first.split("\n")[0] if name == "test.jsonl" else first)
    (folder / name).write_text(json.dumps(change(value)) + "\n")
    assert words in refused(folder, name)


@pytest.mark.parametrize("value", [[], None, 3, {}, {"format": 1}])
def test_a_report_that_is_none_is_an_input_error(value: Any) -> None:
    with pytest.raises(InputError, match=r"run\.unreadable.* report\.json "):
        from_json(value)
