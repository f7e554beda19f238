"""Tensors of a file read back: what is moved, zeroed or scaled is found, in coarse types too."""

import importlib
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt
import pytest
from safetensors.torch import load_file, save_file

from localtune.data.tokenizer import Tokenizer
from localtune.export import Exportable, prepare
from localtune.export.encodings import encode
from localtune.export.gguf_file import write_gguf
from localtune.export.identity import identify
from localtune.export.read import StoredTensor, read_gguf
from localtune.model import resolve, weights
from localtune.proof.stored import Wanted, of_file, of_weights, stored
from tests.command import MODEL

comparing = importlib.import_module("localtune.proof.stored")  # its function has its name
Bytes = npt.NDArray[np.uint8]
Random = np.random.Generator
TYPES = ("F32", "F16", "BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_K_S")


@pytest.fixture(scope="module")
def ready() -> Exportable:
    model = resolve(str(MODEL), MODEL, offline=True)
    return prepare(model, Tokenizer(MODEL), TYPES)


def _written(ready: Exportable, path: Path, kind: str) -> Path:
    identity = identify(ready.model, finetune="", base=None, revision=None, lineage={})
    write_gguf(ready, path, kind, identity)
    return path


@pytest.mark.parametrize("kind", TYPES)
def test_an_honest_file_of_every_type_is_the_weights(ready: Exportable, tmp_path: Path, kind: str) -> None:
    found = stored(_written(ready, tmp_path / "m.gguf", kind), of_weights(ready))
    assert found.passed, found.text
    assert found.figures["tensors"] == len(ready.conversion.tensors)


def _zeroed(data: Bytes, there: dict[str, StoredTensor]) -> None:
    tensor = there["blk.2.ffn_down.weight"]
    data[tensor.offset : tensor.offset + tensor.size] = 0


def _swapped(data: Bytes, there: dict[str, StoredTensor]) -> None:
    one, two = there["blk.1.ffn_gate.weight"], there["blk.1.ffn_up.weight"]
    first = data[one.offset : one.offset + one.size].copy()
    data[one.offset : one.offset + one.size] = data[two.offset : two.offset + two.size]
    data[two.offset : two.offset + two.size] = first


def _a_few_rows_moved(data: Bytes, there: dict[str, StoredTensor]) -> None:
    tensor = there["blk.3.attn_q.weight"]
    rows = data[tensor.offset : tensor.offset + tensor.size].reshape(tensor.shape[0], -1)
    rows[:32] = np.roll(rows[:32], 1, axis=0)


DAMAGES = {"zeroed": _zeroed, "swapped": _swapped, "rows moved": _a_few_rows_moved}


@pytest.mark.parametrize("kind", ["F32", "Q8_0", "Q4_K_M"])
@pytest.mark.parametrize("damage", list(DAMAGES))
def test_a_tensor_that_is_not_the_weights_is_named(ready: Exportable, tmp_path: Path, kind: str, damage: str) -> None:
    path = _written(ready, tmp_path / "m.gguf", kind)
    there = {tensor.name: tensor for tensor in read_gguf(path).tensors}
    data: Bytes = np.memmap(path, np.uint8, "r+")
    DAMAGES[damage](data, there)
    del data
    found = stored(path, of_weights(ready))
    assert found.passed is False
    assert "blk." in found.text
    assert found.figures["wrong"] == (2 if damage == "swapped" else 1)


@pytest.mark.parametrize("block", [1 << 12, 2 << 20])
@pytest.mark.parametrize("kind", ["F32", "Q8_0", "Q4_K_M"])
def test_single_rows_that_are_zero_are_found_wherever_they_lie(
    ready: Exportable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, block: int
) -> None:
    monkeypatch.setattr(weights, "BLOCK", 1 << 16)
    monkeypatch.setattr(comparing, "BLOCK", block)
    path = _written(ready, tmp_path / "m.gguf", kind)
    tensor = next(tensor for tensor in read_gguf(path).tensors if tensor.name == "token_embd.weight")
    data: Bytes = np.memmap(path, np.uint8, "r+")
    data[tensor.offset : tensor.offset + tensor.size].reshape(tensor.shape[0], -1)[[0, 85, 700, 1279]] = 0
    found = stored(path, of_weights(ready))
    assert found.passed is False
    assert "token_embd.weight (4 of 1280 rows)" in found.text


def test_every_row_is_compared_and_one_that_never_came_is_missing(ready: Exportable, tmp_path: Path) -> None:
    path, whole = _written(ready, tmp_path / "m.gguf", "F32"), of_weights(ready)
    short = Wanted(whole.shapes, lambda name: iter([*whole.blocks(name)][:-1]))
    found = stored(path, short)
    assert found.passed is False
    assert found.figures["wrong"] == len(whole.shapes)


def test_a_value_that_is_no_number_fails_and_is_no_figure(ready: Exportable, tmp_path: Path) -> None:
    path = _written(ready, tmp_path / "m.gguf", "F16")
    tensor = next(tensor for tensor in read_gguf(path).tensors if tensor.kind == "F16")
    data: Bytes = np.memmap(path, np.uint8, "r+")
    data[tensor.offset : tensor.offset + 2] = 0xFF
    found = stored(path, of_weights(ready))
    assert found.passed is False
    assert all(map(math.isfinite, found.figures.values()))


def test_a_file_can_be_held_to_the_exact_one_it_was_made_of(ready: Exportable, tmp_path: Path) -> None:
    exact = _written(ready, tmp_path / "exact.gguf", "F16")
    coarse = _written(ready, tmp_path / "coarse.gguf", "Q4_K_M")
    assert stored(coarse, of_file(exact)).passed
    there = {tensor.name: tensor for tensor in read_gguf(coarse).tensors}
    data: Bytes = np.memmap(coarse, np.uint8, "r+")
    _zeroed(data, there)
    del data
    assert stored(coarse, of_file(exact)).passed is False


SHAPES: dict[str, Callable[[Random], npt.NDArray[np.float64]]] = {
    "heavy tails": lambda random: random.standard_t(2, (64, 512)),
    "lone values": lambda random: np.eye(64, 512) + random.normal(size=(64, 512)) * 0.03,
    "few values": lambda random: random.normal(size=(64, 512)) * (random.random((64, 512)) < 0.05),
    "rows that fade": lambda random: random.normal(size=(64, 512)) * np.exp(-random.random((64, 1)) * 30),
    "blocks that fade": lambda random: random.normal(size=(64, 512)) * np.repeat(np.exp(-np.arange(16.0)), 32),
    "all alike": lambda random: np.full((64, 512), 0.5),
}


@pytest.mark.parametrize("kind", ["F16", "BF16", "Q8_0", "Q6_K", "Q5_K", "Q4_K", "Q5_0", "Q5_1"])
@pytest.mark.parametrize("shape", SHAPES)
def test_rows_of_every_shape_are_well_within_the_limit_of_their_type(kind: str, shape: str) -> None:
    number = gguf.GGMLQuantizationType[kind]
    rows = SHAPES[shape](np.random.default_rng(3)).astype(np.float32)
    file = np.frombuffer(encode(rows, number, "x"), np.uint8).reshape(len(rows), -1)
    tensor = comparing._Tensor(StoredTensor("x", rows.shape, kind, file.size, 0))
    relative, lost = comparing.LIMITS[kind]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(comparing.LIMITS, kind, (relative * 0.8, lost))
        assert comparing._apart((tensor, file, rows))[-1] == 0
    assert comparing._apart((tensor, file, np.roll(rows, 1, axis=0) + 1))[-1] == len(rows)


def test_weights_below_what_half_precision_holds_are_no_fault(tmp_path: Path) -> None:
    small = tmp_path / "small"
    shutil.copytree(MODEL, small)
    weights = load_file(small / "model.safetensors")
    name = "model.layers.2.mlp.up_proj.weight"
    weights[name] = weights[name] * 1e-5
    save_file(weights, small / "model.safetensors", metadata={"format": "pt"})
    model = resolve(str(small), small, offline=True)
    ready = prepare(model, Tokenizer(small), ["F16", "Q8_0"])
    for kind in ("F16", "Q8_0"):
        assert stored(_written(ready, tmp_path / f"{kind}.gguf", kind), of_weights(ready)).passed
