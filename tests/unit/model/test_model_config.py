"""`config.json` in the forms of transformers 4 and 5, and what is refused in it."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from localtune.errors import InputError, Problem
from localtune.model.config import ModelConfig, model_config, read_config, stop_ids
from localtune.model.tensors import TensorInfo

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "num_hidden_layers": 2,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 8,
    "vocab_size": 500,
    "max_position_embeddings": 256,
}
EMBEDDING = TensorInfo("model.embed_tokens.weight", (512, 64), "BF16", 65536, "model.safetensors")
HEAD = TensorInfo("lm_head.weight", (512, 64), "F32", 131072, "model.safetensors")


def config(*tensors: TensorInfo, **changes: Any) -> ModelConfig:
    return model_config(CONFIG | changes, tensors or (EMBEDDING, HEAD))


def refusal(*tensors: TensorInfo, **changes: Any) -> Problem:
    with pytest.raises(InputError) as caught:
        config(*tensors, **changes)
    assert caught.value.problems[0].where == "config.json"
    assert caught.value.problems[0].fix
    return caught.value.problems[0]


def test_absent_keys_take_the_defaults_of_the_family() -> None:
    found = config()
    assert (found.kv_heads, found.head_dim, found.tied, found.rope_theta) == (8, 8, False, None)
    assert (found.rope_scaling, found.sliding_window, found.quantized) == (None, None, None)


def test_the_rows_of_the_embedding_are_the_vocabulary() -> None:
    assert config().vocabulary == 512
    assert config(HEAD).vocabulary == 500


@pytest.mark.parametrize(
    "key",
    [
        *("num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads", "vocab_size"),
        "max_position_embeddings",
    ],
)
@pytest.mark.parametrize("value", [None, 0, -1, "8", 2.5, True, [1], 2**31])
def test_a_count_that_is_missing_or_none_is_named(key: str, value: object) -> None:
    problem = refusal(**{key: value})
    assert problem.code == "model.config"
    assert problem.what.startswith(f"{key} is ")
    assert problem.what.endswith("expected a whole number above 0")


def test_a_head_size_that_cannot_be_derived_is_refused() -> None:
    assert "head_dim is missing" in refusal(num_attention_heads=7).what
    assert config(num_attention_heads=7, head_dim=16).head_dim == 16


@pytest.mark.parametrize("names", [None, [], "LlamaForCausalLM", ["A", "B"], [5]])
def test_an_architecture_is_one_name(names: object) -> None:
    assert refusal(architectures=names).what.startswith("architectures is ")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"architectures": ["LlamaForSequenceClassification"]}, "model.architecture"),
        ({"is_encoder_decoder": True}, "model.architecture"),
        ({"architectures": ["Gemma3ForConditionalGeneration"], "text_config": {}}, "model.multimodal"),
    ],
)
def test_what_does_not_continue_text_is_refused(changes: dict[str, Any], code: str) -> None:
    assert refusal(**changes).code == code


def test_theta_is_read_from_both_forms() -> None:
    assert config(rope_theta=5e5).rope_theta == 5e5
    assert config(rope_parameters={"rope_type": "default", "rope_theta": 5e5}).rope_theta == 5e5
    assert config(rope_theta=5e5, rope_parameters={"rope_theta": 500000}).rope_theta == 5e5


def test_two_different_thetas_are_refused() -> None:
    problem = refusal(rope_theta=10000, rope_parameters={"rope_theta": 500000.0})
    assert problem.what == "rope_theta is 10000, but rope_parameters says 500000"


@pytest.mark.parametrize("theta", ["10000", 0, -1, True, [1]])
def test_a_theta_that_is_no_number_is_refused(theta: object) -> None:
    assert refusal(rope_theta=theta).what.startswith("rope_theta is ")


LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}


@pytest.mark.parametrize(
    "changes",
    [
        {"rope_scaling": {"rope_type": "llama3", **LLAMA3}},
        {"rope_scaling": {"type": "llama3", **LLAMA3}},
        {"rope_scaling": {"type": "llama3", "rope_type": "llama3", **LLAMA3}},
        {"rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5, **LLAMA3}},
        {"rope_parameters": {"rope_type": "llama3", **LLAMA3}, "rope_scaling": {"type": "llama3", **LLAMA3}},
        {"rope_parameters": {"full_attention": {"rope_type": "llama3", **LLAMA3}, "sliding_attention": {}}},
    ],
)
def test_scaling_has_one_form_however_it_is_written(changes: dict[str, Any]) -> None:
    assert config(**changes).rope_scaling == {"rope_type": "llama3", **LLAMA3}


def test_a_scaling_that_is_the_default_is_none() -> None:
    assert config(rope_scaling={"type": "default"}).rope_scaling is None
    assert config(rope_parameters={"rope_type": "default", "partial_rotary_factor": 0.5}).rope_scaling is None


def test_the_old_name_of_longrope_is_known() -> None:
    assert config(rope_scaling={"type": "su", "short_factor": [1.0]}).rope_scaling == {
        "rope_type": "longrope",
        "short_factor": [1.0],
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"rope_scaling": {"type": "linear", "rope_type": "yarn"}},
        {"rope_scaling": {"type": "linear", "factor": 2}, "rope_parameters": {"rope_type": "default"}},
        {"rope_scaling": "linear"},
        {"rope_parameters": []},
    ],
)
def test_a_scaling_that_contradicts_itself_is_refused(changes: dict[str, Any]) -> None:
    assert refusal(**changes | {"rope_parameters": changes.get("rope_parameters")}).code == "model.config"


def test_a_stated_tie_counts_and_a_silent_file_means_the_family() -> None:
    assert config(EMBEDDING, tie_word_embeddings=True).tied
    assert not config(EMBEDDING, HEAD, tie_word_embeddings=False).tied
    assert config(EMBEDDING, model_type="gemma2").tied


@pytest.mark.parametrize("stated", [None, False])
def test_an_untied_model_without_a_head_is_refused(stated: bool | None) -> None:
    problem = refusal(EMBEDDING, tie_word_embeddings=stated)
    assert problem.code == "model.no-head"
    assert '"tie_word_embeddings": true' in problem.fix


def test_a_tie_that_is_no_boolean_is_refused() -> None:
    assert refusal(tie_word_embeddings="yes").what == "tie_word_embeddings is 'yes'; expected true or false"


def test_a_window_that_is_switched_off_is_none() -> None:
    assert config(sliding_window=128).sliding_window == 128
    assert config(sliding_window=128, use_sliding_window=False).sliding_window is None
    assert config(sliding_window=128, model_type="qwen2").sliding_window is None
    assert config(sliding_window=128, model_type="qwen2", use_sliding_window=True).sliding_window == 128
    assert config(sliding_window=128, layer_types=["full_attention"]).sliding_window is None
    assert config(sliding_window=128, layer_types=["sliding_attention"]).sliding_window == 128


def test_smollm3_states_a_window_that_is_off_until_it_is_switched_on() -> None:
    assert config(sliding_window=128, model_type="smollm3").sliding_window is None
    assert config(sliding_window=128, model_type="smollm3", use_sliding_window=True).sliding_window == 128


@pytest.mark.parametrize("family", ["mistral", "gemma2", "gemma3_text", "cohere2"])
def test_a_window_of_null_is_none_where_a_silent_file_has_one(family: str) -> None:
    assert config(model_type=family).sliding_window == 4096
    assert config(model_type=family, sliding_window=None).sliding_window is None


@pytest.mark.parametrize("changes", [{}, {"use_sliding_window": True}], ids=["silent", "switched on"])
def test_a_silent_file_has_the_window_of_the_family_in_transformers(changes: dict[str, Any]) -> None:
    classes = pytest.importorskip("transformers.models.auto.configuration_auto").CONFIG_MAPPING
    names = pytest.importorskip("transformers.models.auto.modeling_auto").MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    expected, found = {}, {}
    others = {"moshi", "modernbert-decoder"}  # a window over sound; one that is stated as local_attention
    for family in sorted(set(classes) & set(names) - others):
        with suppress(Exception):  # a class that cannot be made from nothing has no defaults
            expected[family] = _window_in_transformers(classes[family](**changes))
            found[family] = config(EMBEDDING, tie_word_embeddings=True, model_type=family, **changes).sliding_window
    assert {"mistral", "gemma2", "gemma3_text", "phi3", "qwen2", "starcoder2", "cohere2"} <= set(found)
    assert found == expected


def _window_in_transformers(made: Any) -> int | None:
    """What a configuration gives its sliding layers; None where it has none."""
    slides = getattr(made, "use_sliding_window", None) is not False
    kinds = getattr(made, "layer_types", None)
    return getattr(made, "sliding_window", None) if slides and (not kinds or "sliding_attention" in kinds) else None


def test_the_dtype_is_stated_under_either_name_or_that_of_most_bytes() -> None:
    assert config(torch_dtype="bfloat16").dtype == "bfloat16"
    assert config(dtype="torch.float16").dtype == "float16"
    assert config().dtype == "float32"
    assert config(EMBEDDING, tie_word_embeddings=True).dtype == "bfloat16"
    assert refusal(dtype="float16", torch_dtype="float32").what.startswith("dtype and torch_dtype differ")


@pytest.mark.parametrize(
    ("changes", "method"),
    [
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "gptq"),
        ({"quantization": {"group_size": 64, "bits": 4}}, "mlx"),
        ({key: {"group_size": 64, "bits": 4} for key in ("quantization", "quantization_config")}, "mlx"),
        ({"quantization_config": {"bits": 4}}, "unknown"),
        ({"quantization_config": None}, None),
    ],
)
def test_a_quantised_checkpoint_names_its_method(changes: dict[str, Any], method: str | None) -> None:
    assert config(**changes).quantized == method


@pytest.mark.parametrize(
    ("content", "where", "part"),
    [
        (b'{"a": 1,\n "b" 2}', "config.json:2:6", "not valid JSON"),
        (b"[]", "config.json", "does not hold a JSON object"),
        (b'{"a": "' + b"x" * 1_000_000 + b'"}', "config.json", "larger than 1,000,000 bytes"),
        (b'{"a": 1, "a": 2}', "config.json", "'a' is there twice"),
        (b'{"a": ' + b"[" * 500 + b"]" * 500 + b"}", "config.json", "nested deeper than 32"),
        (b'{"a": ' + b"[" * 90_000, "config.json", "nested too deeply"),
        (b'{"a": "\xff"}', "config.json", "not UTF-8 at byte 7"),
    ],
)
def test_a_config_that_cannot_be_read_is_named(tmp_path: Path, content: bytes, where: str, part: str) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_config(tmp_path)
    problem = caught.value.problems[0]
    assert (problem.code, problem.where) == ("model.json", where)
    assert part in problem.what
    assert problem.fix


def test_stop_ids_are_those_of_the_generation_config_then_of_the_config(tmp_path: Path) -> None:
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [7, 3]}')
    assert stop_ids(tmp_path, {"eos_token_id": 2}) == (7, 3, 2)
    assert stop_ids(tmp_path, {"eos_token_id": 3}) == (7, 3)
    assert stop_ids(tmp_path / "absent", {"eos_token_id": [2]}) == (2,)
    assert stop_ids(tmp_path / "absent", {}) == ()


@pytest.mark.parametrize("ids", ["2", [2, "3"], True, -1, 2.0, {"a": 1}, [None]])
def test_a_stop_id_that_is_no_token_id_is_refused(tmp_path: Path, ids: object) -> None:
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": ids}))
    with pytest.raises(InputError) as caught:
        stop_ids(tmp_path, {})
    assert caught.value.problems[0].where == "generation_config.json"
    assert caught.value.problems[0].what.startswith("eos_token_id is ")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=5,
)
KEYS = st.sampled_from(
    [
        *CONFIG,
        *("rope_theta", "rope_parameters", "rope_scaling", "tie_word_embeddings", "dtype", "torch_dtype", "head_dim"),
        *("quantization_config", "quantization", "sliding_window", "layer_types", "num_key_value_heads", "text_config"),
    ]
)


@given(st.dictionaries(KEYS, JSON, max_size=4))
def test_random_configs_raise_nothing_but_input_errors(changes: dict[str, Any]) -> None:
    with suppress(InputError):
        config(**changes)


@given(st.binary(max_size=100))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_random_files_raise_nothing_but_input_errors(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with suppress(InputError):
        read_config(tmp_path)
