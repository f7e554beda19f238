"""A fused model on the grid it trained on: in the libraries' layouts, and only where each layer keeps its change."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from localtune import fuse as fuse_module
from localtune import requantise as requantise_module
from localtune.errors import InputError, Problem
from localtune.fuse import fuse
from localtune.model import ModelFiles, resolve
from localtune.model.plain import plain_tensors, plain_weights
from localtune.requantise import GATE, Requantised, requantise
from tests.goals import Reached
from tests.unit.test_fuse import KINDS, scaled_adapter
from tests.unit.test_fuse_quantised import GRIDS, original, quantised, replaced

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("peft")
pytest.importorskip("bitsandbytes")

LARGE, TINY = 3.0, 0.01
"""Times the change of `make_adapter`, which is as large as the weight: 3.5 and 0.012 of it."""
STORAGES = ["nf4", "affine3", "affine4", "affine6", "affine8", "mxfp4", "mxfp8", "nvfp4"]
"""Two bits are too few for any change: see below."""


def made(
    model: ModelFiles, folder: Path, storage: str, factor: float, **options: Any
) -> tuple[ModelFiles, Requantised]:
    """`model` and an adapter of that size, requantised into `folder`."""
    scaled_adapter(folder.with_name("original"), folder.with_name("adapter"), factor, **options)
    folder.mkdir()
    done = requantise(model, folder.with_name("adapter"), folder, storage, "bfloat16")
    return resolve(str(folder), Path(), offline=True), done


def refusal(model: ModelFiles, folder: Path, storage: str, factor: float) -> Problem:
    with pytest.raises(InputError) as caught:
        made(model, folder, storage, factor)
    return caught.value.problems[0]


def plain(tmp_path: Path) -> ModelFiles:
    return resolve(str(original(tmp_path / "original")), Path(), offline=True)


@pytest.mark.parametrize("lora", KINDS)
@pytest.mark.parametrize("storage", STORAGES)
def test_a_large_change_is_kept_on_every_grid(tmp_path: Path, storage: str, lora: str, goal: Reached) -> None:
    base = plain(tmp_path)
    found, done = made(base, tmp_path / "model", storage, LARGE, **KINDS[lora])
    assert found.config.quantized == ("bitsandbytes" if storage == "nf4" else "mlx")
    assert found.parameters == base.parameters
    assert found.size < base.size
    assert len(done.correlations) == 14
    least = min(done.correlations.values())
    if lora == "lora":
        goal("fuse", f"{storage}: on the grid again the change has a correlation of {least:.4f} with its own")
    assert least >= GATE
    assert done.size == found.size


@pytest.mark.parametrize(("storage", "factor"), [*[(name, TINY) for name in STORAGES], ("affine2", LARGE)])
def test_a_change_that_is_lost_is_refused_with_the_layers_and_the_ways_out(
    tmp_path: Path, storage: str, factor: float
) -> None:
    problem = refusal(plain(tmp_path), tmp_path / "model", storage, factor)
    assert problem.code == "requantise.lost"
    assert "model.layers.0.self_attn.q_proj: " in problem.evidence
    for way in ("without --requantize", "--gguf Q8_0", "base and adapter"):
        assert way in problem.fix


def test_the_correlation_is_that_of_what_is_left_with_what_was_intended(tmp_path: Path) -> None:
    base = plain(tmp_path)
    found, done = made(base, tmp_path / "model", "affine4", LARGE)
    (tmp_path / "fused").mkdir()
    fuse(base, tmp_path / "adapter", tmp_path / "fused", "float32")
    scaled_adapter(tmp_path / "original", tmp_path / "nothing", 0.0)
    (tmp_path / "grid").mkdir()
    requantise(base, tmp_path / "nothing", tmp_path / "grid", "affine4", "bfloat16")
    start = resolve(str(tmp_path / "grid"), Path(), offline=True)
    exact = resolve(str(tmp_path / "fused"), Path(), offline=True)
    for module, correlation in done.correlations.items():
        before, whole, left, grid = (
            plain_weights(model).rows(f"{module}.weight", 0, 32).astype(np.float64)
            for model in (base, exact, found, start)
        )
        if plain_weights(base)[f"{module}.weight"].shape[0] > 32:
            continue
        delta, kept = (whole - before).ravel(), (left - grid).ravel()
        expected = delta @ kept / np.linalg.norm(delta) / np.linalg.norm(kept)
        assert correlation == pytest.approx(expected, abs=1e-5)


def test_counting_the_error_of_the_base_on_its_grid_as_change_would_be_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = made(plain(tmp_path), tmp_path / "model", "affine4", 1.0)[1].correlations
    block = requantise_module._block
    monkeypatch.setattr(requantise_module, "_block", lambda *parts, on_grid: block(*parts, on_grid=True))
    (tmp_path / "other").mkdir()
    wrong = requantise(plain(tmp_path), tmp_path / "adapter", tmp_path / "other", "affine4", "bfloat16").correlations
    assert all(abs(wrong[module] - right[module]) > 1e-4 for module in right)


@pytest.mark.parametrize("kind", GRIDS)
def test_a_checkpoint_of_mlx_keeps_what_has_no_adapter_byte_for_byte(tmp_path: Path, kind: str) -> None:
    mx = pytest.importorskip("mlx.core")
    model = quantised(tmp_path / "checkpoint", kind)
    found, done = made(model, tmp_path / "model", "checkpoint", LARGE, target_modules=["q_proj", "down_proj"])
    before, after = (
        {name: value for path in one.folder.glob("*.safetensors") for name, value in mx.load(str(path)).items()}
        for one in (model, found)
    )
    assert before.keys() == after.keys()
    changed = {name for name in before if not mx.array_equal(before[name], after[name])}
    assert {name.rpartition(".")[0] for name in changed} == set(done.correlations)
    assert found.config.quantization == model.config.quantization
    (tmp_path / "fused").mkdir()
    fuse(model, tmp_path / "adapter", tmp_path / "fused", "float32")
    exact = plain_weights(resolve(str(tmp_path / "fused"), Path(), offline=True))
    group, bits, mode = GRIDS[kind]
    for module in done.correlations:
        name = f"{module}.weight"
        values = mx.array(exact.rows(name, 0, exact[name].shape[0]))
        for part, theirs in zip(("weight", "scales", "biases"), mx.quantize(values, group, bits, mode), strict=False):
            ours = after[f"{module}.{part}"]
            assert mx.array_equal(ours, theirs.astype(ours.dtype)), (module, part)


@pytest.mark.parametrize("kind", ["affine3", "affine4", "mxfp4", "nvfp4"])
def test_a_tiny_change_is_refused_on_a_checkpoints_own_grid_too(tmp_path: Path, kind: str) -> None:
    problem = refusal(quantised(tmp_path / "checkpoint", kind), tmp_path / "model", "checkpoint", TINY)
    assert problem.code == "requantise.lost"


@pytest.mark.parametrize("storage", ["affine4", "affine3", "mxfp4", "nvfp4", "mxfp8"])
def test_mlx_lm_opens_it_and_says_what_its_values_say(tmp_path: Path, storage: str) -> None:
    mx, utils = pytest.importorskip("mlx.core"), pytest.importorskip("mlx_lm.utils")
    found, _ = made(plain(tmp_path), tmp_path / "model", storage, LARGE)
    loaded, _ = utils.load_model(found.folder)
    layer = loaded.model.layers[0].self_attn.q_proj
    own = mx.dequantize(
        layer.weight, *(part if part is None or part.dtype == mx.uint8 else part.astype(mx.float32)
                        for part in (layer.scales, layer.get("biases"))),
        group_size=layer.group_size, bits=layer.bits, mode=layer.mode, dtype=mx.float32,
    )  # fmt: skip
    ours = plain_weights(found).rows("model.layers.0.self_attn.q_proj.weight", 0, 64)
    np.testing.assert_array_equal(np.array(own), ours)
    assert loaded(mx.array([[1, 2, 3]])).shape == (1, 3, 128)


def test_transformers_opens_nf4_and_says_what_its_values_say(tmp_path: Path) -> None:
    bitsandbytes = pytest.importorskip("bitsandbytes")
    found, _ = made(plain(tmp_path), tmp_path / "model", "nf4", LARGE)
    loaded = transformers.AutoModelForCausalLM.from_pretrained(found.folder)
    for name in ("self_attn.k_proj", "mlp.down_proj"):
        weight = loaded.get_submodule(f"model.layers.1.{name}").weight
        weight.quant_state.dtype = torch.float32
        own = bitsandbytes.functional.dequantize_4bit(weight.data, weight.quant_state).numpy()
        ours = plain_weights(found).rows(f"model.layers.1.{name}.weight", 0, len(own))
        np.testing.assert_array_equal(own, ours)
    assert not any("quant_state" in tensor.name for tensor in plain_tensors(found))


@pytest.mark.parametrize("storage", ["nf4", "affine4", "nvfp4"])
def test_what_is_written_does_not_depend_on_the_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, storage: str
) -> None:
    found, _ = made(plain(tmp_path), tmp_path / "model", storage, LARGE)
    monkeypatch.setattr(fuse_module, "AT_ONCE", 3 * 64)
    other = tmp_path / "other"
    other.mkdir()
    requantise(plain(tmp_path), tmp_path / "adapter", other, storage, "bfloat16")
    for path in found.folder.glob("*.safetensors"):
        assert path.read_bytes() == (other / path.name).read_bytes()


@pytest.mark.parametrize("storage", ["bfloat16", "float32", "checkpoint"])
def test_a_base_that_was_stored_plainly_has_no_grid(tmp_path: Path, storage: str) -> None:
    problem = refusal(plain(tmp_path), tmp_path / "model", storage, LARGE)
    assert problem.code == "requantise.grid"
    assert "without --requantize" in problem.fix
    assert not any((tmp_path / "model").iterdir())


@pytest.mark.parametrize("name", ["q_proj", "v_proj"])
def test_a_base_that_is_not_finite_is_refused_adapted_or_not(tmp_path: Path, name: str) -> None:
    base = plain(tmp_path)
    scaled_adapter(tmp_path / "original", tmp_path / "adapter", LARGE, target_modules=["v_proj"])
    weight = f"model.layers.0.self_attn.{name}.weight"
    replaced(base, lambda tensors: tensors[weight].__setitem__((3, 5), torch.nan))
    (tmp_path / "model").mkdir()
    with pytest.raises(InputError) as caught:
        requantise(base, tmp_path / "adapter", tmp_path / "model", "affine4", "bfloat16")
    assert (caught.value.problems[0].code, caught.value.problems[0].where) == ("weights.overflow", weight)


def test_the_configuration_says_the_grid_and_where_a_layer_differs(tmp_path: Path) -> None:
    torch.manual_seed(0)
    shape = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = transformers.LlamaConfig(vocab_size=128, num_hidden_layers=2, **shape)
    transformers.LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(tmp_path / "original")
    base = resolve(str(tmp_path / "original"), Path(), offline=True)
    found, _ = made(base, tmp_path / "model", "affine4", LARGE)
    stated = json.loads((found.folder / "config.json").read_text())["quantization"]
    assert {key: stated[key] for key in ("group_size", "bits", "mode")} == {
        "group_size": 64, "bits": 4, "mode": "affine",
    }  # fmt: skip
    assert stated["model.layers.1.mlp.down_proj"] == {"group_size": 32, "bits": 4, "mode": "affine"}
    loaded, _ = pytest.importorskip("mlx_lm.utils").load_model(found.folder)
    assert loaded.model.layers[1].mlp.down_proj.group_size == 32
