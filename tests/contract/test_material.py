"""A real pretrained Llama (260,032 weights) says what transformers and peft said of it when the reference was made."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from localtune.backend import Sampling
from localtune.batch import Floats, Segment
from localtune.model import ModelFiles
from tests.contract.conftest import Opener, files_of, rows_of
from tests.material import material

NEVER = (10**6,)

pytestmark = pytest.mark.material


@pytest.fixture(scope="module")
def folder() -> Path:
    return material("model-stories260K")


@pytest.fixture(scope="module")
def references(folder: Path) -> Path:
    return folder / "reference"


@pytest.fixture(scope="module")
def stories(folder: Path) -> ModelFiles:
    return files_of(folder)


@pytest.fixture(scope="module")
def reference(references: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((references / "reference.json").read_text(encoding="utf-8"))
    return content


def test_greedy_ids_are_the_reference(open_session: Opener, stories: ModelFiles, reference: dict[str, Any]) -> None:
    prompts = [entry["input_ids"] for entry in reference["greedy"]]
    longest = max(len(entry["new_ids"]) for entry in reference["greedy"])
    said: list[list[int]] = [[] for _ in prompts]
    with open_session(stories) as session:
        for row, token in session.generate(prompts, Sampling(tuple(reference["eos"]), longest)):
            said[row].append(token)
    for answer, entry in zip(said, reference["greedy"], strict=True):
        expected = entry["new_ids"]
        assert answer[: len(expected)] == expected
        assert len(answer) == len(expected) or expected[-1] not in reference["eos"]


def test_logits_are_the_reference(
    open_session: Opener, stories: ModelFiles, reference: dict[str, Any], references: Path
) -> None:
    expected = load_file(references / "logits.safetensors")
    with open_session(stories) as session:
        for number, entry in enumerate(reference["greedy"]):
            ids = entry["input_ids"]
            close(session.logits(ids, range(len(ids))), expected[f"prompt{number}"], 1e-4)


def test_losses_are_the_reference_packed(open_session: Opener, stories: ModelFiles, reference: dict[str, Any]) -> None:
    tokenizer = Tokenizer.from_file(str(stories.folder / "tokenizer.json"))
    segments = []
    for number, entry in enumerate(reference["nll"]):
        ids = tokenizer.encode(entry["text"]).ids
        ids = ids if ids[0] == 1 else [1, *ids]
        assert len(ids) in (entry["tokens"], entry["tokens"] + 1)
        weights = np.ones(len(ids), np.float32)
        weights[0] = 0
        segments.append(Segment(np.array(ids, np.int32), weights, number))
    with open_session(stories) as session:
        scores = session.score(rows_of(segments[:2], segments[2:]))
    means = scores.nll / scores.weight
    np.testing.assert_allclose(means, [entry["mean_nll"] for entry in reference["nll"]], atol=2e-6)


def test_an_adapter_that_peft_trained_says_what_it_said_there(
    open_session: Opener, stories: ModelFiles, references: Path
) -> None:
    folder = references / "peft-lora"
    expected = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
    logits = load_file(folder / "expected_logits.safetensors")
    ids = expected["input_ids"]
    with open_session(stories, None, folder, objective=None, optimizer=None) as session:
        answer = [token for _, token in session.generate([ids], Sampling(NEVER, len(expected["with_adapter"])))]
        ours, base = session.logits(ids, range(len(ids))), session.logits(ids, range(len(ids)), adapter=False)
    assert answer == expected["with_adapter"]
    close(ours, logits["adapter_logits"], 1e-4)
    close(ours, logits["merged_logits"], 1e-3)
    assert np.max(np.abs(base - logits["adapter_logits"])) > 1


def close(ours: Floats, expected: Floats, tolerance: float) -> None:
    assert ours.shape == expected.shape
    assert np.max(np.abs(ours - expected)) <= tolerance
