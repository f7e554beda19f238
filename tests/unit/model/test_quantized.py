"""Checkpoints in mlx-lm's layout: what they stand for, and contradictions between configuration and tensors."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localtune.adapter import Full, Lora
from localtune.errors import InputError, Problem
from localtune.memory import trainable_count, trained_shapes
from localtune.model import TensorInfo, resolve
from localtune.model.quantized import BITS, GROUPS, Packing, quantization, unpacked
from tests.command import MODEL


def _tensor(name: str, *shape: int, dtype: str = "U32") -> TensorInfo:
    return TensorInfo(name, shape, dtype, 0, "model.safetensors")


def _packed(name: str, out: int, width: int, how: Packing) -> list[TensorInfo]:
    parts = [_tensor(f"{name}.weight", out, width * how.bits // 32)]
    return [*parts, *(_tensor(f"{name}.{p}", out, width // how.group_size, dtype="F16") for p in ("scales", "biases"))]


@given(st.sampled_from(sorted(BITS)), st.data())
def test_every_packing_is_undone(mode: str, data: st.DataObject) -> None:
    how = Packing(mode, data.draw(st.sampled_from(BITS[mode])), data.draw(st.sampled_from(GROUPS[mode])))
    out, width = data.draw(st.integers(1, 99)), 128 * data.draw(st.integers(1, 20))
    norm = _tensor("norm.weight", 7, dtype="F32")
    found = quantization({"mode": mode, "bits": how.bits, "group_size": how.group_size})
    weights = unpacked([*_packed("a.q_proj", out, width, how), norm], found)
    assert [(tensor.name, tensor.shape) for tensor in weights] == [
        ("a.q_proj.weight", (out, width)),
        ("norm.weight", (7,)),
    ]


def test_a_module_may_differ_from_the_rest() -> None:
    config = {"group_size": 64, "bits": 4, "a": {"bits": 8, "group_size": 32}, "b": False, "c": {"mode": "mxfp4"}}
    found = quantization(config)
    assert found.of("a") == Packing("affine", 8, 32)
    assert found.of("c") == Packing("mxfp4", 4, 32)
    assert found.of("anything") == Packing("affine", 4, 64)
    tensors = [*_packed("a", 5, 64, found.of("a")), *_packed("x", 5, 64, found.packing), _tensor("b.weight", 5, 64)]
    assert [tensor.shape for tensor in unpacked(tensors, found)] == [(5, 64)] * 3


def _refusal(call: Any, *arguments: Any) -> Problem:
    with pytest.raises(InputError) as caught:
        call(*arguments)
    assert caught.value.problems[0].fix
    return caught.value.problems[0]


@pytest.mark.parametrize(
    ("group", "words"),
    [
        ({"mode": "gguf"}, "has the mode 'gguf'"),
        ({"mode": ["affine"]}, "has the mode"),
        ({"bits": 7}, "has 7 bits; affine has 2, 3, 4, 5, 6, 8"),
        ({"bits": True}, "bits"),
        ({"bits": "4"}, "bits"),
        ({"group_size": 48}, "has the group size 48; affine has 32, 64, 128"),
        ({"mode": "mxfp4", "group_size": 64}, "mxfp4 has 32"),
        ({"a.b": {"bits": 9}}, "a.b has 9 bits"),
    ],
)
def test_what_mlx_has_not_is_refused(group: dict[str, Any], words: str) -> None:
    problem = _refusal(quantization, group)
    assert (problem.code, problem.where) == ("model.config", "config.json")
    assert words in problem.what


def test_tensors_that_contradict_the_configuration_are_refused() -> None:
    tensors = _packed("a", 5, 64, Packing("affine", 4, 64))
    assert "not 8 bits in groups of 64" in _refusal(unpacked, tensors, quantization({"bits": 8})).what
    other = [_tensor("a.weight", 5, 8, dtype="F32"), *tensors[1:]]
    assert "not MLX's packed layout" in _refusal(unpacked, other, quantization({})).what
    short = [tensors[0], _tensor("a.scales", 4, 1), tensors[2]]
    assert "not MLX's packed layout" in _refusal(unpacked, short, quantization({})).what


@pytest.mark.parametrize(
    ("mode", "bits", "group"), [("affine", 3, 32), ("affine", 4, 32), ("mxfp4", 4, 32), ("nvfp4", 4, 16)]
)
def test_a_folder_that_mlx_lm_wrote_counts_as_the_model_it_was_made_of(
    tmp_path: Path, mode: str, bits: int, group: int
) -> None:
    utils = pytest.importorskip("mlx_lm.utils")
    original, folder = resolve(str(MODEL), Path()), tmp_path / "model"
    model, config = utils.load_model(MODEL)
    model, config = utils.quantize_model(model, config, group, bits, mode=mode)
    utils.save_model(folder, model)
    utils.save_config(config, folder / "config.json")
    found = resolve(str(folder), Path())
    assert found.config.quantized == "mlx"
    assert found.parameters == original.parameters
    assert found.size < original.size
    lora = Lora(8, 16)
    assert sorted(trained_shapes(found, lora)) == sorted(trained_shapes(original, lora))
    assert trainable_count(found, Full()) == original.parameters
    wrong = json.loads((folder / "config.json").read_text())
    wrong["quantization"] = {"group_size": 64, "bits": 8}
    (folder / "config.json").write_text(json.dumps(wrong))
    with pytest.raises(InputError, match="not 8 bits in groups of 64"):
        resolve(str(folder), Path())
