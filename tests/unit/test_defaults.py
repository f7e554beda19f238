"""What `auto` stands for on each backend, and settings that leave it no room."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from localtune import defaults
from localtune.backend import Device, OptimizerSpec, Precision
from localtune.model import ModelFiles
from localtune.plan import optimizer_of
from localtune.settings import Recipe
from tests.unit.shapes import GB, big_model, recipe

TORCH = Device("torch", "cuda", "a card", 8 * GB, ("bfloat16", "float32"), {}, "for the test")
MLX = replace(TORCH, backend="mlx", kind="metal", name="a Mac")


def _quantised() -> ModelFiles:
    model = big_model()
    return replace(model, config=replace(model.config, quantized="mlx"))


@pytest.mark.parametrize(
    ("device", "train", "expected"),
    [
        (TORCH, {}, ("bfloat16", "bfloat16")),
        (TORCH, {"method": "qlora"}, ("nf4", "bfloat16")),
        (MLX, {"method": "qlora"}, ("affine4", "bfloat16")),
        (MLX, {"method": "qlora", "quantize": "mxfp4"}, ("mxfp4", "bfloat16")),
        (TORCH, {"method": "qlora", "quantize": "affine8"}, ("affine8", "bfloat16")),
        (MLX, {"method": "lora", "quantize": "mxfp4"}, ("bfloat16", "bfloat16")),
        (MLX, {"method": "full"}, ("float32", "bfloat16")),
        (MLX, {"method": "qlora", "precision": "float32"}, ("affine4", "float32")),
    ],
)
def test_the_base_is_stored_as_method_backend_and_recipe_say(
    device: Device, train: dict[str, Any], expected: tuple[str, str]
) -> None:
    found = defaults.precision(recipe(**train), big_model(), device)
    assert (found.storage, found.compute) == expected


@pytest.mark.parametrize("method", ["lora", "qlora"])
@pytest.mark.parametrize("device", [TORCH, MLX], ids=lambda device: device.backend)
def test_a_base_that_is_quantised_in_its_files_is_used_as_it_is(device: Device, method: str) -> None:
    found = defaults.precision(recipe(method=method), _quantised(), device)
    assert found == Precision("checkpoint", "bfloat16")
    assert defaults.precision(recipe(method="full"), _quantised(), device).storage == "float32"


def test_dora_over_a_quantised_base_computes_in_float32() -> None:
    def dora(method: str) -> Recipe:
        return recipe(method=method).model_copy(update={"lora": recipe().lora.model_copy(update={"dora": True})})

    assert defaults.precision(dora("qlora"), big_model(), MLX).compute == "float32"
    assert defaults.precision(dora("lora"), _quantised(), MLX).compute == "float32"
    assert defaults.precision(dora("lora"), big_model(), MLX).compute == "bfloat16"


@pytest.mark.parametrize("method", ["lora", "qlora", "full"])
def test_a_quantiser_named_for_a_base_that_is_quantised_already_is_refused(method: str) -> None:
    (found,) = defaults.conflicts(recipe(method=method, quantize="mxfp4"), _quantised(), MLX)
    assert (found.setting, found.fix) == ("train.quantize", "--set train.quantize=auto")
    assert defaults.conflicts(recipe(method=method), _quantised(), MLX) == []


def test_metal_never_gives_more_than_four_fifths() -> None:
    assert defaults.memory_limit(recipe(), MLX) == int(0.8 * 8 * GB)
    assert defaults.memory_limit(recipe(), TORCH) == int(0.9 * 8 * GB)
    assert defaults.memory_limit(recipe(memory_limit="6GB"), MLX) == 6 * GB
    assert defaults.conflicts(recipe(memory_limit="6GB"), big_model(), MLX) == []
    (found,) = defaults.conflicts(recipe(memory_limit="7GB"), big_model(), MLX)
    assert found.setting == "train.memory_limit"
    assert "7.00 GB is above 6.40 GB" in found.reason
    assert defaults.conflicts(recipe(memory_limit="7GB"), big_model(), TORCH) == []


@pytest.mark.parametrize("device", [TORCH, MLX], ids=lambda device: device.backend)
@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_quantiser_that_nothing_would_use_is_refused_not_ignored(device: Device, method: str) -> None:
    (refusal,) = defaults.conflicts(recipe(method=method, quantize="affine4"), big_model(), device)
    assert refusal.setting == "train.quantize"
    assert refusal.reason.startswith(f"{method} stores its base unquantised")
    assert refusal.fix == "--set train.method=qlora   or   --set train.quantize=auto"
    assert defaults.conflicts(recipe(method=method), big_model(), device) == []
    assert defaults.conflicts(recipe(method="qlora", quantize="affine4"), big_model(), device) == []


@pytest.mark.parametrize(
    ("train", "rate"),
    [
        ({}, 2e-4),
        ({"method": "full"}, 2e-5),
        ({"optimizer": "lion"}, 4e-5),
        ({"optimizer": "adafactor", "method": "full"}, 0.01),
        ({"optimizer": "lion", "learning_rate": 0.5}, 0.5),
    ],
)
def test_the_learning_rate_suits_method_and_optimizer(train: dict[str, Any], rate: float) -> None:
    assert defaults.learning_rate(recipe(**train)) == pytest.approx(rate, rel=1e-12)


def test_lion_has_its_own_betas_and_adamw_keeps_its_own() -> None:
    assert optimizer_of(recipe(optimizer="lion")) == OptimizerSpec("lion", beta1=0.9, beta2=0.99)
    assert optimizer_of(recipe(weight_decay=0.1)) == OptimizerSpec("adamw", weight_decay=0.1)


def test_mlx_packs_rows_no_wider_than_most_examples_since_it_keeps_the_scores_of_a_row() -> None:
    lengths = np.array([300] * 97 + [2000] * 3)
    assert defaults.packed_width(lengths, MLX) == 320
    assert defaults.packed_width(lengths // 10, MLX) == defaults.NARROWEST
    assert defaults.packed_width(lengths, TORCH) == 0
    assert defaults.packed_width(lengths[:0], MLX) == 0
