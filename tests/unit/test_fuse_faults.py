"""What may go wrong while a model is fused: one clear error each, and nothing under the final name."""

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from localtune.errors import InputError, LocaltuneError, MachineError, ResourceError
from localtune.model import ModelFiles, resolve
from localtune.model import weights as weights_module
from localtune.products.fused import fused_adapter
from tests.unit.test_fuse import make_adapter
from tests.unit.test_fuse_quantised import original, quantised

pytest.importorskip("peft")
pytest.importorskip("bitsandbytes")

KINDS = ["original", "nf4", "affine4"]


def base(tmp_path: Path, kind: str) -> ModelFiles:
    """A model, with an adapter of it beside."""
    if kind == "original":
        model = resolve(str(original(tmp_path / "original")), Path(), offline=True)
    else:
        model = quantised(tmp_path / "model", kind)
    make_adapter(tmp_path / "original", tmp_path / "adapter")
    return model


def failure(model: ModelFiles, adapter: Path, folder: Path) -> LocaltuneError:
    """The error of fusing, once it is known to leave nothing and to say what, where and what mends it."""
    beside = set(folder.parent.iterdir()) if folder.parent.is_dir() else set()
    with pytest.raises(LocaltuneError) as caught:
        list(fused_adapter(adapter, model, folder, force=True))
    assert not folder.exists()
    if folder.parent.is_dir():
        assert set(folder.parent.iterdir()) == beside
    (problem,) = caught.value.problems
    assert "\n" not in problem.what
    assert problem.where
    assert problem.fix
    return caught.value


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
@pytest.mark.parametrize("kind", KINDS)
def test_a_disk_that_fills_leaves_nothing_and_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, share: float
) -> None:
    model = base(tmp_path, kind)
    room, write = int(share * 2 * model.parameters), weights_module._write
    written = 0

    def filling(file: Any, piece: Any) -> int:
        nonlocal written
        written += memoryview(piece).nbytes
        if written > room:
            raise OSError(errno.ENOSPC, "No space left on device", file.name)
        return write(file, piece)

    monkeypatch.setattr(weights_module, "_write", filling)
    error = failure(model, tmp_path / "adapter", tmp_path / "fused")
    assert isinstance(error, ResourceError)
    assert error.problems[0].code == "disk.full"
    assert written > room
    monkeypatch.setattr(weights_module, "_write", write)
    list(fused_adapter(tmp_path / "adapter", model, tmp_path / "fused", force=True))
    assert resolve(str(tmp_path / "fused"), Path(), offline=True).parameters == model.parameters


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    model = base(tmp_path, "original")
    (tmp_path / "file").write_text("no folder")
    error = failure(model, tmp_path / "adapter", tmp_path / "file" / "fused")
    assert isinstance(error, MachineError)
    assert str(tmp_path / "file") in error.problems[0].where


@pytest.mark.parametrize("kind", ["nf4", "affine4"])
def test_a_shard_that_is_gone_since_the_model_was_found_is_named(tmp_path: Path, kind: str) -> None:
    model = base(tmp_path, kind)
    shard = model.folder / sorted({tensor.shard for tensor in model.tensors})[-1]
    shard.unlink()
    error = failure(model, tmp_path / "adapter", tmp_path / "fused")
    assert shard.name in error.problems[0].where


def test_a_missing_shard_is_named_before_anything_is_written(tmp_path: Path) -> None:
    model = quantised(tmp_path / "model", "nf4")
    shard = sorted({tensor.shard for tensor in model.tensors})[0]
    (model.folder / shard).unlink()
    with pytest.raises(InputError, match=shard) as caught:
        resolve(str(model.folder), Path(), offline=True)
    assert caught.value.problems[0].code == "model.shard"


def cut(model: ModelFiles) -> None:
    shard = model.folder / model.tensors[0].shard
    shard.write_bytes(shard.read_bytes()[:-10])


def other_adapter(model: ModelFiles) -> None:
    path = model.folder.parent / "adapter" / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-4])


@pytest.mark.parametrize("damage", [cut, other_adapter], ids=["shard cut short", "adapter cut short"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_was_cut_short_since_is_named(
    tmp_path: Path, kind: str, damage: Callable[[ModelFiles], None]
) -> None:
    model = base(tmp_path, kind)
    damage(model)
    error = failure(model, tmp_path / "adapter", tmp_path / "fused")
    assert isinstance(error, InputError)
