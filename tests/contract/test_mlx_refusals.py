"""What MLX refuses by name before anything is loaded, each with its reason."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from localtune.adapter import Full
from localtune.backend import Backend, OptimizerSpec, Precision, Refusal
from tests.contract.conftest import (
    FAMILIES,
    LORA,
    MORE,
    PARITY,
    Models,
    files_of,
    installed,
    logits_apart,
    make_model,
    open_on,
    segment,
    with_config,
)
from tests.contract.test_probe_and_refusals import settings

TOKENS = segment(40, 9).tokens.tolist()


@pytest.fixture(scope="module")
def backend() -> Backend:
    return installed("mlx")


@pytest.mark.parametrize("family", ["qwen2-window", "gemma2"])
def test_texts_longer_than_a_window_that_mlx_lm_ignores_are_refused(
    backend: Backend, models: Models, family: str
) -> None:
    files = models(family)
    assert files.config.sliding_window == 6
    (found,) = backend.supports(files, settings(max_tokens=7))
    assert found.setting == "data.max_tokens"
    assert "6" in found.reason
    assert found.fix == "--set data.max_tokens=6"
    assert backend.supports(files, settings(max_tokens=6)) == []


@pytest.mark.parametrize("family", ["gemma3", "mistral", "phi3"])
def test_windows_that_are_computed_are_taken_at_any_length(backend: Backend, models: Models, family: str) -> None:
    assert models(family).config.sliding_window == 6
    assert backend.supports(models(family), settings(max_tokens=200)) == []


FACTORS = {"short_factor": [1.0] * 6, "long_factor": [2.0] * 6, "original_max_position_embeddings": 64}
SCALINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "longrope": ("phi3", {"rope_type": "longrope", "rope_theta": 10_000.0, **FACTORS}),
    "dynamic": ("llama", {"rope_type": "dynamic", "rope_theta": 10_000.0, "factor": 2.0}),
}


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("kind", SCALINGS)
def test_scalings_that_look_at_the_length_are_refused(
    backend: Backend, models: Models, tmp_path: Path, kind: str, packed: bool
) -> None:
    family, scaling = SCALINGS[kind]
    changes = {"rope_parameters": scaling, "sliding_window": None, "original_max_position_embeddings": 64}
    files = with_config(models(family), tmp_path / "scaled", changes)
    assert (files.config.rope_scaling or {})["rope_type"] == kind
    found = backend.supports(files, settings(packed=packed))
    assert found
    assert any(kind in refusal.reason for refusal in found)


def test_an_architecture_that_mlx_lm_lacks_is_sent_to_pytorch(backend: Backend, models: Models, tmp_path: Path) -> None:
    files = models("llama")
    unknown = replace(files, config=replace(files.config, architecture="NewForCausalLM", model_type="new"))
    (found,) = backend.supports(unknown, settings())
    assert found.setting == "model"
    assert "NewForCausalLM" in found.reason
    assert "torch" in found.fix


def with_quantization(models: Models, folder: Path, method: str) -> list[Refusal]:
    files = with_config(models("llama-even"), folder, {"quantization_config": {"quant_method": method, "bits": 4}})
    return installed("mlx").supports(files, settings())


@pytest.mark.parametrize("method", ["bitsandbytes", "gptq", "awq", "fp8"])
def test_checkpoints_of_other_quantisers_are_refused_with_what_to_do(
    models: Models, tmp_path: Path, method: str
) -> None:
    (found,) = with_quantization(models, tmp_path / "other", method)
    assert found.setting == "model"
    assert method in found.reason
    assert found.fix


@pytest.mark.parametrize("storage", ["affine4", "affine8", "mxfp4", "nf4"])
def test_full_fine_tuning_of_a_quantised_base_is_refused(backend: Backend, models: Models, storage: Any) -> None:
    found = backend.supports(models("llama-even"), settings(Precision(storage, "float32"), Full()))
    assert "train.method" in [refusal.setting for refusal in found]


def test_nf4_is_refused_with_what_to_take_instead(backend: Backend, models: Models) -> None:
    (found,) = backend.supports(models("llama-even"), settings(Precision("nf4", "float32")))
    assert found.setting == "train.quantize"
    assert "nf4" in found.reason.lower()
    assert found.fix == "--set train.quantize=auto"


def test_int8_and_float16_are_refused(backend: Backend, models: Models) -> None:
    (whole,) = backend.supports(models("llama-even"), settings(Precision("int8", "float32")))
    assert "int8" in whole.reason
    (half,) = backend.supports(models("llama-even"), settings(Precision("float16", "float16")))
    assert (half.setting, half.fix) == ("train.precision", "--set train.precision=auto")


WIDTHS = [("affine4", 32, 96), ("affine4", 48, 96), ("mxfp4", 48, 64), ("nvfp4", 40, 64), ("affine8", 64, 172)]


@pytest.mark.parametrize(("storage", "hidden", "feed_forward"), WIDTHS)
def test_widths_that_no_group_divides_are_refused(
    backend: Backend, tmp_path: Path, storage: Any, hidden: int, feed_forward: int
) -> None:
    shape = {"hidden_size": hidden, "intermediate_size": feed_forward, "head_dim": 16}
    files = files_of(make_model(("LlamaForCausalLM", shape), tmp_path / "odd"))
    found = backend.supports(files, settings(Precision(storage, "float32")))
    if hidden % 32 == 0 and feed_forward % 32 == 0:
        assert found == []  # groups of 32 where 64 does not divide
        return
    (refusal,) = found
    assert refusal.setting == "train.quantize"
    assert str(hidden if hidden % 32 else feed_forward) in refusal.reason
    assert refusal.fix


def test_an_optimizer_without_a_name_here_is_refused(backend: Backend, models: Models) -> None:
    unknown: Any = "muon"
    asked = replace(settings(), optimizer=OptimizerSpec(name=unknown))
    (found,) = backend.supports(models("llama"), asked)
    assert found.setting == "train.optimizer"
    assert "muon" in found.reason


CHANGES: dict[str, tuple[str, dict[str, Any]]] = {
    "another activation": ("llama", {"hidden_act": "gelu"}),
    "biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "norm's epsilon": ("llama", {"rms_norm_eps": 0.02}),
    "heads of another width": ("llama", {"head_dim": 20}),
    "relu": ("qwen2", {"hidden_act": "relu"}),
    "tied qwen2": ("qwen2", {"tie_word_embeddings": True}),
    "heads of another width in qwen2": ("qwen2", {"head_dim": 20}),
    "biases in qwen3": ("qwen3", {"attention_bias": True}),
    "untied gemma2": ("gemma2-inside", {"tie_word_embeddings": False}),
    "uncapped gemma2": ("gemma2-inside", {"attn_logit_softcapping": None}),
    "gemma2's scale": ("gemma2-inside", {"query_pre_attn_scalar": 7, "rms_norm_eps": 0.02}),
    "layers in another order": ("gemma3", {"layer_types": ["full_attention", "sliding_attention"]}),
    "every layer full": ("gemma3", {"layer_types": ["full_attention", "full_attention"]}),
    "every layer sliding": ("gemma3", {"layer_types": ["sliding_attention", "sliding_attention"]}),
    "both directions": ("gemma3", {"use_bidirectional_attention": True}),
    "capped gemma3": ("gemma3", {"final_logit_softcapping": 5.0}),
    "capped attention in gemma3": ("gemma3", {"attn_logit_softcapping": 2.0}),
    "untied gemma3": ("gemma3", {"tie_word_embeddings": False}),
    "half of a head rotates": (
        "phi3-inside",
        {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}},
    ),
    "half of a head rotates in llama": (
        "llama",
        {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}},
    ),
    "tied phi3": ("phi3-inside", {"tie_word_embeddings": True}),
    "granite's factors": ("granite", {"attention_multiplier": 0.3, "embedding_multiplier": 2.0}),
    "untied granite": ("granite", {"tie_word_embeddings": False, "mlp_bias": True}),
    "normed heads in cohere": ("cohere", {"use_qk_norm": True}),
    "biases in cohere": ("cohere", {"attention_bias": True, "layer_norm_eps": 0.02}),
    "untied cohere": ("cohere", {"tie_word_embeddings": False}),
    "smollm3's layers": ("smollm3", {"no_rope_layers": [0, 1], "no_rope_layer_interval": 4}),
    "sliding smollm3": ("smollm3", {"sliding_window": 6, "use_sliding_window": True}),
}


@pytest.mark.parametrize("case", CHANGES.values(), ids=CHANGES.keys())
def test_what_mlx_lm_might_ignore_in_a_configuration_is_computed_or_refused(
    backends: tuple[Backend, Backend], tmp_path: Path, case: tuple[str, dict[str, Any]]
) -> None:
    family, change = case
    kind, extra = FAMILIES[family]
    files = files_of(make_model((kind, {**extra, **change}), tmp_path / "changed"))
    if found := backends[1].supports(files, settings()):
        assert all(refusal.reason for refusal in found)
        return
    said = []
    for backend in backends:
        with open_on(backend, files, LORA) as session:
            said.append(session.logits(TOKENS, range(40)))
    assert logits_apart(said[1], said[0]) <= 1e-5


def test_every_family_that_mlx_takes_is_compared_with_pytorch(models: Models) -> None:
    installed("mlx")
    from localtune_mlx.families import FAMILIES as KNOWN

    assert {models(family).config.model_type for family in (*PARITY, *MORE)} == set(KNOWN)


ODD: dict[str, tuple[str, dict[str, Any]]] = {
    "rotary share": ("llama", {"partial_rotary_factor": "x"}),
    "pattern": ("gemma3", {"layer_types": None, "sliding_window_pattern": "a"}),
    "pattern beyond the layers": ("gemma3", {"layer_types": None, "sliding_window_pattern": 6}),
    "kinds": ("gemma3", {"layer_types": [["a"], ["b"]]}),
    "no factor": ("llama", {"rope_parameters": {"rope_type": "yarn", "rope_theta": 300.0}}),
}


@pytest.mark.parametrize("case", ODD.values(), ids=ODD.keys())
def test_values_that_make_no_sense_are_refused_as_the_models(
    backend: Backend, models: Models, tmp_path: Path, case: tuple[str, dict[str, Any]]
) -> None:
    family, changes = case
    found = backend.supports(with_config(models(family), tmp_path / "odd", changes), settings(max_tokens=6))
    assert {refusal.setting for refusal in found} == {"model"}


def test_what_is_refused_is_mended_by_the_flag_that_wins(backend: Backend, models: Models, tmp_path: Path) -> None:
    (found,) = backend.supports(with_config(models("llama"), tmp_path / "gelu", {"hidden_act": "gelu"}), settings())
    assert found.fix == "--backend torch"
