"""Bytes per weight are those that MLX takes; optimizer state and attention as they are kept."""

import gc
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from localtune.adapter import Full, Lora, Nothing
from localtune.backend import Device, MemorySpec, OptimizerSpec, Precision, load_backend
from localtune.batch import Segment, collate
from localtune.memory import Item, Load, memory_items, share, state_size, trainable_count, trained_shapes
from localtune.model import ModelFiles, TensorInfo, resolve
from localtune.objectives import SFT
from tests.command import MODEL
from tests.goals import Reached
from tests.unit.shapes import GB, HIDDEN, LAYERS, VOCABULARY, WIDE, big_model

CPU = Device("mlx", "cpu", "a processor", 8 * GB, ("float32",), {}, "for the test")
LOAD = Load(2, 512, 64, False)
MODES = ["affine2", "affine3", "affine4", "affine6", "affine8", "mxfp4", "nvfp4", "mxfp8"]


def _items(storage: Any, compute: Any = "bfloat16", device: Device = CPU, load: Load = LOAD) -> dict[str, Item]:
    found = memory_items(big_model(), Lora(16, 32), Precision(storage, compute), device, load)
    return {item.name: item for item in found}


@pytest.mark.parametrize("width", [128, 96])
@pytest.mark.parametrize("compute", ["bfloat16", "float32"])
@pytest.mark.parametrize("mode", MODES)
def test_the_bytes_per_weight_are_those_of_mlx(mode: Any, compute: Any, width: int) -> None:
    mx = pytest.importorskip("mlx.core")
    bits = int(mode[-1])
    kind = "affine" if mode.startswith("affine") else mode
    group = (64 if width % 64 == 0 else 32) if kind == "affine" else 16 if kind == "nvfp4" else 32
    parts = mx.quantize(mx.zeros((8, width), getattr(mx, compute)), group_size=group, bits=bits, mode=kind)
    assert sum(part.nbytes for part in parts) == 8 * width * share(Precision(mode, compute), width)


def test_only_matrices_inside_the_blocks_are_quantised() -> None:
    inside = LAYERS * (4 * HIDDEN * HIDDEN + 3 * HIDDEN * WIDE)
    assert _items("affine4")["base weights"].size == inside * (0.5 + 4 / 64) + 2 * VOCABULARY * HIDDEN
    assert _items("mxfp8")["base weights"].size == inside * (1 + 1 / 32) + 2 * VOCABULARY * HIDDEN
    assert "0.562 bytes (affine4)" in _items("affine4")["base weights"].why


def test_a_quantised_checkpoint_takes_its_packed_words_and_floats_of_the_compute_type() -> None:
    """All quantised, embedding and head left out, and a mixture: what MLX holds after opening, to the byte."""
    count = VOCABULARY * HIDDEN + 4
    tensors = [
        TensorInfo("model.layers.0.x.q_proj.weight", (64, 16), "U32", 4096, "model.safetensors"),
        TensorInfo("model.layers.0.x.q_proj.scales", (1, 4), "BF16", 8, "model.safetensors"),
        TensorInfo("model.layers.0.x.k_proj.scales", (1, 8), "U8", 8, "model.safetensors"),
        TensorInfo("model.embed_tokens.weight", (VOCABULARY, HIDDEN), "F16", 2 * VOCABULARY * HIDDEN, "a.safetensors"),
    ]
    model = replace(big_model(), tensors=tuple(tensors))
    for compute, each in (("float32", 4), ("bfloat16", 2)):
        items = memory_items(model, Lora(16, 32), Precision("checkpoint", compute), CPU, LOAD)  # type: ignore[arg-type]
        (base,) = [item for item in items if item.name == "base weights"]
        assert base.size == 4096 + 8 + each * count
        assert f"{count:,} scales and weights x {each} bytes" in base.why


@pytest.mark.parametrize("compute", ["float32", "bfloat16"])
@pytest.mark.parametrize("kept", [(), ("embed_tokens", "v_proj")], ids=["all quantised", "some kept"])
def test_an_open_quantised_checkpoint_takes_what_is_planned(
    tmp_path: Path, compute: Any, kept: tuple[str, ...]
) -> None:
    mx = pytest.importorskip("mlx.core")
    model, precision = _quantised_in_its_files(tmp_path, kept), Precision("checkpoint", compute)
    (planned,) = (
        item.size for item in memory_items(model, Nothing(), precision, CPU, LOAD) if item.name == "base weights"
    )
    gc.collect()
    before = mx.get_active_memory()
    opened = load_backend("mlx").open(
        model, Nothing(), None, precision=precision, objective=None, optimizer=None, memory=MemorySpec(0, "none", 64),
        seed=0,
    )  # fmt: skip
    with opened:
        assert (mx.get_active_memory() - before) / planned == pytest.approx(1, abs=0.02)


def _quantised_in_its_files(folder: Path, kept: tuple[str, ...]) -> ModelFiles:
    """The quickstart's model as `mlx_lm.convert -q` writes it, without quantising the modules `kept`."""
    from mlx_lm.utils import load_model, quantize_model, save_config, save_model

    def chosen(name: str, module: Any, *_: Any) -> bool:
        return hasattr(module, "to_quantized") and name.rpartition(".")[2] not in kept

    model, config = quantize_model(*load_model(MODEL), group_size=64, bits=4, quant_predicate=chosen)
    save_model(folder, model)
    save_config(config, folder / "config.json")
    return resolve(str(folder), Path())


def test_the_state_is_that_of_the_optimizer() -> None:
    shapes = [(16, 100), (40, 16), (40,)]
    count = 16 * 100 + 40 * 16 + 40
    assert state_size(shapes, "adamw") == 8 * count
    assert state_size(shapes, "lion") == 4 * count
    assert state_size(shapes, "adafactor") == 4 * (116 + 56 + 40)
    for name in ("adamw", "lion", "adafactor"):
        trained = trained_shapes(big_model(), Lora(16, 32))
        items = memory_items(big_model(), Lora(16, 32), Precision("float32", "float32"), CPU, LOAD, name)
        (item,) = [item for item in items if item.name == "what trains"]
        assert item.size == 8 * sum(map(math.prod, trained)) + state_size(trained, name)


def test_what_trains_is_counted_tensor_by_tensor() -> None:
    lora = Lora(4, 8, targets=("q_proj", "down_proj"), dora=True)
    shapes = trained_shapes(big_model(), lora)
    assert shapes[:3] == [(4, HIDDEN), (HIDDEN, 4), (HIDDEN,)]
    assert shapes[3:6] == [(4, WIDE), (HIDDEN, 4), (HIDDEN,)]
    assert len(shapes) == 6 * LAYERS
    assert trainable_count(big_model(), Full()) == big_model().parameters


def test_mlx_keeps_the_scores_of_every_block_and_pytorch_keeps_masks() -> None:
    one = 2 * 512**2 * 4 * big_model().config.heads
    plain, again = (
        _items("bfloat16")["attention"],
        _items("bfloat16", load=replace(LOAD, checkpointing=True))["attention"],
    )
    assert plain.size - again.size == (LAYERS - 1) * one
    torch = _items("bfloat16", device=replace(CPU, backend="torch"))["attention"]
    assert torch.size < one


def test_the_libraries_are_those_of_backend_and_device() -> None:
    assert "MLX" in _items("bfloat16")["libraries"].why
    assert "not measured" in _items("bfloat16", device=replace(CPU, kind="metal"))["libraries"].why
    assert _items("bfloat16", device=replace(CPU, backend="torch"))["libraries"].size == 500 * 10**6


@pytest.mark.parametrize("chunks", [1, 2, 4, 8])
def test_the_loss_on_mlx_takes_what_is_planned_in_one_chunk_or_many(chunks: int) -> None:
    """MLX prepares the next chunks while one is computed; how far it gets is up to the machine, how far at most not."""
    mx = pytest.importorskip("mlx.core")
    from localtune_mlx.loss import target_logprobs

    tokens, vocabulary, hidden = 256, 16_000, 64
    model = replace(big_model(), config=replace(big_model().config, vocabulary=vocabulary))
    load = Load(1, tokens, tokens // chunks, True)
    items = memory_items(model, Lora(16, 32), Precision("float32", "float32"), CPU, load)
    (planned,) = [item.size for item in items if item.name == "loss"]
    weight, states = mx.random.normal((vocabulary, hidden)), mx.random.normal((tokens, hidden))
    mx.eval(weight, states)
    before = mx.get_active_memory()
    mx.reset_peak_memory()

    def total(hidden: Any) -> Any:
        ids = mx.arange(tokens)
        return target_logprobs(lambda states: states @ weight.T, hidden, ids, load.loss_chunk).sum()

    mx.eval(mx.grad(total)(states))
    assert 0.25 < (mx.get_peak_memory() - before) / planned < 1.1


@pytest.mark.parametrize("checkpointing", ["none", "blocks"])
def test_one_update_on_mlx_takes_what_is_planned(checkpointing: Any, goal: Reached) -> None:
    """The peak of MLX's arrays is within a third of the plan; without its attention the plan would be far too low."""
    mx = pytest.importorskip("mlx.core")
    model, lora, precision = resolve(str(MODEL), Path()), Lora(16, 32), Precision("float32", "float32")
    tokens, weights = np.arange(512, dtype=np.int32) + 3, np.ones(512, np.float32)
    weights[0] = 0
    batch = collate([[Segment(tokens, weights, 0)]])
    memory = MemorySpec(0, checkpointing, 512)
    items = memory_items(model, lora, precision, CPU, Load(1, 512, 512, checkpointing == "blocks"))
    planned = {item.name: item.size for item in items if item.name != "libraries"}
    opened = load_backend("mlx").open(
        model, lora, None, precision=precision, objective=SFT, optimizer=OptimizerSpec(), memory=memory, seed=1
    )
    with opened as session:
        mx.reset_peak_memory()
        session.train_step([batch], step=1, lr=1e-4)
        peak = mx.get_peak_memory()
    total = sum(planned.values())
    goal(
        "memory",
        f"mlx, an update of the quickstart, recomputing {checkpointing}: peak at {peak / total:.0%} of the plan",
    )
    assert 0.75 < peak / total < 1.1
    assert peak / (total - planned["attention"]) > 1.1
