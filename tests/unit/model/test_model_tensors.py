"""Safetensors headers and shard indexes: what is read, and every way in which they can lie."""

import json
import tracemalloc
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from localtune.errors import InputError, Problem
from localtune.model.tensors import BITS, HEADER_LIMIT, INDEX, WEIGHTS, read_header, read_tensors


def raw(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file of `header` (text as it is) and `data`, claiming a header of `length`."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def entry(dtype: str = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def refusal(folder: Path, content: bytes) -> Problem:
    path = folder / WEIGHTS
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_header(path)
    assert caught.value.problems[0].where.startswith(WEIGHTS)
    assert caught.value.problems[0].fix
    return caught.value.problems[0]


def test_a_file_of_the_safetensors_library_is_read_as_it_says(tmp_path: Path) -> None:
    arrays: dict[str, Any] = {
        "b": np.zeros((2, 3), np.float16),
        "a": np.zeros((5,), np.float32),
        "empty": np.zeros((0, 4), np.int8),
    }
    save_file({**arrays, "one": np.array(1.0)}, tmp_path / WEIGHTS, metadata={"format": "pt"})
    found = {tensor.name: tensor for tensor in read_header(tmp_path / WEIGHTS)}
    assert {name: (t.dtype, t.shape, t.size) for name, t in found.items()} == {
        "a": ("F32", (5,), 20),
        "b": ("F16", (2, 3), 12),
        "empty": ("I8", (0, 4), 0),
        "one": ("F64", (), 8),
    }
    assert {tensor.shard for tensor in found.values()} == {WEIGHTS}


@pytest.mark.parametrize("dtype", sorted(BITS))
def test_every_type_of_the_format_has_its_size(tmp_path: Path, dtype: str) -> None:
    (tmp_path / WEIGHTS).write_bytes(raw({"x": entry(dtype, [8], [0, BITS[dtype]])}, bytes(BITS[dtype])))
    assert read_header(tmp_path / WEIGHTS)[0].size == BITS[dtype]


def test_a_file_cut_short_is_named_with_the_numbers(tmp_path: Path) -> None:
    whole = raw({"x": entry()}, bytes(8))
    problem = refusal(tmp_path, whole[:-3])
    assert problem.code == "model.truncated"
    assert problem.what == f"is {len(whole) - 3} bytes long, its tensors need {len(whole)}"
    assert refusal(tmp_path, whole[:20]).code == "model.truncated"
    assert refusal(tmp_path, whole[:5]).what == "is 5 bytes long; a safetensors file has at least 8"
    (tmp_path / WEIGHTS).write_bytes(whole)
    assert read_header(tmp_path / WEIGHTS)[0].size == 8


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (raw(b"{}", length=2**63), "claims a header of"),
        (raw(b"[1]"), "not a JSON object"),
        (raw({"x": entry("F33")}, bytes(8)), "unknown type F33"),
        (raw({"x": entry(shape=[3])}, bytes(8)), "'x' is 3 of F32, but has 8 bytes of data"),
        (raw({"x": entry(shape=[-2])}, bytes(8)), "no valid shape"),
        (raw({"x": entry(shape=[True, 2])}, bytes(8)), "no valid shape"),
        (raw({"x": entry(shape=[1] * 40)}, bytes(8)), "no valid shape"),
        (raw({"x": entry(shape=[2**62] * 16)}, bytes(8)), "but has 8 bytes of data"),
        (raw({"x": entry(offsets=[8, 0])}, bytes(8)), "no valid data_offsets"),
        (raw({"x": entry(offsets=[0])}, bytes(8)), "no valid data_offsets"),
        (raw({"x": {"dtype": "F32"}}, bytes(8)), "no dtype, shape and data_offsets"),
        (raw({"x": 5}, bytes(8)), "no dtype, shape and data_offsets"),
        (raw({"x": entry(), "y": entry(offsets=[4, 12])}, bytes(12)), "overlaps"),
        (raw({"x": entry(), "y": entry(offsets=[0, 8])}, bytes(8)), "overlaps"),
        (raw({"x": entry(), "y": entry(offsets=[12, 20])}, bytes(20)), "leaves a gap"),
        (raw({"x": entry()}, bytes(9)), "has 1 bytes after its last tensor"),
        (raw({"a\nb": entry("F33")}, bytes(8)), "'a\\nb'"),
    ],
)
def test_a_header_that_lies_is_refused(tmp_path: Path, content: bytes, part: str) -> None:
    problem = refusal(tmp_path, content)
    assert problem.code == "model.safetensors"
    assert part in problem.what


@pytest.mark.parametrize(
    ("header", "part"),
    [
        (b"{", "not valid JSON"),
        (b"{\xff}", "not UTF-8"),
        (b'{"x": 1, "x": 2}', "'x' is there twice"),
        (b'{"x": ' + b"[" * 100_000, "nested too deeply"),
        (b'{"x": ' + b"9" * 5000 + b"}", "not valid JSON"),
    ],
)
def test_a_header_that_is_no_json_is_refused(tmp_path: Path, header: bytes, part: str) -> None:
    problem = refusal(tmp_path, raw(header))
    assert problem.code == "model.json"
    assert part in problem.what


SAME_FILE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@given(st.binary(max_size=200), st.integers(0, 2**64 - 1) | st.integers(0, 200))
@SAME_FILE
def test_random_bytes_raise_nothing_but_input_errors_and_allocate_little(
    tmp_path: Path, content: bytes, length: int
) -> None:
    path = tmp_path / "random.safetensors"
    path.write_bytes(raw(content, length=length))
    tracemalloc.start()
    with suppress(InputError):
        read_header(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3), st.lists, max_leaves=4
)
ENTRY = st.fixed_dictionaries(
    {"dtype": st.sampled_from(["F32", "U8", "F4"]) | JSON, "shape": JSON, "data_offsets": JSON}
)


@given(st.dictionaries(st.text(max_size=3), ENTRY | JSON, max_size=3))
@SAME_FILE
def test_random_headers_raise_nothing_but_input_errors(tmp_path: Path, header: dict[str, Any]) -> None:
    path = tmp_path / "random.safetensors"
    path.write_bytes(raw(header, bytes(8)))
    with suppress(InputError):
        read_header(path)


def test_the_memory_bound_of_the_random_test_can_fail(tmp_path: Path) -> None:
    """A header that is as long as it claims is read whole: the bound above is met by refusing, not by luck."""
    path = tmp_path / WEIGHTS
    path.write_bytes(raw(b'{"__metadata__": "' + b"x" * 2_000_000 + b'"}'))
    tracemalloc.start()
    assert read_header(path) == ()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak > 1_000_000


def sharded(folder: Path, weight_map: Any) -> None:
    for number, name in enumerate(("a", "b"), start=1):
        save_file({name: np.zeros(2, np.float32)}, folder / f"model-0000{number}-of-00002.safetensors")
    (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}))


FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


def index_refusal(folder: Path, weight_map: Any) -> Problem:
    sharded(folder, weight_map)
    with pytest.raises(InputError) as caught:
        read_tensors(folder)
    return caught.value.problems[0]


def test_shards_are_read_in_order(tmp_path: Path) -> None:
    sharded(tmp_path, {"b": SECOND, "a": FIRST})
    assert [(tensor.name, tensor.shard) for tensor in read_tensors(tmp_path)] == [("a", FIRST), ("b", SECOND)]


@pytest.mark.parametrize(
    "shard",
    [
        "../x.safetensors",
        "/etc/x.safetensors",
        "..",
        "a/b.safetensors",
        "a\\b.safetensors",
        ".x.safetensors",
        5,
        "x.bin",
    ],
)
def test_a_shard_outside_the_folder_is_refused(tmp_path: Path, shard: object) -> None:
    problem = index_refusal(tmp_path, {"a": shard})
    assert (problem.code, problem.where) == ("model.index", INDEX)
    assert "names the shard" in problem.what


@pytest.mark.parametrize("weight_map", [None, {}, [], "x"])
def test_an_index_without_a_map_is_refused(tmp_path: Path, weight_map: object) -> None:
    assert (index_refusal(tmp_path, weight_map).code, index_refusal(tmp_path, weight_map).where) == (
        "model.index",
        INDEX,
    )


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    problem = index_refusal(tmp_path, {"a": FIRST, "c": "model-00003-of-00003.safetensors"})
    assert (problem.code, problem.where) == ("model.shard", "model-00003-of-00003.safetensors")


def test_a_tensor_that_its_shard_lacks_is_named(tmp_path: Path) -> None:
    problem = index_refusal(tmp_path, {"a": FIRST, "b": FIRST})
    assert (problem.code, problem.where) == ("model.shard", INDEX)
    assert "does not hold 'b'" in problem.what


def test_a_tensor_in_two_shards_is_refused(tmp_path: Path) -> None:
    sharded(tmp_path, {"a": FIRST, "b": SECOND})
    save_file({"a": np.zeros(1, np.int8)}, tmp_path / SECOND)
    with pytest.raises(InputError) as caught:
        read_tensors(tmp_path)
    assert caught.value.problems[0].where == SECOND
    assert "'a' is in " + FIRST in caught.value.problems[0].what


def test_two_sets_of_weights_are_refused(tmp_path: Path) -> None:
    save_file({"a": np.zeros(2, np.float32)}, tmp_path / WEIGHTS)
    assert index_refusal(tmp_path, {"a": FIRST, "b": SECOND}).code == "model.two-sets"


@pytest.mark.parametrize(
    ("files", "code"),
    [
        ([], "model.no-weights"),
        (["model.gguf"], "model.no-weights"),
        (["pytorch_model.bin"], "model.pickle"),
        (["consolidated.00.pth"], "model.pickle"),
        (["x.ckpt", "model.pt"], "model.pickle"),
        (["adapter_model.safetensors"], "model.adapter"),
    ],
)
def test_a_folder_without_safetensors_says_what_it_holds(tmp_path: Path, files: list[str], code: str) -> None:
    for name in files:
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(InputError) as caught:
        read_tensors(tmp_path)
    problem = caught.value.problems[0]
    assert (problem.code, problem.where) == (code, tmp_path.name)
    assert problem.fix
    assert code != "model.pickle" or "convert" in problem.fix


def test_a_header_beyond_the_limit_is_not_told_to_be_a_bad_copy(tmp_path: Path) -> None:
    for length, again in ((HEADER_LIMIT + 1, False), (HEADER_LIMIT, True)):
        (tmp_path / WEIGHTS).write_bytes(raw(b"{}", length=length))
        with pytest.raises(InputError) as refused:
            read_header(tmp_path / WEIGHTS)
        assert ("again" in refused.value.problems[0].fix) is again
