"""Tensors of a file read back: what is moved, zeroed or scaled is found, in coarse types too."""

import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from safetensors.torch import load_file, save_file

from localtune.data.tokenizer import Tokenizer
from localtune.export import Exportable, prepare
from localtune.export.gguf_file import write_gguf
from localtune.export.identity import identify
from localtune.export.read import StoredTensor, read_gguf
from localtune.model import resolve
from localtune.proof.stored import of_file, of_weights, stored
from tests.command import MODEL

Bytes = npt.NDArray[np.uint8]
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


def test_a_file_can_be_held_to_the_exact_one_it_was_made_of(ready: Exportable, tmp_path: Path) -> None:
    exact = _written(ready, tmp_path / "exact.gguf", "F16")
    coarse = _written(ready, tmp_path / "coarse.gguf", "Q4_K_M")
    assert stored(coarse, of_file(exact)).passed
    there = {tensor.name: tensor for tensor in read_gguf(coarse).tensors}
    data: Bytes = np.memmap(coarse, np.uint8, "r+")
    _zeroed(data, there)
    del data
    assert stored(coarse, of_file(exact)).passed is False


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
