"""Keys by which a model would run its own code: what is refused, and where `auto_map` is passed over."""

import json
from pathlib import Path
from typing import Any

import pytest

from localtune.errors import InputError
from localtune.export.families import FAMILIES
from localtune.model.config import read_config
from localtune.model.own_code import NATIVE

LLAMA: dict[str, Any] = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
AUTO_MAP = {"AutoConfig": "configuration_x.XConfig", "AutoModelForCausalLM": "org/other--modeling_x.X"}


def read(folder: Path, config: dict[str, Any]) -> dict[str, Any]:
    (folder / "config.json").write_text(json.dumps(config))
    return read_config(folder)


def refused(folder: Path, config: dict[str, Any]) -> str:
    with pytest.raises(InputError) as caught:
        read(folder, config)
    problem = caught.value.problems[0]
    assert (problem.code, problem.where) == ("model.code", "config.json")
    assert problem.fix
    return problem.what.removesuffix(": this model wants to run its own code, which localtune never does")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model_file", "x.py"),
        ("trust_remote_code", True),
        ("custom_generate", "org/generate"),
        ("_attn_implementation_internal", "org/kernel"),
        ("attn_implementation", "org/kernel"),
        ("anything_internal", 1),
    ],
)
def test_a_model_that_wants_to_run_its_own_code_is_refused(tmp_path: Path, key: str, value: object) -> None:
    for wrapped in ({key: value}, {"text_config": {key: value}}, {"list": [{"deep": {key: value}}]}):
        assert refused(tmp_path, LLAMA | wrapped) == key
        assert refused(tmp_path, LLAMA | {"auto_map": AUTO_MAP} | wrapped) == key


@pytest.mark.parametrize("model_type", NATIVE)
def test_an_auto_map_is_passed_over_where_transformers_brings_the_architecture(tmp_path: Path, model_type: str) -> None:
    config = {"architectures": [NATIVE[model_type]], "model_type": model_type, "auto_map": AUTO_MAP}
    assert read(tmp_path, config) == config


@pytest.mark.parametrize(
    "config",
    [
        LLAMA | {"model_type": "mixtral", "auto_map": AUTO_MAP},
        LLAMA | {"model_type": ["llama"], "auto_map": AUTO_MAP},
        LLAMA | {"architectures": ["XForCausalLM"], "auto_map": AUTO_MAP},
        LLAMA | {"architectures": ["LlamaForCausalLM", "XForCausalLM"], "auto_map": AUTO_MAP},
        {"auto_map": AUTO_MAP},
        LLAMA | {"text_config": LLAMA | {"auto_map": AUTO_MAP}},
        LLAMA | {"auto_map": {"AutoTokenizer": ["tokenization_x.X", None]}},
        LLAMA | {"auto_map": ["AutoConfig"]},
    ],
)
def test_an_auto_map_is_refused_anywhere_else(tmp_path: Path, config: dict[str, Any]) -> None:
    assert refused(tmp_path, config) == "auto_map"


def test_keys_that_ask_for_no_code_are_harmless(tmp_path: Path) -> None:
    harmless: dict[str, Any] = {
        "auto_map": {},
        "model_file": None,
        "trust_remote_code": False,
        "_attn_implementation": "sdpa",
    }
    assert read(tmp_path, LLAMA | harmless)["model_type"] == "llama"
    assert read(tmp_path, {"model_type": "x"} | harmless)["model_type"] == "x"


def test_architectures_that_are_exported_are_those_that_need_no_code_of_their_own() -> None:
    assert set(NATIVE.values()) == set(FAMILIES)
