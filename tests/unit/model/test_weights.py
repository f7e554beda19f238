"""Weights in blocks: what is read and written is what torch and safetensors read and write, in little memory."""

import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from localtune.errors import InputError
from localtune.model import weights as weights_module
from localtune.model.tensors import TensorInfo, read_header
from localtune.model.weights import DTYPES, Weights, decode, encode, one_file, write_shard

TORCH = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
SHAPES = {"matrix": (37, 5), "vector": (101,), "scalar": (), "cube": (4, 3, 6), "wide": (2, 700), "no_rows": (0, 4)}


def rounded_by_torch(values: Any, dtype: str) -> Any:
    return torch.from_numpy(values.copy()).to(TORCH[dtype])


def same_bits(encoded: Any, expected: torch.Tensor) -> None:
    """Equal bit for bit, but for which NaN a NaN is."""
    bits = expected.view(torch.int32 if expected.dtype == torch.float32 else torch.int16).numpy()
    nan = expected.isnan().numpy()
    np.testing.assert_array_equal(encoded.view(bits.dtype)[~nan], bits[~nan])
    assert nan.sum() == expected.isnan().sum()


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """Every shape in every type."""
    torch.manual_seed(0)
    tensors = {f"{name}.{key}": torch.randn(shape).to(t) for name, shape in SHAPES.items() for key, t in TORCH.items()}
    save_file({**tensors, "odd": torch.ones(3, dtype=torch.int8)}, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_all_values_of_a_16_bit_type_are_read_as_torch_reads_them_and_come_back(dtype: str) -> None:
    bits = np.arange(1 << 16).astype("<u2")
    values = decode(bits.view(DTYPES[dtype]), dtype)
    expected = torch.from_numpy(bits.view(np.int16)).view(TORCH[dtype])
    np.testing.assert_array_equal(values, expected.float().numpy())
    same_bits(encode(values, dtype), expected)
    assert np.isnan(decode(encode(values, dtype), dtype)[np.isnan(values)]).all()


FLOATS = arrays(np.uint32, st.integers(1, 40), elements=st.integers(0, 2**32 - 1)).map(lambda a: a.view(np.float32))


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
@given(values=FLOATS)
@example(values=np.array([0x7FFFFFFF, 0xFFFFFFFF, 0x7F800001], np.uint32).view(np.float32))
def test_values_are_rounded_as_torch_rounds_them_and_never_to_infinity(dtype: str, values: Any) -> None:
    expected = rounded_by_torch(values, dtype)
    too_large = expected.isinf().numpy() & np.isfinite(values)
    if too_large.any():
        with pytest.raises(InputError, match=rf"too large for {dtype}"):
            encode(values, dtype)
    kept = values[~too_large]
    same_bits(encode(kept, dtype), expected[torch.from_numpy(~too_large)])
    np.testing.assert_array_equal(np.isnan(decode(encode(kept, dtype), dtype)), np.isnan(kept))


@pytest.mark.parametrize(("dtype", "fix"), [("F16", "bfloat16 or float32"), ("BF16", "float32")])
def test_a_value_that_is_too_large_is_told_with_its_tensor_and_a_type_that_holds_it(dtype: str, fix: str) -> None:
    with pytest.raises(InputError) as caught:
        encode(np.array([1, -3.4e38], np.float32), dtype, "x.weight")
    (problem,) = caught.value.problems
    assert (problem.where, problem.fix) == ("x.weight", f"use a {fix} copy of the base")


def test_halfway_goes_to_even() -> None:
    halfway = np.array([0x3F808000, 0x3F818000, 0x3F808001, 0xBF818000], np.uint32).view(np.float32)
    assert [hex(bits) for bits in encode(halfway, "BF16")] == ["0x3f80", "0x3f82", "0x3f81", "0xbf82"]


def test_cutting_off_the_lower_half_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(values: Any) -> Any:
        return (values.view(np.uint32) >> 16).astype("<u2")

    values = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    same_bits(encode(values, "BF16"), rounded_by_torch(values, "BF16"))
    monkeypatch.setattr(weights_module, "_upper_half", cut)
    with pytest.raises(AssertionError):
        same_bits(encode(values, "BF16"), rounded_by_torch(values, "BF16"))


def test_infinity_stays_infinity() -> None:
    for dtype in TORCH:
        assert decode(encode(np.array([np.inf, -np.inf], np.float32), dtype), dtype).tolist() == [np.inf, -np.inf]


@pytest.mark.parametrize("block", [1, 64, 1 << 20])
def test_blocks_are_the_whole_tensor_in_order_and_of_bounded_size(
    stored: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(weights_module, "BLOCK", block)
    weights = Weights(one_file(stored))
    for name, expected in load_file(stored).items():
        if name == "odd":
            continue
        whole, rows = expected.float().numpy(), 0
        for first, values in weights.blocks(name):
            assert (first, values.dtype) == (rows, np.dtype(np.float32))
            assert values.nbytes <= block or len(values) == 1
            np.testing.assert_array_equal(values, np.atleast_1d(whole)[first : first + len(values)])
            rows += len(values)
        assert rows == (expected.shape[0] if expected.shape else 1)


def test_rows_are_an_array_of_their_own(stored: Path) -> None:
    weights = Weights(one_file(stored))
    weights.rows("matrix.F32", 3, 5)[:] = 7
    np.testing.assert_array_equal(weights.rows("matrix.F32", 3, 5), load_file(stored)["matrix.F32"][3:5])


def test_raw_is_what_lies_in_the_file(stored: Path) -> None:
    weights = Weights(one_file(stored))
    for name, expected in load_file(stored).items():
        assert bytes(weights.raw(name)) == expected.contiguous().view(-1).view(torch.uint8).numpy().tobytes(), name
        assert weights[name].size == len(weights.raw(name))


def test_a_header_of_odd_length_is_read_too(tmp_path: Path) -> None:
    text = b'{"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}} '
    text += b" " * (len(text) % 2 == 0)
    (tmp_path / "x.safetensors").write_bytes(
        len(text).to_bytes(8, "little") + text + np.array([1.5, -2], "<f4").tobytes()
    )
    assert Weights(one_file(tmp_path / "x.safetensors")).rows("x", 0, 2).tolist() == [1.5, -2]


def test_what_is_not_there_is_an_error(stored: Path) -> None:
    weights = Weights(one_file(stored))
    assert "matrix.F16" in weights
    assert "other" not in weights
    assert set(weights) == set(load_file(stored))
    with pytest.raises(KeyError):
        weights["other"]
    for start, stop in ((0, 38), (-1, 2), (3, 2)):
        with pytest.raises(IndexError, match=r"matrix\.F16, which has 37"):
            weights.rows("matrix.F16", start, stop)
    with pytest.raises(InputError, match=r"odd  is stored as I8; F32, F16 and BF16 can be read"):
        weights.rows("odd", 0, 1)


def test_a_file_that_changed_since_is_refused(stored: Path) -> None:
    weights = Weights(one_file(stored))
    save_file({"other": torch.zeros(3)}, stored)
    with pytest.raises(InputError, match=r"error\[model.changed\]: model.safetensors"):
        weights.raw("matrix.F32")


def copied(source: Path, target: Path) -> None:
    weights, tensors = Weights(one_file(source)), read_header(source)
    write_shard(target, tensors, lambda tensor: weights.pieces(tensor.name))


def test_a_copy_is_the_same_tensors_in_the_same_order(
    stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights_module, "BLOCK", 50)
    copied(stored, tmp_path / "copy.safetensors")
    ours, theirs = load_file(tmp_path / "copy.safetensors"), load_file(stored)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours.keys() | theirs.keys())
    names = [[tensor.name for tensor in read_header(path)] for path in (tmp_path / "copy.safetensors", stored)]
    assert names[0] == names[1]
    with safe_open(tmp_path / "copy.safetensors", "np") as file:
        assert file.metadata() == {"format": "pt"}
    assert int.from_bytes((tmp_path / "copy.safetensors").read_bytes()[:8], "little") % 8 == 0


def test_encoded_blocks_are_a_tensor_that_safetensors_reads(tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal((10, 3)).astype(np.float32)
    for dtype, kind in TORCH.items():
        size = 30 * DTYPES[dtype].itemsize
        tensor = TensorInfo("é.weight", (10, 3), dtype, size, "x.safetensors")

        def halves(_: TensorInfo, dtype: str = dtype) -> Iterator[Any]:
            yield encode(values[:4], dtype)
            yield encode(values[4:], dtype)

        write_shard(tmp_path / "x.safetensors", [tensor], halves)
        assert torch.equal(load_file(tmp_path / "x.safetensors")["é.weight"], torch.from_numpy(values).to(kind))


@pytest.mark.parametrize("content", [b"", bytes(11), bytes(13)])
def test_a_tensor_that_gets_another_size_than_it_states_is_an_error(tmp_path: Path, content: bytes) -> None:
    tensor = TensorInfo("x", (3,), "F32", 12, "x.safetensors")
    with pytest.raises(ValueError, match=f"x got {len(content)} bytes, its header says 12"):
        write_shard(tmp_path / "x.safetensors", [tensor], lambda _: iter([content]))


def test_a_size_that_contradicts_shape_and_type_is_an_error(tmp_path: Path) -> None:
    tensor = TensorInfo("x", (3,), "F32", 12, "x.safetensors")
    for wrong in ([replace(tensor, dtype="F16")], [replace(tensor, shape=(4,))], [tensor, tensor]):
        with pytest.raises(ValueError, match="x is there twice, or 12 bytes are not"):
            write_shard(tmp_path / "x.safetensors", wrong, lambda _: iter([bytes(12)]))


def peak_of_reading(path: Path) -> int:
    weights = Weights(one_file(path))
    tracemalloc.start()
    for _ in weights.blocks("x"):
        pass
    copied(path, path.with_name("copy.safetensors"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_memory_is_that_of_a_few_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_file({"x": torch.zeros(4096, 1024, dtype=torch.bfloat16)}, tmp_path / "x.safetensors")
    whole = 4 * 4096 * 1024
    monkeypatch.setattr(weights_module, "BLOCK", 1 << 18)
    assert peak_of_reading(tmp_path / "x.safetensors") < 4 << 18
    monkeypatch.setattr(weights_module, "BLOCK", whole)
    assert peak_of_reading(tmp_path / "x.safetensors") > whole
