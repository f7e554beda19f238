"""What is published: the same bytes wherever and whenever it is built, and nothing in it that is not ours."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests import goals

ROOT = Path(__file__).parents[2]
EPOCH = re.findall(r"SOURCE_DATE_EPOCH := (\d+)", (ROOT / "Makefile").read_text(encoding="utf-8"))[0]
OTHER_PLACE = {"TZ": "Asia/Tokyo", "LC_ALL": "C", "PYTHONHASHSEED": "7"}
LOOSE = "token.txt"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project as a clone has it, and a file that lies about."""
    folder = tmp_path_factory.mktemp("clone")
    (folder / LOOSE).write_text("hf_secret", encoding="utf-8")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def built(tree: Path) -> list[Path]:
    """The wheel and the source archive."""
    return _build(tree)


def _build(tree: Path, *arguments: str, umask: int = 0o022, **environment: str) -> list[Path]:
    command = [sys.executable, "-m", "hatchling", "build", "--directory", "out", *arguments]
    where = {"SOURCE_DATE_EPOCH": EPOCH, **environment}
    mask = umask if os.name == "posix" else -1
    subprocess.run(command, cwd=tree, env=os.environ | where, check=True, capture_output=True, umask=mask)
    return sorted((tree / "out").iterdir())


def _sums(files: list[Path]) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _elsewhere(tree: Path, folder: Path, when: int) -> Path:
    """A copy made in another order, with other times and for its owner only."""
    for path in sorted(tree.rglob("*"), reverse=True):
        if path.is_file() and "out" not in path.relative_to(tree).parts[:1]:
            copy = folder / path.relative_to(tree)
            copy.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            shutil.copyfile(path, copy)
            copy.chmod(0o700 if os.access(path, os.X_OK) else 0o600)
            os.utime(copy, (when, when))
    return folder


def test_built_twice_it_is_the_same_bytes(tree: Path, built: list[Path], tmp_path: Path, goal: goals.Reached) -> None:
    tries = goals.times(1, 8)
    for number in range(tries):
        copy = _elsewhere(tree, tmp_path / ("a longer path of another folder" * (number + 1)), 10**9 + number * 10**8)
        assert _sums(_build(copy, umask=0o077, **OTHER_PLACE)) == _sums(built)
    goal("installs", f"wheel and source archive built {tries + 1} times in other places: 1 SHA-256 each")


def test_the_source_archive_builds_the_same_wheel(built: list[Path], tmp_path: Path) -> None:
    wheel, archive = _by_kind(built)
    with tarfile.open(archive) as packed:
        packed.extractall(tmp_path, filter="data")
    (unpacked,) = tmp_path.iterdir()
    assert _sums(_build(unpacked, "--target", "wheel")) == _sums([wheel])


def test_another_time_would_be_noticed(tree: Path, built: list[Path], tmp_path: Path) -> None:
    copy = _elsewhere(tree, tmp_path / "later", 10**9)
    wheel, _ = _by_kind(built)
    (later,) = _build(copy, "--target", "wheel", SOURCE_DATE_EPOCH=str(int(EPOCH) + 86400))
    assert later.name == wheel.name
    assert _sums([later]) != _sums([wheel])


def test_the_wheel_holds_our_packages_and_recipes_only(built: list[Path]) -> None:
    wheel, _ = _by_kind(built)
    with zipfile.ZipFile(wheel) as packed:
        names = packed.namelist()
    tops = {name.partition("/")[0] for name in names}
    ours = {"localtune", "localtune_torch", "localtune_mlx", "localtune_tui"}
    assert {top for top in tops if not top.endswith(".dist-info")} == ours
    assert {"localtune/recipes/lora.yaml", "localtune/recipes/quickstart/model/model.safetensors"} <= set(names)
    assert not [name for name in names if re.search(r"(^|/)(\.|tests?/|__pycache__)|\.(pyc|pth|so)$", name)]


def test_the_source_archive_holds_the_project_and_nothing_that_lies_about(tree: Path, built: list[Path]) -> None:
    _, archive = _by_kind(built)
    with tarfile.open(archive) as packed:
        tops = {name.split("/")[1] for name in packed.getnames()}
    shown = {path.name for path in tree.iterdir() if not path.name.startswith(".")}
    assert LOOSE in shown
    assert tops == shown - {"out", LOOSE} | {
        "PKG-INFO",
        ".gitignore",
    }  # so that a wheel made from it leaves out the same


def _by_kind(built: list[Path]) -> tuple[Path, Path]:
    (wheel,) = (path for path in built if path.suffix == ".whl")
    (archive,) = (path for path in built if path.suffix == ".gz")
    return wheel, archive
