"""What PyTorch refuses by name before anything is loaded."""

import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
import torch
from localtune_torch.nf4_kernel import misread
from localtune_torch.refusals import COMMON, causal_models, forward_parameters

from localtune.adapter import TARGET_SETS, Full
from localtune.backend import Backend, Precision, Refusal, Settings
from localtune.errors import InputError
from localtune.model import ModelConfig
from tests.command import ROOT
from tests.contract.conftest import LORA, NF4, Models, Opener, installed, needs
from tests.contract.test_probe_and_refusals import settings


@pytest.fixture(scope="module")
def backend() -> Backend:
    return installed("torch")


def refused(backend: Backend, models: Models, asked: Settings, **changed: Any) -> list[Refusal]:
    files = models("llama")
    config: ModelConfig = replace(files.config, **changed)
    return backend.supports(replace(files, config=config), asked)


CASES: list[tuple[str, Settings, dict[str, Any], str]] = [
    ("train.pack", settings(), {"rope_scaling": {"rope_type": "dynamic"}}, "dynamic"),
    ("train.pack", settings(), {"rope_scaling": {"rope_type": "longrope"}}, "longrope"),
    ("train.pack", settings(), {"architecture": "Lfm2ForCausalLM", "model_type": "lfm2"}, "recurrent"),
    ("model", settings(), {"architecture": "MambaForCausalLM", "model_type": "mamba"}, "key-value cache"),
    ("train.pack", settings(), {"architecture": "BloomForCausalLM", "model_type": "bloom"}, "position ids"),
    ("train.method", settings(Precision("int8", "float32")), {}, "int8"),
    ("train.method", settings(NF4, Full()), {}, "float32 weights"),
    ("train.precision", settings(Precision("float16", "float16")), {}, "loss scaling"),
    ("train.precision", settings(Precision("bfloat16", "float32")), {}, "bfloat16"),
]


@pytest.mark.parametrize(("setting", "asked", "changed", "word"), CASES, ids=lambda v: v if isinstance(v, str) else "")
def test_what_would_train_another_model_is_refused(
    backend: Backend, models: Models, setting: str, asked: Settings, changed: dict[str, Any], word: str
) -> None:
    needs(asked.precision)
    found = [one for one in refused(backend, models, asked, **changed) if "reads NF4 rows" not in one.reason]
    assert [refusal.setting for refusal in found] == [setting]
    assert word in found[0].reason


@pytest.mark.parametrize("model_type", COMMON)
def test_what_is_said_of_common_models_without_asking_transformers_is_true(model_type: str) -> None:
    assert causal_models()[model_type] == COMMON[model_type]
    assert {"past_key_values", "position_ids"} <= forward_parameters(COMMON[model_type])


def test_a_common_model_is_planned_without_transformers() -> None:
    code = """
import sys
from pathlib import Path
from localtune.backend import load_backend
from localtune.model import resolve
from tests.command import MODEL
from tests.contract.test_probe_and_refusals import settings
assert load_backend("torch").supports(resolve(str(MODEL), Path(), offline=True), settings()) == []
sys.exit("transformers.modeling_utils" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_bitsandbytes_brings_no_compiler_along() -> None:
    needs(NF4)
    code = """
import os, sys
from localtune_torch import libraries
libraries.bitsandbytes()
sys.exit("torch._inductor.compile_fx" in sys.modules or "TORCHDYNAMO_DISABLE" in os.environ)
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


@pytest.mark.parametrize("storage", ["affine2", "affine4", "affine8", "mxfp4", "nvfp4", "mxfp8"])
def test_the_quantisers_of_mlx_are_refused(backend: Backend, models: Models, storage: Any) -> None:
    (found,) = refused(backend, models, settings(Precision(storage, "float32")))
    assert found.setting == "train.quantize"
    assert storage in found.reason


def test_nf4_is_refused_where_bitsandbytes_is_not_installed(
    backend: Backend, models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    (found,) = backend.supports(models("llama"), settings(NF4))
    assert (found.setting, found.fix) == ("train.method", "pip install bitsandbytes")


def test_fused_experts_are_not_adapted_by_the_way(open_session: Opener) -> None:
    with pytest.raises(InputError, match="other modules than the ones named"):
        open_session("deepseek-v3", LORA)
    open_session("deepseek-v3", replace(LORA, targets=TARGET_SETS["attention"]))


def test_what_is_refused_packed_is_taken_one_by_one(backend: Backend, models: Models) -> None:
    scaling = {"rope_type": "dynamic", "original_max_position_embeddings": 128}
    (packed,) = refused(backend, models, settings(), rope_scaling=scaling)
    assert packed.fix == "--set train.pack=false"
    assert refused(backend, models, settings(packed=False), rope_scaling=scaling) == []
    (longer,) = refused(backend, models, settings(packed=False, max_tokens=200), rope_scaling=scaling)
    assert longer.fix == "--set data.max_tokens=128"


@pytest.mark.skipif(torch.cuda.is_available(), reason="the processor's kernel is not used beside a card")
def test_rows_that_bitsandbytes_reads_wrongly_are_refused_and_no_others(backend: Backend, models: Models) -> None:
    widths = {tensor.shape[-1] for tensor in models("llama").weights if len(tensor.shape) == 2}
    wrong = misread(widths)
    found = backend.supports(models("llama"), settings(NF4))
    assert [refusal.setting for refusal in found] == ["train.method"] * bool(wrong)
    assert all(f"{width}" in found[0].reason for width in wrong)


@pytest.mark.skipif(torch.cuda.is_available(), reason="the processor's kernel is not used beside a card")
def test_a_kernel_that_is_off_by_one_value_is_misread(monkeypatch: pytest.MonkeyPatch) -> None:
    import bitsandbytes.functional as bnb

    assert misread([64, 192, 448]) == []
    right = bnb.dequantize_4bit

    def off(packed: Any, state: Any) -> Any:
        rows = right(packed, state)
        rows.view(-1)[-1] += 1e-3
        return rows

    monkeypatch.setattr(bnb, "dequantize_4bit", off)
    assert misread([64, 192]) == [64, 192]
