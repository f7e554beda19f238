"""What a backend says of the machine, and which models it takes; what one backend alone refuses is in its own file."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from localtune.adapter import Full, Trainable
from localtune.backend import Backend, Precision, Settings
from localtune.objectives import SFT
from tests.contract.conftest import (
    FAMILIES,
    FLOAT32,
    LONGEST,
    LORA,
    PLAIN,
    ROOMY,
    Models,
    Opener,
    needs,
    precision_of,
    segment,
)


def settings(
    precision: Precision = FLOAT32, trainable: Trainable = LORA, *, packed: bool = True, max_tokens: int = LONGEST
) -> Settings:
    return Settings(trainable, precision, SFT, PLAIN, ROOMY, max_tokens, packed)


def test_the_device_says_what_it_is_and_why(backend: Backend) -> None:
    device = backend.probe()
    assert device.kind in ("cpu", "cuda", "metal")
    assert device.memory_limit > 10**8
    assert set(device.dtypes) <= {"float32", "bfloat16", "float16"}
    assert "float32" in device.dtypes
    assert device.reason
    assert device.versions


TAKEN: Mapping[str, set[str]] = {
    "torch": set(FAMILIES),
    "mlx": set(FAMILIES) - {"qwen2-window", "gemma2"},  # some of their layers slide, and the texts are longer
}


def test_exactly_these_families_are_taken_packed(backend: Backend, models: Models) -> None:
    taken = {family for family in FAMILIES if not backend.supports(models(family), settings())}
    assert taken == TAKEN[backend.probe().backend]


@pytest.mark.parametrize("precision", ["bfloat16", "quantised", "quantised-bfloat16"])
@pytest.mark.parametrize("trainable", [LORA, replace(LORA, dora=True)], ids=["lora", "dora"])
def test_every_way_to_hold_the_base_is_taken(
    backend: Backend, models: Models, precision: str, trainable: Trainable
) -> None:
    asked = precision_of(backend, precision)
    needs(asked)
    refusals = backend.supports(models("llama-even"), settings(asked, trainable))
    rounded = backend.probe().backend == "torch" and precision == "quantised-bfloat16" and trainable != LORA
    assert [refusal.setting for refusal in refusals] == (["lora.dora"] if rounded else [])


@pytest.mark.parametrize("compute", ["float32", "bfloat16"])
def test_full_fine_tuning_in_float32_weights_is_taken(backend: Backend, models: Models, compute: Any) -> None:
    assert backend.supports(models("llama"), settings(Precision("float32", compute), Full())) == []


OTHER_MODELS = [
    ({"architecture": "T5ForConditionalGeneration", "model_type": "t5"}, "T5"),
    ({"quantized": "gptq"}, "gptq"),
    ({"quantized": "awq"}, "awq"),
    ({"quantized": "bitsandbytes"}, "bitsandbytes"),
]


@pytest.mark.parametrize(("changed", "word"), OTHER_MODELS, ids=lambda value: value if isinstance(value, str) else "")
def test_a_model_of_another_kind_is_refused(
    backend: Backend, models: Models, changed: dict[str, Any], word: str
) -> None:
    files = models("llama")
    found = backend.supports(replace(files, config=replace(files.config, **changed)), settings())
    assert [refusal.setting for refusal in found] == ["model"]
    assert word in found[0].reason


def test_what_is_taken_opens_and_answers(open_session: Opener) -> None:
    tokens = segment(12, 5).tokens.tolist()
    with open_session("llama", objective=None, optimizer=None) as session:
        assert session.logits(tokens, [11, 0]).shape == (2, 96)
