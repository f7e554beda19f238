"""A sliding window that llama.cpp does not have limits the file to what it covers, where both say the same."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import pre_tokenizers

from localtune.errors import InputError
from localtune.export import families
from localtune.export.families import convert
from localtune.export.placed import Conversion
from localtune.model import ModelFiles, resolve
from tests.unit.export.served import Served
from tests.unit.export.tiny import byte_level, changed, exported, random_model, save_tokenizer

VOCABULARY, PLAIN, WINDOW, CONTEXT = 330, 40, 24, 256
ON = {"use_sliding_window": True, "max_window_layers": 2, "layer_types": None}
WINDOWED: dict[str, tuple[str, dict[str, Any]]] = {
    "mistral": ("Mistral", {}),
    "mixtral": ("Mixtral", {"num_local_experts": 2}),
    "smollm3": ("SmolLM3", ON),
    "qwen2": ("Qwen2", ON),
    "qwen3": ("Qwen3", ON),
    "phi3": ("Phi3", {}),
}
"""llama.cpp's name, which for Mistral and Mixtral is llama -> family and what switches its window on."""


def made(folder: Path, name: str, window: int = WINDOW) -> Any:
    family, config = WINDOWED[name]
    return random_model(folder, family, VOCABULARY, sliding_window=window, max_position_embeddings=CONTEXT, **config)


def converted(folder: Path) -> Conversion:
    return convert(resolve(str(folder), folder, offline=True))


def limit(found: Conversion) -> int:
    return int(found.metadata[f"{found.architecture}.context_length"])


@pytest.mark.parametrize("name", WINDOWED)
def test_the_file_is_limited_to_the_window_and_a_note_says_so(tmp_path: Path, name: str) -> None:
    made(tmp_path / "m", name)
    found = converted(tmp_path / "m")
    (note,) = found.notes
    assert limit(found) == WINDOW
    assert "limited to 24 tokens" in note
    assert "256" in note


@pytest.mark.parametrize("window", [CONTEXT, 10 * CONTEXT, None])
def test_a_window_that_covers_the_context_changes_nothing(tmp_path: Path, window: int) -> None:
    made(tmp_path / "m", "mistral", window)
    found = converted(tmp_path / "m")
    assert (limit(found), found.notes) == (CONTEXT, ())


@pytest.mark.parametrize(("silent", "limited"), [("mistral", 4096), ("phi3", 8192), ("qwen2", 8192)])
def test_a_window_that_is_not_stated_is_that_of_the_family(tmp_path: Path, silent: str, limited: int) -> None:
    made(tmp_path / "m", silent)
    path = tmp_path / "m" / "config.json"
    state = json.loads(path.read_text()) | {"max_position_embeddings": 8192, "use_sliding_window": False}
    state.pop("sliding_window")
    path.write_text(json.dumps(state))
    assert limit(converted(tmp_path / "m")) == limited


@pytest.mark.parametrize(
    ("model", "window", "context"),
    [("phi3", 2047, 4096), ("mistral", 4096, 32768)],
    ids=["Phi-3-mini-4k", "Mistral-7B"],
)
def test_known_models_with_a_window_are_written(tmp_path: Path, model: str, window: int, context: int) -> None:
    made(tmp_path / "m", model)
    changed(tmp_path / "m" / "config.json", sliding_window=window, max_position_embeddings=context)
    found = converted(tmp_path / "m")
    assert limit(found) == window
    assert f"{window:,} tokens" in found.notes[0]


def test_yarn_starts_from_the_models_context_and_not_from_the_window(tmp_path: Path) -> None:
    made(tmp_path / "m", "mistral")
    changed(tmp_path / "m" / "config.json", rope_parameters={"rope_type": "yarn", "factor": 2.0, "rope_theta": 1e4})
    found = converted(tmp_path / "m")
    assert (limit(found), found.metadata["llama.rope.scaling.original_context_length"]) == (WINDOW, CONTEXT)


@pytest.mark.parametrize("value", ["128", 0, 12.5, True])
def test_a_window_that_is_no_number_is_refused(tmp_path: Path, value: Any) -> None:
    made(tmp_path / "m", "mistral")
    changed(tmp_path / "m" / "config.json", sliding_window=value, use_sliding_window=False)
    with pytest.raises(InputError) as caught:
        converted(tmp_path / "m")
    assert [problem.what for problem in caught.value.problems if f"sliding_window is {value!r}" in problem.what]


@pytest.mark.parametrize("name", ["mistral", "phi3", "qwen2"])
def test_within_the_window_the_file_says_what_the_model_says_and_beyond_it_would_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    folder = tmp_path / "m"
    save_tokenizer(folder, byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False), size=VOCABULARY))
    model = made(folder, name)
    ids = np.random.default_rng(1).integers(3, VOCABULARY, 2 * WINDOW).tolist()
    with torch.no_grad():
        wanted = model(torch.tensor([ids])).logits[0].double().log_softmax(-1).numpy()
    with Served(exported(folder), 0) as served:
        assert served.context == WINDOW
        with pytest.raises(InputError, match=r"llamacpp\.context"):
            served.logprobs(ids, VOCABULARY, PLAIN)

    def wider(model: ModelFiles) -> Conversion:
        found = families.convert(model)
        return replace(found, metadata=found.metadata | {f"{found.architecture}.context_length": CONTEXT})

    monkeypatch.setattr("localtune.export.convert", wider)
    with Served(exported(folder)) as served:
        got = served.logprobs(ids, VOCABULARY, PLAIN)
    differences = np.abs(wanted - got).max(1)
    assert differences[:WINDOW].max() < 1e-4
    assert differences[WINDOW] > 1e-3
