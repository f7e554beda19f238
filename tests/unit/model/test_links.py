"""Where the files of a folder may lie: in it or among the contents of the hub's cache, as far as anybody reads them."""

import os
import shutil
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from huggingface_hub import constants

from localtune.errors import InputError
from localtune.fuse import COMPANIONS
from localtune.model import FINGERPRINTED, resolve
from localtune.model.links import READ, refuse_links_out
from localtune.model.tensors import INDEX, WEIGHTS
from localtune.modelcard import CARD
from tests.command import MODEL

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")
BLOB = "0123456789abcdef" * 4


def linked(path: Path, target: Path) -> Path:
    """`path` as a link to `target`, which gets its content."""
    target.parent.mkdir(parents=True, exist_ok=True)
    path.rename(target)
    path.symlink_to(target)
    return path.parent


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(MODEL, tmp_path / "model"))


def test_a_template_below_the_folder_may_not_lead_out(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "x.jinja").symlink_to(tmp_path / "secret")
    with pytest.raises(InputError) as refused:
        resolve(str(folder), folder, offline=True)
    (problem,) = refused.value.problems
    assert (problem.code, problem.where) == ("model.link", "additional_chat_templates/x.jinja")
    assert "--" not in problem.fix


def test_a_link_that_nobody_reads_may_lead_anywhere(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "big").mkdir()
    for name, target in (
        ("exports", tmp_path / "big"),
        ("notes.md", Path("/etc/hostname")),
        ("license-texts", tmp_path),
    ):
        (folder / name).symlink_to(target)
    assert resolve(str(folder), folder, offline=True).tensors


def test_what_is_copied_or_read_is_looked_at() -> None:
    copied = {Path(pattern).name.replace("*", "x") for pattern in COMPANIONS}
    names = {*copied, *FINGERPRINTED, INDEX, WEIGHTS, CARD.lower(), "exports"}
    assert [name for name in names if not any(fnmatchcase(name, pattern) for pattern in READ)] == ["exports"]


def test_a_cache_whose_contents_are_on_another_disk_is_opened(folder: Path, tmp_path: Path) -> None:
    kept = tmp_path / "models--org--x"
    (kept / "snapshots").mkdir(parents=True)
    snapshot = folder.rename(kept / "snapshots" / "abc")
    (tmp_path / "disk").mkdir()
    (kept / "blobs").symlink_to(tmp_path / "disk")
    linked(snapshot / WEIGHTS, tmp_path / "disk" / BLOB)
    (snapshot / WEIGHTS).unlink()
    (snapshot / WEIGHTS).symlink_to(f"../../blobs/{BLOB}")
    assert resolve(str(snapshot), tmp_path, offline=True).tensors
    (tmp_path / "disk" / BLOB).rename(tmp_path / "disk" / "secret")
    (snapshot / WEIGHTS).unlink()
    (snapshot / WEIGHTS).symlink_to("../../blobs/secret")
    with pytest.raises(InputError, match="leads out"):
        refuse_links_out(snapshot)


def test_a_folder_of_links_into_the_hubs_cache_is_opened(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = tmp_path / "disk" / "hub"
    linked(folder / WEIGHTS, hub / "models--org--x" / "blobs" / BLOB)
    with pytest.raises(InputError, match="leads out"):
        refuse_links_out(folder)
    (tmp_path / "hub").symlink_to(hub)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    assert resolve(str(folder), folder, offline=True).tensors
    (hub / "token").write_text("secret")
    (folder / "LICENSE").symlink_to(hub / "token")
    with pytest.raises(InputError, match="leads out"):
        refuse_links_out(folder)


def test_a_link_to_what_may_not_be_looked_at_is_told_in_words(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o000)
    os.symlink(tmp_path / "closed" / "x", folder / "LICENSE")
    with pytest.raises(InputError, match="leads out"):
        refuse_links_out(folder)
