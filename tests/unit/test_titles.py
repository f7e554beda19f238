"""Names of models: what a path in the hub's cache holds, and which two names may mean one model."""

from pathlib import Path

import pytest

from localtune.titles import cached, may_be_one, title

SNAPSHOT = "/cache/hub/models--Qwen--Qwen3-0.6B/snapshots/" + "c0ffee00" * 5


@pytest.mark.parametrize(
    ("path", "held"),
    [
        (SNAPSHOT, "Qwen/Qwen3-0.6B"),
        (SNAPSHOT + "/", "Qwen/Qwen3-0.6B"),
        (SNAPSHOT.replace("/", "\\"), "Qwen/Qwen3-0.6B"),
        ("/cache/models--gpt2/snapshots/abc", "gpt2"),
        ("/models/Qwen3-0.6B", None),
        ("Qwen/Qwen3-0.6B", None),
        ("", None),
    ],
)
def test_a_folder_of_the_hubs_cache_is_what_it_holds(path: str, held: str | None) -> None:
    assert cached(path) == held


@pytest.mark.parametrize(
    ("one", "other", "may"),
    [
        ("Qwen/Qwen3-0.6B", "/models/Qwen3-0.6B", True),
        ("Qwen/Qwen3-0.6B", SNAPSHOT, True),
        ("Qwen/Qwen3-0.6B@main", "qwen/qwen3-0.6b", True),
        ("Qwen/Qwen3-0.6B", ".", True),
        ("Qwen/Qwen3-0.6B", "Qwen/Qwen3-0.6B-Base", False),
        ("other/Qwen3-0.6B", SNAPSHOT, False),
        ("/models/Qwen3-0.6B", "/models/Qwen3-1.7B", False),
    ],
)
def test_names_that_do_not_contradict_each_other_may_be_one_model(one: str, other: str, may: bool) -> None:
    assert may_be_one(one, other) is may
    assert may_be_one(other, one) is may


def test_a_folder_is_itself_whatever_it_is_called(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").symlink_to(tmp_path / "a", target_is_directory=True)
    assert may_be_one(str(tmp_path / "a"), str(tmp_path / "b"))
    assert not may_be_one(str(tmp_path / "a"), "org/b")


def test_a_name_that_no_file_system_takes_is_no_folder() -> None:
    assert title("x" * 5000) == ("", "x" * 5000)
    assert title("a\0b") == ("", "a\0b")
