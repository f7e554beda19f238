"""Weights in MLX's layout, dequantised: what `mx.dequantize` gives, bit for bit, in every mode."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localtune.errors import InputError
from localtune.model import ModelFiles, mlx_layout, resolve
from localtune.model import weights as stored
from localtune.model.mlx_layout import dequantized, scales_of, unpacked_codes
from localtune.model.plain import plain_tensors, plain_weights
from localtune.model.quantized import BITS, GROUPS
from tests.command import MODEL

mx = pytest.importorskip("mlx.core")

GRIDS = [(mode, bits, group) for mode in BITS for bits in BITS[mode] for group in GROUPS[mode]]


def theirs(words: Any, scales: Any, biases: Any, mode: str, bits: int, group: int) -> Any:
    """MLX's own values in float32."""
    options = {"mode": mode, "bits": bits, "group_size": group}
    if mode != "affine":
        return np.array(mx.dequantize(mx.array(words), mx.array(scales), dtype=mx.float32, **options))
    exact = [mx.array(part).astype(mx.float32) for part in (scales, biases)]
    return np.array(mx.dequantize(mx.array(words), *exact, **options))


def ours(words: Any, scales: Any, biases: Any, mode: str, bits: int) -> Any:
    factors = scales if mode == "affine" else scales_of(scales, mode)
    return dequantized(unpacked_codes(words, bits), factors, biases, mode)


@pytest.mark.parametrize(("mode", "bits", "group"), GRIDS)
def test_every_mode_gives_the_values_of_mlx_for_any_words_and_scales(mode: str, bits: int, group: int) -> None:
    random = np.random.default_rng(bits * group)
    words = random.integers(0, 2**32, (64, 256 * bits // 32), np.uint32)
    shape, biases = (64, 256 // group), None
    if mode == "affine":
        scales, biases = (random.normal(size=shape).astype(np.float32) for _ in range(2))
    else:
        scales = np.resize(np.arange(256, dtype=np.uint8), shape)
    expected = theirs(words, scales, biases, mode, bits, group)
    np.testing.assert_array_equal(ours(words, scales, biases, mode, bits), expected)
    assert np.isfinite(expected).mean() > 0.5


WRONG = {
    "the bits from the other end": lambda codes: codes[:, ::-1],
    "a code one higher": lambda codes: codes ^ 1,
    "neighbours exchanged": lambda codes: codes.reshape(len(codes), -1, 2)[:, :, ::-1].reshape(codes.shape),
}


@pytest.mark.parametrize("mistake", WRONG)
@pytest.mark.parametrize(("mode", "bits", "group"), GRIDS)
def test_a_wrong_order_of_codes_is_noticed(mode: str, bits: int, group: int, mistake: str) -> None:
    random = np.random.default_rng(3)
    parts = mx.quantize(mx.array(random.normal(size=(8, 256)).astype(np.float32)), group, bits, mode)
    found: list[Any] = [*map(np.array, parts), None]
    words, scales, biases = found[:3]
    right, factors = unpacked_codes(words, bits), scales if mode == "affine" else scales_of(scales, mode)
    expected = theirs(words, scales, biases, mode, bits, group)
    np.testing.assert_array_equal(dequantized(right, factors, biases, mode), expected)
    assert not np.array_equal(dequantized(WRONG[mistake](right), factors, biases, mode), expected)


@given(st.sampled_from((2, 3, 4, 5, 6, 8)), st.integers(1, 5), st.integers(1, 4), st.randoms())
def test_codes_are_the_bits_of_the_words_in_order(bits: int, rows: int, groups: int, random: Any) -> None:
    codes = [[random.randrange(1 << bits) for _ in range(32 * groups)] for _ in range(rows)]
    streams = [sum(code << (bits * place) for place, code in enumerate(row)) for row in codes]
    words = [[(stream >> (32 * n)) & 0xFFFFFFFF for n in range(bits * groups)] for stream in streams]
    np.testing.assert_array_equal(unpacked_codes(np.array(words, np.uint32), bits), codes)


def converted(folder: Path, **grid: Any) -> ModelFiles:
    """What `mlx_lm.convert -q` makes of the small base model."""
    utils = pytest.importorskip("mlx_lm.utils")
    model, config = utils.load_model(MODEL)
    dtype = grid.pop("dtype", None)
    if dtype is not None:
        model.set_dtype(dtype)
    model, config = utils.quantize_model(model, config, **grid)
    utils.save_model(folder, model)
    utils.save_config(config, folder / "config.json")
    return resolve(str(folder), Path(), offline=True)


def mixed(path: str, _: Any) -> bool | dict[str, Any]:
    """Bits of its own for one kind of module, and one that stays as it is."""
    if "down_proj" in path:
        return {"group_size": 32, "bits": 8, "mode": "affine"}
    return "o_proj" not in path


FOLDERS: dict[str, dict[str, Any]] = {
    "affine4": {"group_size": 64, "bits": 4},
    "affine3 bfloat16": {"group_size": 32, "bits": 3, "dtype": mx.bfloat16},
    "affine6 float16": {"group_size": 64, "bits": 6, "dtype": mx.float16},
    "mxfp4": {"group_size": 32, "bits": 4, "mode": "mxfp4", "dtype": mx.bfloat16},
    "mxfp8": {"group_size": 32, "bits": 8, "mode": "mxfp8"},
    "nvfp4": {"group_size": 16, "bits": 4, "mode": "nvfp4"},
    "mixed": {"group_size": 64, "bits": 4, "quant_predicate": mixed},
}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_of_mlx_lm_is_read_as_the_plain_model_it_stands_for(tmp_path: Path, name: str) -> None:
    model = converted(tmp_path / "model", **FOLDERS[name])
    weights, original = plain_weights(model), resolve(str(MODEL), Path(), offline=True)
    assert {t.name: t.shape for t in plain_tensors(model)} == {t.name: t.shape for t in original.tensors}
    assert tuple(weights[name] for name in weights) == plain_tensors(model)
    held = {key: value for path in model.folder.glob("*.safetensors") for key, value in mx.load(str(path)).items()}
    packed = 0
    for tensor in plain_tensors(model):
        module = tensor.name.removesuffix(".weight")
        found = np.concatenate([rows for _, rows in weights.blocks(tensor.name)])
        if f"{module}.scales" not in held:
            np.testing.assert_array_equal(found, np.array(held[tensor.name].astype(mx.float32)))
            continue
        packed += 1
        how = model.config.quantization.of(module)  # type: ignore[union-attr]
        parts = [held.get(f"{module}.{part}") for part in ("weight", "scales", "biases")]
        scales, biases = (part if part is None or how.mode != "affine" else np.array(part.astype(mx.float32))
                          for part in parts[1:])  # fmt: skip
        expected = theirs(parts[0], scales, biases, how.mode, how.bits, how.group_size)
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(weights.rows(tensor.name, 3, 7), expected[3:7])
        assert tensor.size == expected.size * stored.DTYPES[tensor.dtype].itemsize
        data = b"".join(bytes(piece) for piece in weights.pieces(tensor.name))
        assert data == stored.encode(expected, tensor.dtype).tobytes()
    assert packed


@pytest.mark.parametrize(
    ("name", "kind"), [("affine3 bfloat16", "BF16"), ("affine6 float16", "F16"), ("mxfp4", "BF16"), ("mxfp8", "F32")]
)
def test_the_plain_type_is_that_of_the_scales_or_else_the_configurations(tmp_path: Path, name: str, kind: str) -> None:
    model = converted(tmp_path / "model", **FOLDERS[name])
    config = json.loads((model.folder / "config.json").read_text())
    config["torch_dtype"] = config["dtype"] = {"BF16": "bfloat16", "F16": "float32", "F32": "float32"}[kind]
    (model.folder / "config.json").write_text(json.dumps(config))
    assert {tensor.dtype for tensor in plain_tensors(resolve(str(model.folder), Path())) if "_proj" in tensor.name} == {
        kind
    }


@pytest.mark.parametrize("block", [4 * 300, 16])
def test_values_do_not_depend_on_the_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    model = converted(tmp_path / "model", group_size=32, bits=5)
    name = plain_tensors(model)[0].name

    def read() -> tuple[bytes, bytes]:
        weights = plain_weights(model)
        rows = b"".join(rows.tobytes() for _, rows in weights.blocks(name))
        return rows, b"".join(bytes(piece) for piece in weights.pieces(name))

    whole = read()
    monkeypatch.setattr(stored, "BLOCK", block)
    assert read() == whole


def stack(folder: Path) -> tuple[ModelFiles, Any]:
    """A folder with a stack of three packed matrices, and what they stand for."""
    model = converted(folder, group_size=64, bits=4)
    values = np.random.default_rng(0).normal(size=(3, 8, 64)).astype(np.float32)
    words, scales, biases = mx.quantize(mx.array(values), 64, 4)
    parts = {"experts.weight": words, "experts.scales": scales, "experts.biases": biases}
    replaced(folder, lambda tensors: tensors.update(parts))
    return resolve(str(model.folder), Path(), offline=True), theirs(words, scales, biases, "affine", 4, 64)


def replaced(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Rewrite the only shard in `folder`."""
    tensors = dict(mx.load(str(folder / "model.safetensors")))
    mx.eval(tensors)
    change(tensors)
    (folder / "model.safetensors.index.json").unlink(missing_ok=True)
    mx.save_safetensors(str(folder / "model.safetensors"), tensors)


def test_stacks_of_experts_are_read_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, expected = stack(tmp_path / "model")
    weights = plain_weights(model)
    assert weights["experts.weight"].shape == (3, 8, 64)
    np.testing.assert_array_equal(weights.rows("experts.weight", 1, 3), expected[1:])
    monkeypatch.setattr(stored, "BLOCK", 3 * 64 * 4)
    assert [len(piece) for piece in weights.pieces("experts.weight")] == [3] * 8
    assert b"".join(bytes(piece) for piece in weights.pieces("experts.weight")) == expected.tobytes()


def test_rows_that_are_not_there_are_no_values(tmp_path: Path) -> None:
    weights = plain_weights(converted(tmp_path / "model", group_size=64, bits=4))
    name = next(name for name in weights if "q_proj" in name)
    for start, stop in ((-1, 2), (3, 2), (0, weights[name].shape[0] + 1)):
        with pytest.raises(IndexError):
            weights.rows(name, start, stop)


def without_biases(tensors: dict[str, Any]) -> None:
    del tensors[f"{Q}.biases"]


def shorter_biases(tensors: dict[str, Any]) -> None:
    tensors[f"{Q}.biases"] = tensors[f"{Q}.biases"][1:]


def whole_scales(tensors: dict[str, Any]) -> None:
    tensors[f"{Q}.scales"] = tensors[f"{Q}.scales"].astype(mx.int32)


Q = "model.layers.0.self_attn.q_proj"


@pytest.mark.parametrize("damage", [without_biases, shorter_biases, whole_scales])
def test_parts_that_do_not_fit_are_refused_by_name(tmp_path: Path, damage: Callable[[dict[str, Any]], None]) -> None:
    folder = converted(tmp_path / "model", group_size=64, bits=4).folder
    replaced(folder, damage)
    with pytest.raises(InputError, match=rf"{Q}.*packed") as caught:
        plain_tensors(resolve(str(folder), Path(), offline=True))
    assert caught.value.problems[0].fix


def test_a_model_that_is_not_quantised_is_read_as_it_is() -> None:
    model = resolve(str(MODEL), Path(), offline=True)
    weights = plain_weights(model)
    assert plain_tensors(model) == model.tensors
    plain = stored.Weights(model)
    for name in weights:
        assert b"".join(map(bytes, weights.pieces(name))) == bytes(plain.raw(name))
        np.testing.assert_array_equal(weights.rows(name, 0, 1), plain.rows(name, 0, 1))


def test_a_layout_that_is_not_known_is_refused_by_name(tmp_path: Path) -> None:
    model = converted(tmp_path / "model", group_size=64, bits=4)
    config = json.loads((model.folder / "config.json").read_text())
    del config["quantization"]
    config["quantization_config"] = {"quant_method": "gptq"}
    (model.folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="gptq") as caught:
        plain_tensors(resolve(str(model.folder), Path(), offline=True))
    assert caught.value.problems[0].code == "fuse.quantized"
    assert mlx_layout.E2M1.tolist()[:8] == [0, 0.5, 1, 1.5, 2, 3, 4, 6]
