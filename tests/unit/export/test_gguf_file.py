"""Whole files: the same as llama.cpp's converter writes, in blocks, or nothing at all."""

import errno
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGUFReader, GGUFWriter, LlamaFileType
from safetensors.numpy import load_file, save_file

from localtune.errors import InputError, LocaltuneError, MachineError, ResourceError
from localtune.export import values
from localtune.export.gguf_file import ENCODINGS, PROOF, PROOF_ROOM, set_string, write_gguf
from localtune.export.identity import identify
from localtune.export.pretokenizers import QWEN2
from localtune.export.read import read_gguf
from localtune.model import weights
from tests.material import material
from tests.unit.export.tiny import byte_level, exported, llama, prepared, save_tokenizer, split_by, write_gguf_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tokenizer = byte_level(split_by(QWEN2), size=330)
    save_tokenizer(tmp_path / "m", tokenizer)
    llama(tmp_path / "m", 330, eos=2, intermediate_size=100, attention_bias=True)
    return tmp_path / "m"


OURS = {
    "GGUF.kv_count",
    *("general.basename", "general.finetune", "general.version", "general.name"),
    *("general.base_model.count", "general.base_model.0.name", "general.sampling.temp"),
    *("localtune.proof", "localtune.recipe"),
    "tokenizer.ggml.add_space_prefix",  # stated; llama.cpp's default for this kind of vocabulary
    "tokenizer.ggml.add_sep_token",  # theirs: false, llama.cpp's default
    "tokenizer.ggml.eot_token_id",  # the model stops at BOS too, which their file does not say
}
"""Keys that differ from the reference."""


@pytest.mark.material
@pytest.mark.parametrize("encoding", ["F32", "F16", "Q8_0"])
def test_files_are_those_of_llama_cpps_converter(tmp_path: Path, encoding: str) -> None:
    source = material("model-stories260K")
    ours = GGUFReader(write_gguf_of(source, tmp_path / "m.gguf", encoding, {"recipe": "abc"}))
    theirs = GGUFReader(source / "reference" / f"stories260K-{encoding.lower()}.gguf")
    different = {
        key
        for key in {*ours.fields, *theirs.fields}
        if (a := ours.fields.get(key)) is None
        or (b := theirs.fields.get(key)) is None
        or (a.types, a.contents()) != (b.types, b.contents())
    }
    assert different == OURS
    left, right = ({t.name: t for t in reader.tensors} for reader in (ours, theirs))
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        assert tensor.tensor_type == right[name].tensor_type
        assert tensor.shape.tolist() == right[name].shape.tolist()
        assert np.array_equal(tensor.data, right[name].data)


@pytest.mark.parametrize("encoding", list(ENCODINGS))
def test_blocks_of_any_size_give_the_same_file(folder: Path, monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    whole = exported(folder, encoding).read_bytes()
    monkeypatch.setattr(weights, "BLOCK", 700)
    monkeypatch.setattr(values, "BLOCK", 700)
    assert exported(folder, encoding).read_bytes() == whole


def test_bfloat16_weights_are_written_as_they_are(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    exact = {name: torch.tensor(value).to(torch.bfloat16).float().numpy() for name, value in tensors.items()}
    save_file(exact, folder / "model.safetensors")
    written = {t.name: t.data for t in GGUFReader(exported(folder, "BF16")).tensors}
    bits = exact["model.layers.0.mlp.down_proj.weight"].view(np.uint32) >> 16
    assert np.array_equal(written["blk.0.ffn_down.weight"].view(np.uint16), bits)


def test_rows_that_q8_0_cannot_hold_stay_f16(folder: Path) -> None:
    kinds = {tensor.name: tensor.kind for tensor in read_gguf(exported(folder, "Q8_0")).tensors}
    assert kinds["blk.0.ffn_down.weight"] == "F16"
    assert kinds["blk.0.ffn_up.weight"] == kinds["output.weight"] == "Q8_0"
    assert kinds["blk.0.attn_norm.weight"] == kinds["blk.0.attn_q.bias"] == "F32"


def spoiled(folder: Path, value: float) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.1.self_attn.k_proj.weight"][3, 4] = value
    save_file(tensors, folder / "model.safetensors")


def failing(folder: Path, encoding: str) -> LocaltuneError:
    with pytest.raises(LocaltuneError) as caught:
        exported(folder, encoding)
    assert not list(folder.parent.glob("*.gguf"))
    return caught.value


@pytest.mark.parametrize(("encoding", "value"), [("F16", 7e4), ("Q8_0", 1e7)])
def test_a_value_too_large_is_named_with_its_tensor(folder: Path, encoding: str, value: float) -> None:
    spoiled(folder, value)
    problem = failing(folder, encoding).problems[0]
    assert (problem.code, problem.fix) == ("gguf.overflow", "--gguf BF16")
    assert problem.where == "model.layers.1.self_attn.k_proj.weight"
    assert exported(folder, "BF16").is_file()


@pytest.mark.parametrize("encoding", list(ENCODINGS))
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_refused(folder: Path, encoding: str, value: float) -> None:
    spoiled(folder, value)
    assert failing(folder, encoding).problems[0].code == "gguf.not-finite"


def test_a_full_disk_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: GGUFWriter) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(GGUFWriter, "write_ti_data_to_file", full)
    error = failing(folder, "F32")
    assert isinstance(error, ResourceError)
    assert error.problems[0].code == "gguf.disk-full"


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.EFBIG, "gguf.file-size"),
        (errno.EIO, "gguf.unwritable"),
        (getattr(errno, "EDQUOT", errno.ENOSPC), "gguf.disk-full"),
    ],
)
def test_what_the_system_refuses_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: str) -> None:
    def refuse(self: GGUFWriter) -> None:
        raise OSError(number, "refused")

    monkeypatch.setattr(GGUFWriter, "write_ti_data_to_file", refuse)
    assert failing(folder, "F32").problems[0].code == code


def test_a_file_larger_than_the_system_allows_is_refused(folder: Path) -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
        assert failing(folder, "F32").problems[0].code == "gguf.file-size"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_cannot_even_be_tidied_is_told_all_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(self: Path, missing_ok: bool = False) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "unlink", read_only)
    with pytest.raises(MachineError, match=r"gguf\.unwritable"):
        write_gguf_of(folder, folder / "none" / "m.gguf", "F32")


def test_a_name_too_long_is_one_line(folder: Path) -> None:
    with pytest.raises(MachineError, match=r"gguf\.unwritable.*name too long"):
        write_gguf_of(folder, folder.parent / ("n" * 300 + ".gguf"), "F32")


def test_weights_that_vanish_are_named_and_not_the_target(folder: Path) -> None:
    ready, path = prepared(folder, "F32"), folder.parent / "target" / "m.gguf"
    path.parent.mkdir()
    (folder / "model.safetensors").unlink()
    identity = identify(ready.model, finetune="", base=None, revision=None, lineage={})
    with pytest.raises(InputError) as caught:
        write_gguf(ready, path, "F32", identity)
    problem = caught.value.problems[0]
    assert problem.code == "gguf.source"
    assert problem.where == str(folder / "model.safetensors")
    assert "target" not in str(problem)
    assert not list(path.parent.iterdir())


@pytest.mark.parametrize(
    ("encoding", "kind"),
    [
        ("F32", LlamaFileType.ALL_F32),
        ("F16", LlamaFileType.MOSTLY_F16),
        ("BF16", LlamaFileType.MOSTLY_BF16),
        ("Q8_0", LlamaFileType.MOSTLY_Q8_0),
    ],
)
def test_the_file_says_its_encoding(folder: Path, encoding: str, kind: int) -> None:
    summary = read_gguf(exported(folder, encoding))
    assert summary.metadata["general.file_type"] == kind
    assert {tensor.kind for tensor in summary.tensors if tensor.name == "output.weight"} == {encoding}


def test_a_folder_that_is_not_there_is_one_line(folder: Path) -> None:
    with pytest.raises(MachineError, match=r"gguf\.unwritable"):
        write_gguf_of(folder, folder / "none" / "m.gguf", "F32")


def test_the_proof_is_written_where_room_was_left(folder: Path) -> None:
    path = exported(folder)
    assert read_gguf(path).metadata[PROOF] == " " * PROOF_ROOM
    set_string(path, PROOF, json.dumps({"kl": 1e-7}))
    reader: Any = GGUFReader(path)
    assert json.loads(reader.fields[PROOF].contents()) == {"kl": 1e-7}


def test_an_unknown_encoding_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="F32, F16, BF16, Q8_0"):
        exported(folder, "Q4_K_M")
