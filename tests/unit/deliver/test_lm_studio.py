"""A GGUF in LM Studio's folder: where it looks, linked, and nothing of anybody else's replaced."""

import errno
import json
import os
from pathlib import Path
from typing import NoReturn

import pytest

from localtune.deliver.llama_cpp import commands
from localtune.deliver.lm_studio import models_folder, place
from localtune.errors import InputError, MachineError, ResourceError


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    path = tmp_path / "export" / "M-1B-v1.0-Q8_0.gguf"
    path.parent.mkdir()
    path.write_bytes(b"GGUF and more")
    return path


def test_without_lm_studio_the_reason_is_told(gguf: Path, tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=r"lm-studio\.missing"):
        place(gguf, home=tmp_path)
    assert not (tmp_path / ".lmstudio").exists()


def test_the_file_lies_two_levels_deep_and_takes_no_space_twice(gguf: Path, tmp_path: Path) -> None:
    (tmp_path / ".lmstudio").mkdir()
    target = place(gguf, home=tmp_path)
    assert target == tmp_path / ".lmstudio" / "models" / "localtune" / "M-1B-v1.0-Q8_0" / gguf.name
    assert target.samefile(gguf)
    assert place(gguf, home=tmp_path) == target


def test_its_home_and_its_folder_of_models_may_be_elsewhere(gguf: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / ".lmstudio-home-pointer").write_text(f"{tmp_path / 'other'}\n")
    assert models_folder(tmp_path) == tmp_path / "other" / "models"
    (tmp_path / "other" / "settings.json").write_text(json.dumps({"downloadsFolder": str(tmp_path / "big")}))
    assert place(gguf, home=tmp_path, model="m") == tmp_path / "big" / "localtune" / "m" / gguf.name
    for broken in ("{", '{"downloadsFolder": 5}', '{"downloadsFolder": "relative"}'):
        (tmp_path / "other" / "settings.json").write_text(broken)
        assert models_folder(tmp_path) == tmp_path / "other" / "models"
    (tmp_path / ".lmstudio").mkdir()
    for pointer in ("", "relative", str(tmp_path / "gone")):
        (tmp_path / ".lmstudio-home-pointer").write_text(pointer)
        assert models_folder(tmp_path) == tmp_path / ".lmstudio" / "models"


def test_where_a_link_cannot_be_a_copy_is_made(gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".lmstudio").mkdir()

    def elsewhere(*_: object) -> NoReturn:
        raise OSError(errno.EXDEV, "another disk")

    monkeypatch.setattr(os, "link", elsewhere)
    target = place(gguf, home=tmp_path)
    assert not target.samefile(gguf)
    assert target.read_bytes() == gguf.read_bytes()
    assert place(gguf, home=tmp_path) == target
    assert os.listdir(target.parent) == [gguf.name]


def test_a_file_of_somebody_elses_is_never_replaced(gguf: Path, tmp_path: Path) -> None:
    target = tmp_path / ".lmstudio" / "models" / "localtune" / gguf.stem / gguf.name
    target.parent.mkdir(parents=True)
    target.write_bytes(b"GGUF of others")
    with pytest.raises(InputError, match=r"lm-studio\.exists"):
        place(gguf, home=tmp_path)
    assert target.read_bytes() == b"GGUF of others"
    target.unlink()
    target.symlink_to(tmp_path / "gone")
    with pytest.raises(InputError, match=r"lm-studio\.exists"):
        place(gguf, home=tmp_path)


def test_a_full_disk_leaves_no_half_file(gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".lmstudio").mkdir()

    def full(source: Path, target: Path) -> NoReturn:
        target.write_bytes(b"GG")
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(errno.EXDEV, "another disk")))
    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(ResourceError, match=r"disk\.full"):
        place(gguf, home=tmp_path)
    assert not [path for path in (tmp_path / ".lmstudio").rglob("*") if path.is_file()]


@pytest.mark.parametrize("name", ["..", "a/b", "", ".hidden", "-x", "a\\b", "a b", "x" * 121, "हिन्दी" * 7])
def test_a_name_is_one_folder(name: str, gguf: Path, tmp_path: Path) -> None:
    (tmp_path / ".lmstudio").mkdir()
    with pytest.raises(InputError, match=r"lm-studio\.name"):
        place(gguf, home=tmp_path, model=name)


def test_commands_can_be_typed() -> None:
    path = Path("/my models/it's.gguf")
    assert commands(path, windows=False) == [
        "llama-cli -m '/my models/it'\"'\"'s.gguf'",
        "llama-server -m '/my models/it'\"'\"'s.gguf' --jinja",
    ]
    assert commands(Path("a b.gguf"), windows=True)[1] == 'llama-server -m "a b.gguf" --jinja'
