"""Fusing into a quantised base: the dequantised weights and the change, in a plain model that says so everywhere."""

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from localtune import fuse as fuse_module
from localtune.adapter import read_peft_config, read_updates
from localtune.errors import InputError
from localtune.fuse import fuse, fused_rows
from localtune.model import ModelFiles, resolve
from localtune.model import weights as weights_module
from localtune.model.plain import PlainWeights, plain_weights
from localtune.model.weights import Weights, decode, encode
from tests.unit.test_fuse import KINDS, LINEAR, make_adapter

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")
pytest.importorskip("bitsandbytes")
safe = pytest.importorskip("safetensors.torch")

BITS: dict[str, dict[str, Any]] = {
    "nf4": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True},
    "fp4": {"load_in_4bit": True, "bnb_4bit_quant_type": "fp4"},
    "int8": {"load_in_8bit": True},
}
GRIDS: dict[str, tuple[int, int, str]] = {
    "affine4": (64, 4, "affine"), "affine3": (32, 3, "affine"), "affine8": (32, 8, "affine"),
    "mxfp4": (32, 4, "mxfp4"), "mxfp8": (32, 8, "mxfp8"), "nvfp4": (16, 4, "nvfp4"),
}  # fmt: skip


def original(folder: Path) -> Path:
    """A random Llama in bfloat16. Widths are whole blocks: bitsandbytes 0.50's AVX-512 kernel misreads others."""
    torch.manual_seed(0)
    shape = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = transformers.LlamaConfig(vocab_size=128, num_hidden_layers=2, tie_word_embeddings=False, **shape)
    transformers.LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    return folder


def quantised(folder: Path, kind: str) -> ModelFiles:
    """The same in few bits, in several shards, as transformers or mlx-lm saves it."""
    plain = original(folder.with_name("original"))
    if kind in BITS:
        options = transformers.BitsAndBytesConfig(**BITS[kind])
        model = transformers.AutoModelForCausalLM.from_pretrained(
            plain, quantization_config=options, dtype=torch.bfloat16
        )
        model.save_pretrained(folder, max_shard_size="20KB")
    else:
        utils = pytest.importorskip("mlx_lm.utils")
        group, bits, mode = GRIDS[kind]
        model, config = utils.load_model(plain)
        model, config = utils.quantize_model(model, config, group, bits, mode=mode)
        utils.save_model(folder, model)
        utils.save_config(config, folder / "config.json")
    return resolve(str(folder), Path(), offline=True)


def fused_into(model: ModelFiles, adapter: Path, folder: Path, dtype: Any = None) -> ModelFiles:
    folder.mkdir()
    fuse(model, adapter, folder, dtype)
    return resolve(str(folder), Path(), offline=True)


def by_hand(weights: PlainWeights, adapter: Path, name: str) -> Any:
    """Base and adapter of one weight, in float64."""
    lora = read_peft_config(adapter)
    updates, parts = read_updates(adapter, lora)
    base = weights.rows(name, 0, weights[name].shape[0]).astype(np.float64)
    update = updates.get(name.removesuffix(".weight"))
    if update is None:
        return base
    a, b = (parts.rows(one, 0, parts[one].shape[0]).astype(np.float64) for one in (update.a, update.b))
    whole = base + lora.scale * b @ a
    if update.magnitude is None:
        return whole
    magnitude = parts.rows(update.magnitude, 0, len(whole)).astype(np.float64)
    return magnitude[:, None] * whole / np.linalg.norm(whole, axis=1, keepdims=True)


@pytest.mark.parametrize("lora", KINDS)
@pytest.mark.parametrize("kind", [*BITS, *GRIDS])
def test_the_fused_weights_are_the_dequantised_base_and_the_change(tmp_path: Path, kind: str, lora: str) -> None:
    model = quantised(tmp_path / "model", kind)
    make_adapter(tmp_path / "original", tmp_path / "adapter", **KINDS[lora])
    before = plain_weights(model)
    for dtype, tolerance in (("float32", 1e-6), (None, 2.0**-8)):
        found = fused_into(model, tmp_path / "adapter", tmp_path / f"fused-{dtype}", dtype)
        assert found.config.quantized is None
        assert {(t.name, t.shape) for t in found.tensors} == {(t.name, t.shape) for t in before.tensors}
        after = Weights(found)
        for name in before:
            expected = by_hand(before, tmp_path / "adapter", name)
            values = after.rows(name, 0, after[name].shape[0])
            error = np.abs(values - expected)
            assert (error <= 1e-6 + tolerance * np.abs(expected)).all(), (name, error.max())


def test_a_base_that_is_not_dequantised_before_the_change_is_added_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = quantised(tmp_path / "model", "nf4")
    make_adapter(tmp_path / "original", tmp_path / "adapter")

    def coarser(weight: Any, *parts: Any) -> Any:
        return fused_rows(decode(encode(weight, "BF16"), "BF16"), *parts)

    monkeypatch.setattr(fuse_module, "fused_rows", coarser)
    found = fused_into(model, tmp_path / "adapter", tmp_path / "fused", "float32")
    name = "model.layers.0.self_attn.q_proj.weight"
    expected = by_hand(plain_weights(model), tmp_path / "adapter", name)
    assert np.abs(Weights(found).rows(name, 0, 64) - expected).max() > 1e-5


def logits(model: Any) -> Any:
    with torch.no_grad():
        return model(torch.arange(40)[None] * 3).logits


def in_float32(model: Any) -> Any:
    """Everything but the codes computes in float32; bitsandbytes may not repack them, which scrambles the weights."""
    for parameter in model.parameters():
        if parameter.is_floating_point():
            parameter.data = parameter.data.float()
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
            module.compute_dtype = torch.float32
            module.weight.quant_state.dtype = torch.float32
    return model


@pytest.mark.parametrize("lora", KINDS)
@pytest.mark.parametrize("kind", ["nf4", "fp4"])
def test_transformers_says_what_it_says_with_the_quantised_base_and_the_adapter(
    tmp_path: Path, kind: str, lora: str
) -> None:
    model = quantised(tmp_path / "model", kind)
    make_adapter(tmp_path / "original", tmp_path / "adapter", **KINDS[lora])
    folder = fused_into(model, tmp_path / "adapter", tmp_path / "fused", "float32").folder
    loaded = in_float32(transformers.AutoModelForCausalLM.from_pretrained(model.folder))
    base = logits(loaded)
    theirs = logits(peft.PeftModel.from_pretrained(loaded, tmp_path / "adapter").eval())
    ours = logits(transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32))
    assert float((ours - theirs).abs().max()) <= 1e-5
    assert float((base - theirs).abs().max()) > 1e-2


@pytest.mark.parametrize("kind", ["nf4", "int8", "affine4", "mxfp4"])
def test_configuration_and_index_speak_of_a_plain_model(tmp_path: Path, kind: str) -> None:
    model = quantised(tmp_path / "model", kind)
    make_adapter(tmp_path / "original", tmp_path / "adapter")
    found = fused_into(model, tmp_path / "adapter", tmp_path / "fused")
    before = json.loads((model.folder / "config.json").read_text())
    after = json.loads((found.folder / "config.json").read_text())
    gone = {"quantization", "quantization_config"} & before.keys()
    assert gone
    assert after == {key: value for key, value in before.items() if key not in gone}
    if (model.folder / "model.safetensors.index.json").is_file():
        index = json.loads((found.folder / "model.safetensors.index.json").read_text())
        assert index["weight_map"] == {tensor.name: tensor.shard for tensor in found.tensors}
        assert index["metadata"]["total_size"] == found.size
    assert found.size == 2 * found.parameters
    opened = transformers.AutoModelForCausalLM.from_pretrained(found.folder)
    assert sum(parameter.numel() for parameter in opened.parameters()) == found.parameters


def test_what_has_no_adapter_is_dequantised_whatever_the_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = quantised(tmp_path / "model", "affine4")
    make_adapter(tmp_path / "original", tmp_path / "adapter", target_modules=["q_proj"])
    whole = fused_into(model, tmp_path / "adapter", tmp_path / "whole")
    monkeypatch.setattr(weights_module, "BLOCK", 4 * 64 * 3)
    monkeypatch.setattr(fuse_module, "AT_ONCE", 64)
    parts = fused_into(model, tmp_path / "adapter", tmp_path / "parts")
    for tensor in whole.tensors:
        ours, theirs = (Weights(found).rows(tensor.name, 0, tensor.shape[0]) for found in (parts, whole))
        if "q_proj" not in tensor.name:
            np.testing.assert_array_equal(ours, theirs)
            name = tensor.name
            rounded = encode(plain_weights(model).rows(name, 0, tensor.shape[0]), tensor.dtype)
            np.testing.assert_array_equal(encode(ours, tensor.dtype), rounded)


def replaced(model: ModelFiles, change: Callable[[dict[str, Any]], None]) -> None:
    """Rewrite every shard of `model` that has what `change` changes."""
    for shard in {tensor.shard for tensor in model.tensors}:
        tensors = safe.load_file(model.folder / shard)
        with suppress(KeyError):
            change(tensors)
            safe.save_file(tensors, model.folder / shard)


def test_a_quantised_weight_that_is_not_finite_is_refused_by_name(tmp_path: Path) -> None:
    model = quantised(tmp_path / "model", "fp4")
    make_adapter(tmp_path / "original", tmp_path / "adapter")
    name = "model.layers.1.mlp.up_proj.weight"
    replaced(model, lambda tensors: tensors[f"{name}.absmax"].__setitem__(3, torch.nan))
    with pytest.raises(InputError) as caught:
        fused_into(model, tmp_path / "adapter", tmp_path / "fused")
    assert (caught.value.problems[0].code, caught.value.problems[0].where) == ("weights.overflow", name)


def test_an_adapter_of_another_model_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    model = quantised(tmp_path / "model", "nf4")
    torch.manual_seed(0)
    shape = {"hidden_size": 64, "intermediate_size": 192, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = transformers.LlamaConfig(vocab_size=128, num_hidden_layers=2, **shape)
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path / "other")
    make_adapter(tmp_path / "other", tmp_path / "adapter", target_modules=LINEAR)
    with pytest.raises(InputError, match="does not belong"):
        fused_into(model, tmp_path / "adapter", tmp_path / "fused")
    assert not any((tmp_path / "fused").iterdir())
