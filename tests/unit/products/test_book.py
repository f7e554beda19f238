"""The record beside exported files knows every file that an export wrote there, and of what, whenever it was ended."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from localtune.durable import temporary_of
from localtune.errors import InputError
from localtune.products import RECORD, book
from localtune.products.book import enter, refuse_foreign
from localtune.products.gguf import export
from localtune.products.source import Source, of_folder
from localtune.runs.files import read_json, sha256
from tests.command import MODEL, returned
from tests.faults.cuts import cut_everywhere

OLD, NEW = b"as it was", b"as it is now"


@pytest.fixture(scope="module")
def source() -> Source:
    found: Source = returned(of_folder(str(MODEL), Path("export"), check=False))
    return found


def _entered(source: Source, path: Path, content: bytes) -> None:
    temporary_of(path).write_bytes(content)
    enter(source, temporary_of(path), path, None)


@pytest.fixture
def exported(source: Source, tmp_path: Path) -> tuple[Source, Path]:
    """A source, and a file of it with its record."""
    path = tmp_path / "export" / "model-Q8_0.gguf"
    path.parent.mkdir()
    _entered(source, path, OLD)
    return replace(source, folder=path.parent), path


@pytest.mark.skipif(not hasattr(os, "fork"), reason="cuts are made in forked processes")
def test_an_end_at_any_moment_leaves_a_file_that_the_record_knows(exported: tuple[Source, Path]) -> None:
    source, path = exported
    seen = set()

    def check(number: int) -> None:
        seen.add(path.read_bytes())
        refuse_foreign(source, [path.name])
        stated = book._files_in(path.parent / RECORD)[path.name]["sha256"]
        assert stated == sha256(path), f"call {number}"

    assert cut_everywhere(path.parent, lambda: _entered(source, path, NEW), check) > 5
    assert seen == {OLD, NEW}


def test_a_file_that_cannot_be_replaced_is_known_afterwards_too(
    exported: tuple[Source, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, path = exported

    def held(source: Path, target: Path) -> None:
        raise PermissionError(13, "another program has it open", str(target))

    with monkeypatch.context() as patch:
        patch.setattr(book, "replace", held)
        with pytest.raises(PermissionError):
            _entered(source, path, NEW)
    refuse_foreign(source, [path.name])
    _entered(source, path, NEW)
    assert list(read_json(path.parent / RECORD)) == ["format", "files"]


def test_a_file_changed_by_somebody_else_is_refused(exported: tuple[Source, Path]) -> None:
    source, path = exported
    path.write_bytes(NEW)
    with pytest.raises(InputError, match="no export from here wrote it"):
        refuse_foreign(source, [path.name])


def _change_one_row(path: Path) -> None:
    tensors = load_file(path)
    tensors["model.layers.1.mlp.up_proj.weight"][7] *= 2
    save_file(tensors, path, metadata={"format": "pt"})


def test_the_file_of_another_folder_is_not_replaced_and_that_of_the_same_is(tmp_path: Path) -> None:
    folders = [tmp_path / "x" / "merged", tmp_path / "y" / "merged"]
    for folder in folders:
        shutil.copytree(MODEL, folder)
    _change_one_row(folders[1] / "model.safetensors")
    one, other = (returned(of_folder(str(folder), tmp_path / "out", check=False)) for folder in folders)
    (path,) = returned(export(one, ["F16"]))
    before = sha256(path)
    with pytest.raises(InputError, match="made of another model"):
        returned(export(other, ["F16"]))
    assert sha256(path) == before
    assert returned(export(one, ["F16"])) == [path]
