"""Files that load without a word and say something else: the proof must catch each, by the check that is meant to.

The model is the quickstart's with another rope base and llama3 scaling, so that each of them matters.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import pre_tokenizers

from localtune import export as exporting
from localtune import places
from localtune.errors import MachineError, Problem, RunFailed
from localtune.events import Event, Product, Proof, Warn
from localtune.export import families, gguf_file, keys, rope, values
from localtune.export.placed import Conversion
from localtune.export.read import read_gguf
from localtune.products import gguf
from localtune.products.gguf import export
from localtune.products.source import Source, of_folder
from tests.command import MODEL, returned
from tests.material import material
from tests.unit.export.tiny import byte_level, model_of

Change = Callable[[pytest.MonkeyPatch], None]


def _source(folder: Path, output: Path, most: int = 6) -> Source:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(places, "POSITIONS", most)
        found: Source = returned(of_folder(str(folder), output))
    return found


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    folder = tmp_path_factory.mktemp("models") / "scaled"
    shutil.copytree(MODEL, folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    scaling = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
    config["rope_parameters"] = {"rope_type": "llama3", "rope_theta": 5000.0, **scaling}
    config["rope_theta"] = 5000.0
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return _source(folder, tmp_path_factory.mktemp("export"))


def _exported(source: Source, folder: Path, *encodings: str) -> list[Event]:
    events = []
    for event in export(replace(source, folder=folder), encodings):
        events.append(event)
    return events


def _proofs(events: list[Event]) -> dict[str, Proof]:
    return {event.product: event for event in events if isinstance(event, Proof)}


def _key(key: str, value: Any) -> Change:
    def change(patch: pytest.MonkeyPatch) -> None:
        write = keys.add_key
        changed = {key: value}
        patch.setattr(gguf_file, "add_key", lambda writer, name, old: write(writer, name, changed.get(name, old)))

    return change


def _permutation(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(values, "regrouped", lambda rows, head_dim: rows)


def _rope_factors(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rope, "llama3_factors", lambda scaling, theta, size: np.ones(size // 2, np.float32))


def _swapped(patch: pytest.MonkeyPatch) -> None:
    convert = families.convert
    names = {"ffn_gate": "ffn_up", "ffn_up": "ffn_gate"}

    def change(model: Any) -> Conversion:
        found = convert(model)
        swapped = [
            replace(one, name=next((one.name.replace(a, b) for a, b in names.items() if a in one.name), one.name))
            for one in found.tensors
        ]
        return replace(found, tensors=tuple(swapped))

    patch.setattr(exporting, "convert", change)


BREAKS: dict[str, tuple[Change, str]] = {
    "q and k are not permuted": (_permutation, "file"),
    "rope_freqs are those of no scaling": (_rope_factors, "file"),
    "the rope base is 10000": (_key("llama.rope.freq_base", 10000.0), "file"),
    "gate and up are swapped": (_swapped, "file"),
    "the norm's epsilon is 1e-3": (_key("llama.attention.layer_norm_rms_epsilon", 1e-3), "file"),
    "llama.cpp cannot open it": (_key("llama.embedding_length", 64), "load"),
    "BOS is added": (_key("tokenizer.ggml.add_bos_token", True), "tokens"),
    "the chat template is another": (
        _key("tokenizer.chat_template", "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"),
        "template",
    ),
}


@pytest.fixture
def broken(request: pytest.FixtureRequest) -> Iterator[str]:
    change, check = BREAKS[request.param]
    with pytest.MonkeyPatch.context() as patch:
        change(patch)
        yield check


def test_an_honest_file_passes_and_says_so_in_itself(source: Source, tmp_path: Path) -> None:
    events = _exported(source, tmp_path, "F16")
    (proof,) = _proofs(events).values()
    assert proof.passed
    assert [check["name"] for check in proof.checks] == ["tokens", "template", "stop", "file", "tensors"]
    (path,) = tmp_path.glob("*.gguf")
    assert [event.path for event in events if isinstance(event, Product)] == [str(path)]
    inside = json.loads(read_gguf(path).metadata["localtune.proof"])
    assert inside["passed"] is True
    assert set(inside["checks"]) == {"tokens", "template", "stop", "file", "tensors"}
    assert inside["file"]["max"] < 1e-4


@pytest.mark.parametrize("broken", list(BREAKS), indirect=True)
def test_a_break_is_caught(broken: str, source: Source, tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match="proof of") as caught:
        _exported(source, tmp_path, "F16")
    assert broken in str(caught.value)
    assert [path.name.endswith(".failed.gguf") for path in tmp_path.glob("*.gguf")] == [True]
    book = json.loads((tmp_path / "proof.json").read_text(encoding="utf-8"))
    (entry,) = book["files"].values()
    assert entry["passed"] is False
    assert broken in [check["name"] for check in entry["checks"] if not check["passed"]]


def test_a_break_that_rounding_hides_is_caught_in_the_exact_conversion(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _key("llama.rope.freq_base", 5100.0)(monkeypatch)
    with pytest.raises(RunFailed, match=r"conversion \(F32\)"):
        _exported(source, tmp_path / "chained", "Q8_0")
    assert not list((tmp_path / "chained").glob("*Q8_0.gguf"))
    monkeypatch.setattr(gguf._Work, "_conversion", lambda work, temporary: iter(()))
    (alone,) = _proofs(_exported(source, tmp_path / "alone", "Q8_0")).values()
    assert alone.passed


def test_a_vocabulary_whose_text_is_split_otherwise_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False))
    source = _source(model_of(tmp_path / "model", tokenizer), tmp_path)
    (honest,) = _proofs(_exported(source, tmp_path / "good", "F32")).values()
    assert honest.passed
    _key("tokenizer.ggml.pre", "llama-bpe")(monkeypatch)
    with pytest.raises(RunFailed, match="tokens"):
        _exported(source, tmp_path / "other", "F32")


def test_flat_scores_of_a_sentencepiece_vocabulary_are_caught(tmp_path: Path) -> None:
    source = _source(material("model-stories260K"), tmp_path)
    assert _proofs(_exported(source, tmp_path / "good", "F32"))
    with pytest.MonkeyPatch.context() as patch:
        _key("tokenizer.ggml.scores", [-1000.0] * 512)(patch)
        with pytest.raises(RunFailed, match="tokens"):
            _exported(source, tmp_path / "flat", "F32")


def test_without_llama_cpp_a_file_is_made_and_marked_unverified(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*arguments: object, **named: object) -> None:
        raise MachineError(Problem("llamacpp.missing", "llama.cpp is not installed", fix="pip install xllamacpp"))

    monkeypatch.setattr(gguf, "prove_file", missing)
    events = _exported(source, tmp_path, "Q8_0")
    assert [event.code for event in events if isinstance(event, Warn)].count("proof.unverified") == 1
    (path,) = tmp_path.glob("*.gguf")
    book = json.loads((tmp_path / "proof.json").read_text(encoding="utf-8"))
    assert book["files"][path.name]["passed"] is None
