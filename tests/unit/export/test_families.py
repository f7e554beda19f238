"""Where tensors go, what scaling becomes, and everything that is refused by name."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from localtune.errors import InputError
from localtune.export.families import FAMILIES, convert
from localtune.export.placed import Conversion
from localtune.export.rope import llama3_factors
from localtune.export.values import regrouped, values_of
from localtune.model import resolve
from localtune.model.plain import plain_weights
from tests.unit.export.test_logits import SHAPES
from tests.unit.export.tiny import llama, random_model


def refused(folder: Path, **config: Any) -> dict[str, str]:
    """Code -> sentence of what keeps the model in `folder`, with these keys in its config.json, from being written."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    with pytest.raises(InputError) as caught:
        convert(resolve(str(folder), folder, offline=True))
    return {problem.code: problem.what for problem in caught.value.problems}


def converted(folder: Path) -> Conversion:
    return convert(resolve(str(folder), folder, offline=True))


def written(folder: Path) -> dict[str, Any]:
    """Name -> values of every tensor of the file."""
    model = resolve(str(folder), folder, offline=True)
    weights, head_dim = plain_weights(model), model.config.head_dim
    return {one.name: np.concatenate([*values_of(one, weights, head_dim)]) for one in convert(model).tensors}


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
    assert all(name in found["gguf.architecture"] for name in FAMILIES)


@pytest.mark.parametrize("kind", ["dynamic", "longrope", "made-up"])
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
        {"rope_type": "yarn", "factor": 4.0, "beta_fast": 20.0},
        {"rope_type": "yarn", "factor": 4.0, "truncate": False},
        {"rope_type": "yarn", "factor": 0.5},
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": "32"},
        {"full_attention": {"rope_type": "default"}, "sliding_attention": {"rope_type": "default"}},
    ],
)
def test_rope_parameters_that_are_not_understood_are_refused(folder: Path, parameters: dict[str, Any]) -> None:
    assert "gguf.rope" in refused(folder, rope_parameters={"rope_theta": 10000.0, **parameters})


@pytest.mark.parametrize("method", ["gptq", "awq", "fp8", "compressed-tensors"])
def test_a_quantisation_that_cannot_be_undone_is_refused_by_name(folder: Path, method: str) -> None:
    assert method in refused(folder, quantization_config={"quant_method": method})["gguf.quantised"]


def test_weights_that_mlx_quantised_are_written_dequantised(folder: Path, tmp_path: Path) -> None:
    packed, plain = load_file(folder / "model.safetensors"), load_file(folder / "model.safetensors")
    for name in [name for name, value in packed.items() if value.ndim == 2 and "proj" in name]:
        groups = packed[name].reshape(len(packed[name]), -1, 32)
        least = groups.min(-1)
        scale = (groups.max(-1) - least) / 255
        codes = np.rint((groups - least[..., None]) / scale[..., None]).astype(np.uint8)
        plain[name] = (codes * scale[..., None] + least[..., None]).reshape(packed[name].shape).astype(np.float32)
        packed[name] = codes.reshape(len(codes), -1).view(np.uint32)
        packed |= {name.replace(".weight", ".scales"): scale, name.replace(".weight", ".biases"): least}
    other = tmp_path / "plain"
    shutil.copytree(folder, other)
    save_file(plain, other / "model.safetensors")
    save_file(packed, folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text()) | {"quantization": {"group_size": 32, "bits": 8}}
    (folder / "config.json").write_text(json.dumps(config))
    ours, theirs = written(folder), written(other)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        np.testing.assert_allclose(value, theirs[name], rtol=0, atol=1e-6)


def made(folder: Path, name: str) -> Path:
    """One of the models that are compared with transformers."""
    family, config = SHAPES[name]
    random_model(folder, family, 330, **config)
    return folder


STRANGE: tuple[tuple[str, dict[str, Any], str, str], ...] = (
    ("mixtral", {"hidden_act": "gelu"}, "gguf.activation", "gelu"),
    ("mixtral", {"num_experts_per_tok": 9}, "gguf.config", "num_experts_per_tok 9"),
    ("smollm3", {"no_rope_layers": [1, 1, 1, 1]}, "gguf.rope", "no_rope_layers"),
    ("smollm3", {"no_rope_layers": None, "no_rope_layer_interval": 2}, "gguf.rope", "no_rope_layers"),
    ("smollm3", {"attention_bias": True}, "gguf.config", "attention_bias"),
    ("smollm3", {"mlp_bias": True}, "gguf.config", "mlp_bias"),
    ("qwen3", {"attention_bias": True}, "gguf.config", "attention_bias"),
    ("qwen3-moe", {"norm_topk_prob": False}, "gguf.config", "norm_topk_prob"),
    ("qwen3-moe", {"mlp_only_layers": [1]}, "gguf.config", "mlp_only_layers is [1]"),
    ("qwen3-moe", {"decoder_sparse_step": 2}, "gguf.config", "decoder_sparse_step is 2"),
    ("phi-3", {"rope_parameters": {"rope_type": "yarn", "factor": 2.0}}, "gguf.rope", "yarn"),
    ("phi-3", {"rope_parameters": {"partial_rotary_factor": 0.01}}, "gguf.rope", "partial_rotary_factor 0.01"),
    ("phi-3, longrope within", {"rope_parameters": {"rope_type": "longrope"}}, "gguf.rope", "longrope with"),
    (
        "phi-3, longrope within",
        {"rope_parameters": {"rope_type": "longrope", "long_factor": [1.0], "short_factor": [1.0]}},
        "gguf.rope",
        "1 long factors instead of 8",
    ),
    ("gemma 2", {"query_pre_attn_scalar": 100}, "gguf.config", "query_pre_attn_scalar is 100"),
    ("gemma 2", {"attn_logit_softcapping": None}, "gguf.config", "attn_logit_softcapping is None"),
    ("gemma 2", {"layer_types": ["full_attention"] * 3 + ["sliding_attention"]}, "gguf.config", "layer_types"),
    ("gemma 2", {"hidden_activation": "gelu"}, "gguf.activation", "'gelu'"),
    ("gemma 2", {"use_bidirectional_attention": True}, "gguf.config", "use_bidirectional_attention"),
    ("gemma 3", {"final_logit_softcapping": 30.0}, "gguf.config", "final_logit_softcapping"),
    ("gemma 3", {"rope_parameters": {"sliding_attention": {"rope_type": "linear"}}}, "gguf.rope", "linear"),
    ("gemma 3", {"rope_parameters": None, "rope_local_base_freq": "x"}, "gguf.config", "rope_local_base_freq is 'x'"),
    ("gemma 3", {"layer_types": None, "sliding_window_pattern": 1}, "gguf.config", "layer_types"),
    ("gemma 3", {"layer_types": None, "sliding_window_pattern": "LG"}, "gguf.config", "sliding_window_pattern is 'LG'"),
    ("gemma 3", {"attn_logit_softcapping": 50.0}, "gguf.config", "attn_logit_softcapping"),
    (
        "phi-3, longrope within",
        {"original_max_position_embeddings": 1},
        "gguf.rope",
        "original_max_position_embeddings",
    ),
)


@pytest.mark.parametrize(("name", "config", "code", "words"), STRANGE)
def test_what_llama_cpp_computes_otherwise_is_refused(
    tmp_path: Path, name: str, config: dict[str, Any], code: str, words: str
) -> None:
    assert words in refused(made(tmp_path / "m", name), **config)[code]


def test_experts_may_lie_stacked(tmp_path: Path) -> None:
    folder = made(tmp_path / "m", "qwen3-moe")
    apart = written(folder)

    def stack(tensors: dict[str, Any]) -> None:
        for layer in range(4):
            for part in ("gate_proj", "up_proj", "down_proj"):
                before = f"model.layers.{layer}.mlp."
                each = [tensors.pop(f"{before}experts.{number}.{part}.weight") for number in range(6)]
                tensors[f"{before}switch_mlp.{part}.weight"] = np.stack(each)

    resaved(folder, stack)
    stacked = written(folder)
    assert apart.keys() == stacked.keys()
    assert all(np.array_equal(value, stacked[name]) for name, value in apart.items())


def test_experts_in_another_layout_are_named(tmp_path: Path) -> None:
    folder = made(tmp_path / "m", "mixtral")

    def fuse(tensors: dict[str, Any]) -> None:
        for name in [name for name in tensors if "block_sparse_moe.experts" in name]:
            tensors.pop(name)
        tensors["model.layers.0.mlp.experts.gate_up_proj"] = np.zeros((8, 192, 64), np.float32)

    resaved(folder, fuse)
    with pytest.raises(InputError) as caught:
        converted(folder)
    said = " ".join(problem.what for problem in caught.value.problems)
    assert "has unknown tensors: model.layers.0.mlp.experts.gate_up_proj" in said
    assert "lacks model.layers.0.block_sparse_moe.experts.0.w1.weight" in said
    assert "--converter" in " ".join(problem.fix for problem in caught.value.problems)


def test_longrope_is_noted_where_llama_cpp_chooses_by_its_context(tmp_path: Path) -> None:
    (note,) = converted(made(tmp_path / "m", "phi-3, longrope within")).notes
    assert "beyond 256 tokens" in note
    assert converted(made(tmp_path / "n", "phi-3")).notes == ()


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


@pytest.mark.parametrize("value", [None, "x", "1e-5", 0, 0.0, 1e300, -1e-5, float("nan"), float("inf"), True, [1e-5]])
def test_an_epsilon_that_is_none_is_refused_with_its_value(folder: Path, value: Any) -> None:
    assert f"rms_norm_eps is {value!r}" in refused(folder, rms_norm_eps=value)["gguf.config"]


@pytest.mark.parametrize("key", ["attention_bias", "mlp_bias"])
@pytest.mark.parametrize("value", ["false", 1, {}])
def test_a_flag_that_is_none_is_refused_with_its_value(folder: Path, key: str, value: Any) -> None:
    assert f"{key} is {value!r}" in refused(folder, **{key: value})["gguf.config"]
