"""Folders that can be written or not, the cache, and a token that is never shown."""

import sys
from pathlib import Path

import pytest
from huggingface_hub import constants

from localtune.doctor import Finding, can_train, folders
from tests.unit.doctor.builders import only


def test_runs_that_do_not_exist_yet_are_tried_where_they_would_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCALTUNE_RUNS", str(tmp_path / "not" / "yet"))
    found = only(folders.runs)
    assert found.status == "ok"
    assert "0 runs" in found.text
    assert list(tmp_path.iterdir()) == []


def test_runs_that_cannot_be_written_stop_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LOCALTUNE_RUNS", str(tmp_path / "file" / "runs"))
    found = only(folders.runs)
    assert not can_train([found])
    assert "is a file" in found.text
    assert "LOCALTUNE_RUNS" in found.fix

    def refused(**_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setenv("LOCALTUNE_RUNS", str(tmp_path))
    monkeypatch.setattr("tempfile.TemporaryFile", refused)
    assert "Read-only file system" in only(folders.runs).text


def test_little_room_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCALTUNE_RUNS", str(tmp_path))
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"total": 10**12, "free": 5 * 10**8}))
    assert only(folders.runs).status == "warning"


def test_the_cache_is_sized_without_counting_linked_files_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob = tmp_path / "models--a--b" / "blobs" / "x"
    blob.parent.mkdir(parents=True)
    blob.write_bytes(b"x" * 3_000_000)
    if sys.platform != "win32":
        (tmp_path / "models--a--b" / "snapshot").symlink_to(blob)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert folders.tree_size(tmp_path, 5) == (3_000_000, True)
    assert folders.tree_size(tmp_path, -1) == (0, False)
    assert "1 model, 0.0 GB" in only(folders.hub_cache).text


def test_a_token_is_found_and_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    assert only(folders.hub_token).fix == "hf auth login"
    (tmp_path / "token").write_text("hf_secret\n")
    assert only(folders.hub_token) == Finding("hub token", "ok", f"in {tmp_path / 'token'}")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert only(folders.hub_token) == Finding("hub token", "ok", "in HF_TOKEN")


def test_a_hub_that_is_switched_off_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert only(folders.offline).fix == "unset HF_HUB_OFFLINE"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    assert only(folders.offline).status == "ok"
