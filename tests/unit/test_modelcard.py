"""What the head of a README states, for the card of a fused model and for the keys of a GGUF alike."""

from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localtune.modelcard import Kind, model_card, stated, stated_licence

MIT = {"license": "mit"}


@pytest.mark.parametrize(
    ("readme", "expected"),
    [
        ("\ufeff---\nlicense: mit\n---\n", MIT),
        ("---\r\nlicense: 'mit'\r\n---\r\ntext", MIT),
        ('---\nlicense: "mit" # see\n---\n', MIT),
        ("---\nlicense: # comment\n  mit\n---\n", MIT),
        ("---\nlicense:\n- mit\n---\n", {"license": ["mit"]}),
        ("---\ntags:\n- a\n# - b\nlicense: mit\n---\n", {"tags": ["a"]} | MIT),
        ("---\nlanguage: no\nlicense: mit\n---\n", {"language": "no"} | MIT),
        ("---\nlanguage: [en, ko]\nlicense: mit\nlicense: gpl\n---\n", {"language": ["en", "ko"]} | MIT),
        ("---\nextra_gated_prompt: |\n  hello\n  license: evil\n  ---\nlicense: mit\n---\n", MIT),
        ("---\nlicense: other\nlicense_name: x\nlicense_link: y\n---\n",
         {"license": "other", "license_name": "x", "license_link": "y"}),
        ("---\nlicense: mit\ntags: [1, 2]\nlanguage: {a: b}\n---\n", MIT),
        ("---\nlicense: mit\n", {}),
        ("# title\n---\nlicense: mit\n---\n", {}),
        ("---\nlicense: *x\n---\n", {}),
    ],
)  # fmt: skip
def test_a_head_states_what_yaml_says(tmp_path: Path, readme: str, expected: dict[str, Any]) -> None:
    (tmp_path / "README.md").write_bytes(readme.encode())
    assert stated(tmp_path) == expected
    assert stated_licence(tmp_path) == {key: value for key, value in expected.items() if "license" in key}


def test_a_folder_without_a_card_states_nothing(tmp_path: Path) -> None:
    assert stated(tmp_path) == {}


@given(content=st.binary(max_size=300))
def test_no_card_stops_anything(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("card")
    (folder / "README.md").write_bytes(b"---\n" + content + b"\n---\n")
    assert all(isinstance(value, str | list) for value in stated(folder).values())


def card(kind: Kind, **changes: Any) -> str:
    given: dict[str, Any] = {
        "name": "bot", "base": "org/base@v1", "revision": "c0ffee", "method": "LoRA", "licence": MIT,
        "recipe": {"rank": 4},
        "measured": {"test loss, tuned": 0.5}, "versions": {"localtune": "0"}, "kind": kind,
        "data": {"training rows": 800, "read from": ["train.jsonl"]}, "datasets": ["org/chats"],
        "proof": {"file": "passed: KL mean 1e-4"}, "files": {"A.gguf": "1.0 MB"},
    }  # fmt: skip
    return model_card(**given | changes)


@pytest.mark.parametrize(
    ("kind", "library", "relation", "loading"),
    [
        ("adapter", "peft", "adapter", "AutoPeftModelForCausalLM"),
        ("fused", "transformers", "finetune", "AutoModelForCausalLM"),
        ("gguf", "gguf", "quantized", "llama-server -m FILE"),
    ],
)
def test_a_card_says_what_its_folder_holds(
    kind: Kind, library: str, relation: str, loading: str, tmp_path: Path
) -> None:
    text = card(kind)
    (tmp_path / "README.md").write_text(text, "utf-8")
    head = huggingface_hub.ModelCard.load(tmp_path / "README.md").data.to_dict()
    assert head == {
        "base_model": "org/base", "base_model_relation": relation, "library_name": library, "license": "mit",
        "pipeline_tag": "text-generation", "datasets": ["org/chats"], "tags": ["lora", "sft", "localtune"],
    }  # fmt: skip
    assert loading in text
    for row in ("training rows | 800", "read from | train.jsonl", "rank | 4", "file | passed: KL mean 1e-4",
                "test loss, tuned | 0.5", "A.gguf | 1.0 MB", "localtune | 0"):  # fmt: skip
        assert f"| {row} |" in text


def test_tables_of_nothing_are_left_out() -> None:
    text = card("adapter", data={}, proof={}, files={}, measured={}, datasets=[], revision=None, base="/home/jane/gpt2")
    assert "## Data" not in text
    assert "datasets:" not in text
    assert "base_model" not in text
    assert "jane" not in text
