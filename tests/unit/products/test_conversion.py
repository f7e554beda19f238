"""Who speaks for the weights, and where the proof of the conversion stands. llama.cpp is left out."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from localtune.distribution import Distributions
from localtune.places import Places
from localtune.products import RECORD, gguf
from localtune.products.gguf import export
from localtune.products.source import Source, of_folder
from localtune.proof import Proof, checks
from localtune.reference import Reference
from localtune.runs.files import read_json
from tests.command import MODEL, returned

SAID = Distributions(np.array([[0, 1]], np.int32), np.log(np.array([[0.7, 0.3]], np.float32)), np.zeros(1, np.float32))


def _reference(who: str, computed: str) -> Reference:
    one = np.zeros(1, np.int32)
    places = Places((np.arange(2, dtype=np.int32),), one, one, one + 1)
    return Reference(places, (), (2,), "built-in", {who: SAID}, {}, {who: computed})


def _exported(folder: Path, reference: Reference, encoding: str, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every proof of an export whose files say exactly what they should, with who spoke for the weights."""
    found = []

    def proven(
        path: Path, product: str, encoding: str, tokenizer: Any, asked: Reference, *_: Any, **more: Any
    ) -> Proof:
        check = checks.file(asked, SAID, encoding, more["speaker"])
        found.append((product, check.text))
        return Proof(product, (check,), {}, 1, "built-in", 0.0, heard=SAID)

    monkeypatch.setattr(gguf, "prove_file", proven)
    source: Source = returned(of_folder(str(MODEL), folder, check=False))
    returned(export(replace(source, reference=reference), [encoding]))
    return found


@pytest.mark.parametrize(
    ("who", "computed", "speaker"),
    [
        ("weights", "float32", "the weights"),
        ("weights", "bfloat16", "the F32 file, itself compared in bfloat16"),
        ("tuned", "float32", "the F32 file, itself compared in float32"),
        ("tuned", "nf4", "the F32 file, itself not compared with them"),
    ],
)
def test_a_coarse_file_says_who_spoke_for_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, who: str, computed: str, speaker: str
) -> None:
    conversion, (_, text) = _exported(tmp_path, _reference(who, computed), "Q8_0", monkeypatch)
    assert conversion[0] == "conversion (F32)"
    assert f" from {speaker} (limits 5e-03, 5e-01)" in text


def test_the_proof_of_the_conversion_stands_in_the_record_of_the_file_it_was_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = _reference("weights", "bfloat16")
    _, (name, _) = _exported(tmp_path, reference, "Q8_0", monkeypatch)
    conversion = read_json(tmp_path / RECORD)["files"][name]["conversion"]
    assert conversion["product"] == "conversion (F32)"
    assert [check["passed"] for check in conversion["checks"]] == [True]
    _, (name, _) = [None, *_exported(tmp_path, reference, "F32", monkeypatch)]
    assert "conversion" not in read_json(tmp_path / RECORD)["files"][name]
