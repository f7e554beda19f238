"""Where tensors go, what scaling becomes, and everything that is refused by name."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from localtune.errors import InputError
from localtune.export.families import convert
from localtune.export.rope import llama3_factors
from localtune.export.values import regrouped
from localtune.model import resolve
from tests.unit.export.tiny import llama


def refused(folder: Path, **config: Any) -> dict[str, str]:
    """Code -> sentence of what keeps the model in `folder`, with these keys in its config.json, from being written."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    with pytest.raises(InputError) as caught:
        convert(resolve(str(folder), folder, offline=True))
    return {problem.code: problem.what for problem in caught.value.problems}


def resaved(folder: Path, change: Any) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    llama(tmp_path / "m", 300, eos=2)
    return tmp_path / "m"


@pytest.mark.parametrize("theta", [10_000.0, 500_000.0])
@pytest.mark.parametrize(("factor", "low", "high", "original"), [(8.0, 1.0, 4.0, 8192), (32.0, 1.0, 4.0, 64)])
def test_llama3_factors_are_transformers(theta: float, factor: float, low: float, high: float, original: int) -> None:
    scaling = {"rope_type": "llama3", "factor": factor, "low_freq_factor": low, "high_freq_factor": high}
    scaling["original_max_position_embeddings"] = original
    config = LlamaConfig(head_dim=64, rope_parameters={**scaling, "rope_theta": theta})
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
    plain = 1.0 / theta ** (np.arange(0, 64, 2) / 64)
    np.testing.assert_allclose(plain / llama3_factors(scaling, theta, 64), scaled.numpy(), rtol=2e-6)


def test_regrouping_moves_halves_into_pairs() -> None:
    rows = np.arange(8, dtype=np.float32)[:, None]
    assert regrouped(rows, 4)[:, 0].tolist() == [0, 2, 1, 3, 4, 6, 5, 7]
    assert regrouped(rows[:, 0], 4).tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


def test_an_unknown_architecture_is_named(folder: Path) -> None:
    found = refused(folder, architectures=["MambaForCausalLM"])
    assert "MambaForCausalLM" in found["gguf.architecture"]
    assert "LlamaForCausalLM, MistralForCausalLM" in found["gguf.architecture"]


@pytest.mark.parametrize("kind", ["yarn", "dynamic", "longrope", "made-up"])
def test_other_rope_types_are_named(folder: Path, kind: str) -> None:
    found = refused(folder, rope_parameters={"rope_type": kind, "factor": 2.0, "rope_theta": 10000.0})
    assert kind in found["gguf.rope"]


@pytest.mark.parametrize(
    "parameters",
    [
        {"rope_type": "linear", "factor": 2.0, "surprise": 1},
        {"rope_type": "linear"},
        {"rope_type": "linear", "factor": "2"},
        {"rope_type": "linear", "factor": -1},
        {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
        {
            **{"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 4.0, "high_freq_factor": 4.0},
            "original_max_position_embeddings": 64,
        },
        {"rope_type": "default", "partial_rotary_factor": 0.5},
    ],
)
def test_rope_parameters_that_are_not_understood_are_refused(folder: Path, parameters: dict[str, Any]) -> None:
    assert "gguf.rope" in refused(folder, rope_parameters={"rope_theta": 10000.0, **parameters})


def test_a_quantised_checkpoint_is_refused(folder: Path) -> None:
    assert "bitsandbytes" in refused(folder, quantization_config={"quant_method": "bitsandbytes"})["gguf.quantised"]


def test_another_activation_is_refused(folder: Path) -> None:
    assert "gelu" in refused(folder, hidden_act="gelu")["gguf.activation"]


def test_an_unknown_tensor_is_named(folder: Path) -> None:
    resaved(folder, lambda tensors: tensors.update({"model.layers.0.mlp.extra.weight": np.zeros(3, np.float32)}))
    assert "model.layers.0.mlp.extra.weight" in refused(folder)["gguf.tensors"]


def test_a_missing_tensor_is_named(folder: Path) -> None:
    resaved(folder, lambda tensors: tensors.pop("model.layers.1.mlp.up_proj.weight"))
    assert "model.layers.1.mlp.up_proj.weight" in refused(folder)["gguf.tensors"]


def test_a_wrong_shape_is_named(folder: Path) -> None:
    resaved(folder, lambda tensors: tensors.update({"model.norm.weight": np.zeros(63, np.float32)}))
    assert "model.norm.weight is [63], expected [64]" in refused(folder)["gguf.tensors"]


def test_a_type_that_is_no_weight_is_named(folder: Path) -> None:
    resaved(folder, lambda tensors: tensors.update({"model.norm.weight": np.zeros(64, np.int32)}))
    assert "stored as I32" in refused(folder)["gguf.tensors"]


def test_biases_that_config_does_not_state_are_refused(folder: Path) -> None:
    resaved(
        folder,
        lambda tensors: tensors.update({"model.layers.0.self_attn.q_proj.bias": np.zeros(64, np.float32)}),
    )
    assert "q_proj.bias" in refused(folder)["gguf.tensors"]


def test_rotary_buffers_and_a_head_beside_a_tied_one_are_skipped(folder: Path) -> None:
    resaved(
        folder,
        lambda tensors: tensors.update({"model.layers.0.self_attn.rotary_emb.inv_freq": np.zeros(8, np.float32)}),
    )
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"tie_word_embeddings": True}))
    names = [placed.name for placed in convert(resolve(str(folder), folder, offline=True)).tensors]
    assert "output.weight" not in names
    assert len(names) == len(set(names)) == 2 * 9 + 2


def test_a_window_shorter_than_the_context_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    llama(folder, 300, eos=2, mistral=True, sliding_window=None)
    assert convert(resolve(str(folder), folder, offline=True)).architecture == "llama"
    assert "sliding_window 128" in refused(folder, sliding_window=128)["gguf.sliding-window"]
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"sliding_window": 256}))
    assert convert(resolve(str(folder), folder, offline=True))
    silent = {key: value for key, value in json.loads(path.read_text()).items() if key != "sliding_window"}
    path.write_text(json.dumps(silent))
    assert "4096" in refused(folder, max_position_embeddings=8192)["gguf.sliding-window"]


@pytest.mark.parametrize("value", [None, "x", "1e-5", 0, 0.0, 1e300, -1e-5, float("nan"), float("inf"), True, [1e-5]])
def test_an_epsilon_that_is_none_is_refused_with_its_value(folder: Path, value: Any) -> None:
    assert f"rms_norm_eps is {value!r}" in refused(folder, rms_norm_eps=value)["gguf.config"]


@pytest.mark.parametrize("key", ["attention_bias", "mlp_bias"])
@pytest.mark.parametrize("value", ["false", 1, {}])
def test_a_flag_that_is_none_is_refused_with_its_value(folder: Path, key: str, value: Any) -> None:
    assert f"{key} is {value!r}" in refused(folder, **{key: value})["gguf.config"]


@pytest.mark.parametrize("value", ["128", 0, 12.5, True])
def test_a_window_that_is_no_number_is_refused(tmp_path: Path, value: Any) -> None:
    folder = tmp_path / "m"
    llama(folder, 300, eos=2, mistral=True, sliding_window=None)
    found = refused(folder, sliding_window=value, use_sliding_window=False)
    assert f"sliding_window is {value!r}" in found["gguf.config"]
