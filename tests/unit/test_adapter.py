"""An adapter's configuration: what peft writes is read, what cannot be mapped or is no value is refused by name."""

import dataclasses
import json
import string
import sys
from pathlib import Path
from typing import Any

import peft
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localtune import adapter as adapter_module
from localtune.adapter import Lora, base_of, read_peft_config
from localtune.errors import InputError

GOOD: dict[str, Any] = {"peft_type": "LORA", "r": 4, "lora_alpha": 12, "target_modules": ["q_proj", "down_proj"]}


def read(folder: Path, **changes: Any) -> Lora:
    (folder / "adapter_config.json").write_text(json.dumps({**GOOD, **changes}))
    return read_peft_config(folder)


def refused(folder: Path, **changes: Any) -> dict[str, str]:
    """What is wrong, by code."""
    with pytest.raises(InputError) as caught:
        read(folder, **changes)
    assert all(problem.fix and problem.where for problem in caught.value.problems)
    return {problem.code: problem.what for problem in caught.value.problems}


STARTS = [True, False, "gaussian", "orthogonal", "mica"]


@pytest.mark.parametrize("start", STARTS, ids=str)
@pytest.mark.parametrize("kind", [{}, {"use_dora": True}, {"use_rslora": True}], ids=str)
def test_what_peft_writes_is_read(tmp_path: Path, start: Any, kind: dict[str, bool]) -> None:
    config = peft.LoraConfig(
        r=6, lora_alpha=9, lora_dropout=0.1, target_modules=["v_proj", "q_proj"], init_lora_weights=start,
        task_type="CAUSAL_LM", base_model_name_or_path="a/b", revision="main", **kind,
    )  # fmt: skip
    config.save_pretrained(tmp_path)
    found = read_peft_config(tmp_path)
    expected = Lora(6, 9.0, 0.1, ("q_proj", "v_proj"), dora="use_dora" in kind, rslora="use_rslora" in kind)
    assert found == expected


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"r": 3.7}, "r=3.7; expected a whole number of at least 1"),
        ({"r": 0}, "r=0; expected"),
        ({"r": True}, "r=True; expected"),
        ({"r": None}, "r=None; expected"),
        ({"r": 2**70}, "r=1180591620717411303424; expected"),
        ({"lora_alpha": "x"}, "lora_alpha='x'; expected a number from 0 to 1e9"),
        ({"lora_alpha": float("nan")}, "lora_alpha=nan"),
        ({"lora_alpha": 10**400}, "lora_alpha=1000"),
        ({"lora_dropout": "x"}, "lora_dropout='x'; expected a number from 0 to 1"),
        ({"lora_dropout": float("inf")}, "lora_dropout=inf"),
        ({"lora_dropout": -0.1}, "lora_dropout=-0.1"),
        ({"use_dora": "false"}, "use_dora='false'; expected true or false"),
        ({"use_rslora": 1}, "use_rslora=1; expected true or false"),
        ({"target_modules": [1, "a"]}, "target_modules=[1, 'a']; expected a list of names"),
        ({"target_modules": [[]]}, "target_modules=[[]]"),
        ({"target_modules": [""]}, "target_modules=['']"),
        ({"target_modules": []}, "target_modules=[]"),
        ({"target_modules": None}, "target_modules=None"),
        ({"target_modules": {"a": 1}}, "target_modules={'a': 1}"),
    ],
    ids=str,
)
def test_a_value_of_another_type_or_range_is_shown(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    assert words in refused(tmp_path, **change)["adapter.unreadable"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"lora_bias": True}, "lora_bias=True"),
        ({"rank_pattern": {"q_proj": 2}}, "rank_pattern={'q_proj': 2}"),
        ({"layers_to_transform": 0}, "layers_to_transform=0"),
        ({"use_some_new_variant": True}, "use_some_new_variant=True"),
        ({"bias": "all"}, "bias='all'"),
        ({"peft_type": "IA3"}, "peft_type='IA3'"),
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights='pissa_niter_4', which changes the base"),
        ({"init_lora_weights": ["x"]}, "init_lora_weights=['x']"),
        ({"target_modules": "model.*_proj"}, "target_modules='model.*_proj'"),
    ],
    ids=str,
)
def test_what_changes_the_merged_weights_otherwise_is_refused(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    assert words in refused(tmp_path, **change)["adapter.unsupported"]


def test_everything_wrong_is_said_at_once(tmp_path: Path) -> None:
    found = refused(tmp_path, r="x", lora_dropout=2, use_kasa=1, bias="all")
    assert found["adapter.unsupported"] == "cannot map use_kasa=1, bias='all'"
    assert found["adapter.unreadable"].startswith("r='x'")
    assert "lora_dropout=2" in found["adapter.unreadable"]


def test_what_is_unset_or_harmless_is_passed_over(tmp_path: Path) -> None:
    unset: dict[str, Any] = {
        "use_some_new_variant": False,
        "new_config": None,
        "rank_pattern": {},
        "layers_to_transform": None,
    }
    harmless = {"peft_version": "0.99", "megatron_core": "megatron.core", "qalora_group_size": 16, "task_type": "X"}
    assert read(tmp_path, **unset, **harmless) == Lora(4, 12.0, 0.0, ("down_proj", "q_proj"))


def test_every_key_of_pefts_configuration_is_known_to_be_mapped_harmless_or_refused() -> None:
    refused_keys = {
        "modules_to_save", "rank_pattern", "alpha_pattern", "layers_to_transform", "layers_pattern", "lora_bias",
        "layer_replication", "target_parameters", "trainable_token_indices", "fan_in_fan_out", "exclude_modules",
        "alora_invocation_tokens", "use_qalora", "use_bdlora", "arrow_config", "kasa_config", "velora_config",
        "monteclora_config", "megatron_config",
    }  # fmt: skip
    known = adapter_module._MAPPED | adapter_module._HARMLESS
    assert not known & refused_keys
    if peft.__version__.startswith("0.21."):
        assert {field.name for field in dataclasses.fields(peft.LoraConfig)} == known | refused_keys


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(string.ascii_letters, max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)
KEYS = st.sampled_from([*GOOD, "lora_dropout", "use_dora", "use_rslora", "bias", "init_lora_weights", "other"])


@given(changes=st.dictionaries(KEYS, VALUES, max_size=4))
def test_any_values_give_a_sound_lora_or_an_input_error(
    tmp_path_factory: pytest.TempPathFactory, changes: dict[str, Any]
) -> None:
    try:
        found = read(tmp_path_factory.getbasetemp(), **changes)
    except InputError:
        return
    assert found.rank >= 1
    assert 0 <= found.scale < 1e10
    assert 0 <= found.dropout <= 1
    assert all(isinstance(name, str) for name in found.targets)


@pytest.mark.parametrize("text", ["[]", "null", "{", "[" * 100_000], ids=["list", "null", "torn", "deep"])
def test_a_configuration_that_is_no_object_is_one_clear_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "adapter_config.json").write_text(text)
    with pytest.raises(InputError, match=r"adapter_config\.json"):
        read_peft_config(tmp_path)


def test_an_empty_configuration_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(InputError, match=r"no peft_type[\s\S]*no r; expected"):
        read_peft_config(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")
@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_an_adapters_files_may_not_be_links_to_others(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "adapter"
    folder.mkdir()
    read(folder)
    (folder / name).touch()
    (folder / name).rename(tmp_path / "secret")
    (folder / name).symlink_to(tmp_path / "secret")
    for reader in (read_peft_config, base_of):
        with pytest.raises(InputError, match=r"model\.link"):
            reader(folder)
