"""Installs are what was tested: every package by version and hash, no more and no less than is needed."""

import re
import sys
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests import goals
from tests.hygiene.locks import FOLDER, ROOT, Locked, lock, needed, read

NAMES = sorted(path.stem for path in FOLDER.iterdir())
POSIX = {"os_name": "posix", "python_version": "3.11", "python_full_version": "3.11.9"}
LINUX = {**POSIX, "sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64"}
MAC = {**POSIX, "sys_platform": "darwin", "platform_system": "Darwin", "platform_machine": "arm64"}
CUDA = re.compile(r"nvidia-.*|cuda-.*|triton")
"""What the wheel of torch for CUDA brings; torch here may be one for processors, which names none of it."""
FLOORS = {"torch": "2.9.1", "transformers": "5.2.99", "jinja2": "3.1.5"}
"""The newest versions with holes that a model, a checkpoint or a template can use."""


def _pinned() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pairs}


def _declared() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [entry for extra in project["optional-dependencies"].values() for entry in extra]
    return [Requirement(entry) for entry in project["dependencies"] + extras]


def test_there_is_a_lock_for_every_platform_the_tests_and_the_release() -> None:
    assert NAMES == ["cpu-test", "linux-cuda", "mac-mlx", "release"]


def test_every_package_of_every_lock_has_hashes_and_nothing_else(goal: goals.Reached) -> None:
    entries = {name: read((FOLDER / f"{name}.txt").read_text(encoding="utf-8")) for name in NAMES}
    assert all(entry.hashes for lock_ in entries.values() for entry in lock_)
    counts = ", ".join(f"{name} {len(lock_)}" for name, lock_ in entries.items())
    goal("installs", f"100 % of the packages of {len(entries)} locks with hashes: {counts}")


GOOD = f"torch==2.13.0 \\\n    --hash=sha256:{'0' * 64}\n"


@pytest.mark.parametrize(
    "text",
    [
        "torch==2.13.0\n",
        GOOD.replace("sha256", "md5"),
        GOOD.replace("==", ">="),
        GOOD.replace("0" * 64, "0" * 63),
        "--extra-index-url https://example.org/simple\n" + GOOD,
        GOOD.replace("torch==2.13.0", "torch @ https://example.org/torch.whl"),
        GOOD.replace("torch==2.13.0", "./torch==2.13.0"),
        GOOD + "    # via localtune\n",
    ],
)
def test_a_lock_with_anything_else_is_refused(text: str) -> None:
    assert read(GOOD) == [Locked("torch", "2.13.0", "", ("0" * 64,))]
    with pytest.raises(ValueError, match="not name==version with hashes"):
        read(text)


@pytest.mark.parametrize("name", NAMES)
def test_versions_are_those_of_the_constraints(name: str) -> None:
    pinned = _pinned()
    other = {n: entry.version for n, entry in lock(name).items() if entry.version != pinned.get(n, entry.version)}
    assert not other, "make locks"


def test_the_constraints_are_what_the_tests_need_on_linux() -> None:
    held = {name for name, entry in lock("cpu-test").items() if _applies(entry, LINUX) and not CUDA.fullmatch(name)}
    assert set(_pinned()) == held


@pytest.mark.skipif(sys.platform != "linux", reason="only under Linux all is installed that says what it needs")
@pytest.mark.parametrize(
    ("name", "extras", "platform"),
    [
        ("mac-mlx", ["data"], MAC),
        ("linux-cuda", ["data"], LINUX),
        ("cpu-test", ["torch", "data", "mlx-cpu", "dev"], LINUX),
    ],
)
def test_a_lock_holds_what_is_needed_and_nothing_else(name: str, extras: list[str], platform: dict[str, str]) -> None:
    held = {n for n, entry in lock(name).items() if _applies(entry, platform)}
    wanted = needed("localtune", extras, platform)
    assert wanted <= held
    assert not {n for n in held - wanted if platform is MAC or not CUDA.fullmatch(n)}


def _applies(entry: Locked, platform: dict[str, str]) -> bool:
    marker = Requirement(f"x ; {entry.marker}").marker if entry.marker else None
    return marker is None or marker.evaluate(platform)


def test_a_package_left_out_of_a_lock_would_be_noticed() -> None:
    assert {"mlx-metal", "tokenizers", "click"} <= needed("localtune", ["data"], MAC)
    assert "torch" not in needed("localtune", ["data"], MAC)
    assert "mlx" not in needed("localtune", ["data"], LINUX)


@pytest.mark.parametrize(("name", "holed"), FLOORS.items())
def test_versions_with_holes_are_refused(name: str, holed: str) -> None:
    ours = [entry for entry in _declared() if canonicalize_name(entry.name) == name]
    assert ours
    assert not any(entry.specifier.contains(holed) for entry in ours)
    assert all(entry.specifier.contains(_pinned()[name]) for entry in ours)


def test_no_untested_mlx_is_installed() -> None:
    ours = [entry for entry in _declared() if entry.name in ("mlx", "mlx-lm")]
    assert len(ours) == 6
    for entry in ours:
        assert entry.specifier.contains(_pinned()[entry.name])
        assert not entry.specifier.contains("0.33.0"), entry


def test_the_constraints_are_all_versions_the_project_allows() -> None:
    pinned = _pinned()
    for entry in _declared():
        assert entry.specifier.contains(pinned[canonicalize_name(entry.name)]), entry


def test_the_locks_say_nothing_of_the_machine_they_were_made_on() -> None:
    for path in [*FOLDER.iterdir(), ROOT / "constraints.txt"]:
        assert not re.search(r"https?:|file:|//|@|--(?!hash)", path.read_text(encoding="utf-8")), path
