"""Whole files: the same as llama.cpp's converter writes, in blocks, or nothing at all."""

import errno
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
import torch
from gguf import GGUFReader, GGUFWriter, LlamaFileType, quants
from safetensors.numpy import load_file, save_file

from localtune.batch import Floats
from localtune.errors import InputError, LocaltuneError, MachineError, ResourceError
from localtune.export import gguf_file, values
from localtune.export.encodings import ENCODINGS
from localtune.export.gguf_file import PROOF, PROOF_ROOM, set_string, write_gguf, write_ggufs
from localtune.export.identity import identify
from localtune.export.placed import Placed
from localtune.export.pretokenizers import QWEN2
from localtune.export.read import read_gguf
from localtune.export.type_plan import type_plan
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
    *("localtune.proof", "localtune.recipe", "localtune.base.sha256"),
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
    quantised = {"general.quantized_by"} if encoding == "Q8_0" else set()  # theirs does not say
    assert different == OURS | quantised
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


@pytest.mark.parametrize(("encoding", "value"), [("F16", 7e4), ("Q8_0", 1e7), ("Q4_K_M", 1e7)])
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


class Filling:
    """A file on a disk that has room for so many bytes."""

    def __init__(self, file: BinaryIO, room: int) -> None:
        self._file, self._room = file, room

    def write(self, content: bytes) -> int:
        self._room -= len(content)
        if self._room < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self._file.write(content)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@pytest.mark.parametrize("cores", ["1", "3"])
@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_a_disk_that_fills_on_the_way_leaves_none_of_the_files(
    folder: Path, monkeypatch: pytest.MonkeyPatch, share: float, cores: str
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", cores)
    monkeypatch.setattr(weights, "BLOCK", 700)
    size = exported(folder, "Q8_0").stat().st_size
    folder.with_suffix(".Q8_0.gguf").unlink()
    opened = GGUFWriter.open_output_file

    def filling(self: GGUFWriter, path: Path | None = None) -> None:
        opened(self, path)
        assert self.fout is not None
        if "q8" in str(self.path):
            self.fout = [Filling(self.fout[0], int(size * share))]  # type: ignore[list-item]

    monkeypatch.setattr(GGUFWriter, "open_output_file", filling)
    target = folder.parent / "target"
    target.mkdir()
    with pytest.raises(ResourceError, match=r"gguf\.disk-full"):
        written(folder, {"F16": target / "f16", "Q8_0": target / "q8", "Q4_K_M": target / "q4"})
    assert not list(target.iterdir())


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_a_file_size_that_is_not_allowed_is_refused_wherever_it_is_met(folder: Path, share: float) -> None:
    resource = pytest.importorskip("resource")
    size = exported(folder, "Q4_K_M").stat().st_size
    folder.with_suffix(".Q4_K_M.gguf").unlink()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(size * share), before[1]))
        assert failing(folder, "Q4_K_M").problems[0].code == "gguf.file-size"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def written(folder: Path, files: Mapping[str, Path]) -> None:
    ready = prepared(folder, *files)
    write_ggufs(ready, files, identify(ready.model, finetune="test", base=folder.name, revision=None, lineage={}))


def test_files_written_together_are_those_written_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = {encoding: exported(folder, encoding).read_bytes() for encoding in ENCODINGS}
    monkeypatch.setattr(weights, "BLOCK", 700)
    for cores in ("1", "3"):
        monkeypatch.setenv("OMP_NUM_THREADS", cores)
        files = {encoding: folder.parent / f"{encoding}.together" for encoding in ENCODINGS}
        written(folder, files)
        assert {encoding: path.read_bytes() for encoding, path in files.items()} == alone


def test_weights_are_read_once_for_all_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    rows = weights.Weights.rows

    def counted(self: weights.Weights, name: str, start: int, stop: int) -> Floats:
        read.append(name)
        return rows(self, name, start, stop)

    monkeypatch.setattr(weights.Weights, "rows", counted)
    monkeypatch.setattr(gguf_file, "base_key", lambda model, conversion: {})
    written(folder, {encoding: folder.parent / f"{encoding}.gguf" for encoding in ENCODINGS})
    assert len(read) == len(set(read)) > 10


def test_experts_lie_one_after_the_other(folder: Path) -> None:
    ready = prepared(folder)
    sources = tuple(f"model.layers.0.mlp.{part}_proj.weight" for part in ("gate", "up"))
    stack = Placed("blk.0.ffn_up_exps.weight", (2, 100, 64), sources)
    conversion = replace(ready.conversion, tensors=(*ready.conversion.tensors, stack))
    types = {name: type_plan(conversion, encoding) for name, encoding in ENCODINGS.items()}
    identity = identify(ready.model, finetune="test", base=None, revision=None, lineage={})
    files = {"F32": folder.parent / "f32.gguf", "Q8_0": folder.parent / "q8.gguf"}
    write_ggufs(replace(ready, conversion=conversion, types=types), files, identity)
    exact, rounded = ({t.name: t for t in GGUFReader(path).tensors}[stack.name] for path in files.values())
    stored = load_file(folder / "model.safetensors")
    assert np.array_equal(exact.data, np.stack([stored[name] for name in sources]))
    assert rounded.shape.tolist() == [64, 100, 2]
    back = quants.dequantize(rounded.data, rounded.tensor_type)
    assert np.abs(back - exact.data).max() < np.abs(exact.data).max() / 200


def test_work_that_is_asked_to_end_leaves_nothing(folder: Path) -> None:
    ready, path = prepared(folder), folder.parent / "m.gguf"
    blocks = 0

    def enough() -> None:
        nonlocal blocks
        blocks += 1
        if blocks == 5:
            raise KeyboardInterrupt

    identity = identify(ready.model, finetune="test", base=None, revision=None, lineage={})
    with pytest.raises(KeyboardInterrupt):
        write_ggufs(ready, {"Q4_K_M": path}, identity, enough)
    assert not path.exists()


def test_notes_name_the_tensors_of_the_types_asked_for_only(folder: Path) -> None:
    assert not [note for note in prepared(folder, "F16").notes if "whose blocks of" in note]
    notes = [note for note in prepared(folder, "Q8_0", "Q4_K_M").notes if "whose blocks of" in note]
    assert {note.partition(":")[0] for note in notes} == {"Q8_0", "Q4_K_M"}
    assert any("ffn_down" in note for note in notes)


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
        ("Q6_K", LlamaFileType.MOSTLY_Q6_K),
        ("Q5_K_M", LlamaFileType.MOSTLY_Q5_K_M),
        ("Q4_K_M", LlamaFileType.MOSTLY_Q4_K_M),
        ("Q4_K_S", LlamaFileType.MOSTLY_Q4_K_S),
    ],
)
def test_the_file_says_its_encoding(folder: Path, encoding: str, kind: int) -> None:
    assert read_gguf(exported(folder, encoding)).metadata["general.file_type"] == kind


def test_a_folder_that_is_not_there_is_one_line(folder: Path) -> None:
    with pytest.raises(MachineError, match=r"gguf\.unwritable"):
        write_gguf_of(folder, folder / "none" / "m.gguf", "F32")


def test_the_proof_is_written_where_room_was_left(folder: Path) -> None:
    path = exported(folder)
    assert read_gguf(path).metadata[PROOF] == " " * PROOF_ROOM
    set_string(path, PROOF, json.dumps({"kl": 1e-7}))
    reader: Any = GGUFReader(path)
    assert json.loads(reader.fields[PROOF].contents()) == {"kl": 1e-7}
