"""Installed packages are held against the project's own requirements."""

import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging import markers

from localtune.doctor import Look, can_train, examine, packages, training
from localtune.doctor.packages import requirements
from tests.unit.doctor.builders import only

SYSTEMS = [("linux", "x86_64"), ("linux", "riscv64"), ("darwin", "arm64"), ("darwin", "x86_64"), ("win32", "AMD64")]


def on(monkeypatch: pytest.MonkeyPatch, system: str, chip: str) -> None:
    """Markers are read as on that system."""
    there = {**markers.default_environment(), "sys_platform": system, "platform_machine": chip}
    monkeypatch.setattr(markers, "default_environment", lambda: there)


@pytest.mark.parametrize(("system", "chip"), SYSTEMS)
def test_every_requirement_of_the_project_is_read_on_every_system(
    monkeypatch: pytest.MonkeyPatch, system: str, chip: str
) -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    monkeypatch.setattr(metadata, "requires", lambda _: project["dependencies"])
    on(monkeypatch, system, chip)
    named = {text.partition(">")[0] for text in project["dependencies"] if ";" not in text}
    found = {requirement.name for requirement in requirements()}
    assert named <= found
    assert ("xllamacpp" in found) == ((system, chip) not in (("linux", "riscv64"), ("darwin", "x86_64")))


def test_every_requirement_of_the_installed_project_is_understood() -> None:
    found = {requirement.name: requirement for requirement in requirements()}
    assert {"click", "numpy", "safetensors"} <= set(found)
    assert not {"pytest", "ruff"} & set(found)
    assert found["huggingface-hub"].met("2.9")
    assert not found["huggingface-hub"].met("3.0")


def test_requirements_are_those_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    def names(system: str, chip: str) -> set[str]:
        on(monkeypatch, system, chip)
        return {requirement.name for requirement in requirements()}

    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    monkeypatch.setattr(metadata, "requires", lambda _: project["dependencies"])
    assert {"torch", "bitsandbytes"} <= names("linux", "x86_64")
    assert not {"mlx", "mlx-lm"} & names("linux", "x86_64")
    assert {"mlx", "mlx-lm"} <= names("darwin", "arm64")
    assert not {"torch", "bitsandbytes"} & names("darwin", "arm64")
    intel = names("darwin", "x86_64")
    assert "torch" in intel
    assert "bitsandbytes" not in intel


@pytest.mark.parametrize("text", ["a>=", "a; (sys_platform == 'x'", "a; )"])
def test_a_requirement_that_is_not_understood_is_not_passed_over(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(metadata, "requires", lambda _: [text])
    with pytest.raises(ValueError, match="Expected"):
        requirements()
    (found,) = examine([Look("packages", "packages", packages.required, 2)])
    assert found.status == "warning"


def without_packaging(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "packaging"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "packaging", None)


def test_without_packaging_presence_is_still_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    without_packaging(monkeypatch)
    declared = ["numpy>=999", "no-such-package<3,>=2", "torch>=2; sys_platform != 'darwin'", "pytest; extra == 'dev'"]
    monkeypatch.setattr(metadata, "requires", lambda _: declared)
    found = {finding.name: finding for finding in packages.required()}
    assert {name: finding.status for name, finding in found.items()} == {"numpy": "ok", "no-such-package": "missing"}
    assert found["no-such-package"].fix.endswith('install "no-such-package<3,>=2"')
    assert packages.install("torch").endswith('install "torch"')


@pytest.mark.parametrize(
    ("version", "status", "words"),
    [
        ("2.13.0+cpu", "ok", "2.13.0+cpu"),
        ("2.10", "ok", "2.10"),
        ("2.9.9", "missing", "2.9.9 is too old; click<3,>=2.10 is needed"),
        ("3.0.0rc1", "warning", "not among those tested"),
        ("of our own", "warning", "not among those tested"),
        ("", "missing", "not installed"),
    ],
)
def test_installed_versions_are_held_against_the_requirement(
    monkeypatch: pytest.MonkeyPatch, version: str, status: str, words: str
) -> None:
    def found(name: str) -> str:
        if not version:
            raise metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(metadata, "requires", lambda _: ["click>=2.10,<3", "bitsandbytes>=0.48"])
    monkeypatch.setattr(metadata, "version", found)
    finding = only(packages.required)
    assert (finding.status, finding.name) == (status, "click")
    assert words in finding.text
    assert can_train([finding]) == (status != "missing")
    assert finding.status == "ok" or finding.fix.endswith('install "click<3,>=2.10"')


def test_without_its_metadata_localtune_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(name: str) -> list[str]:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", none)
    assert only(packages.required).status == "warning"
    assert packages.install("gguf").endswith('install "gguf"')
    assert "could not" not in only(packages.writes_gguf).text


def test_the_command_installs_into_the_python_that_runs(
    programs_here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert packages.pip("install x") == f"{packages.this_python()} -m pip install x"
    monkeypatch.setattr(sys, "executable", str(tmp_path / "my folder" / "python"))
    assert packages.pip("install x") == f'"{sys.executable}" -m pip install x'
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert packages.pip("install x") == f'uv pip install --python "{sys.executable}" x'


def test_missing_export_and_qlora_packages_cost_no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", none)
    found = [only(packages.writes_gguf), only(packages.runs_gguf), only(training.qlora)]
    assert [finding.status for finding in found] == ["missing"] * 3
    assert all(finding.fix for finding in found)
    assert "unverified" in found[1].text
    assert can_train(found)


def test_an_optional_package_of_another_version_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "requires", lambda _: ["gguf>=0.17,<0.20"])
    monkeypatch.setattr(metadata, "version", lambda _: "0.10.0")
    found = only(packages.writes_gguf)
    assert found.status == "warning"
    assert found.fix.endswith('install "gguf<0.20,>=0.17"')
    monkeypatch.setattr(metadata, "version", lambda _: "0.19.0")
    assert only(packages.writes_gguf).status == "ok"


def test_no_command_is_given_for_what_is_not_offered_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "requires", lambda _: ["xllamacpp>=1; sys_platform == 'elsewhere'"])
    assert packages.install("xllamacpp") == ""
    assert packages.install("gguf").endswith('install "gguf"')


def test_a_library_that_does_not_load_is_seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(metadata, "requires", lambda _: [])
    monkeypatch.setattr(metadata, "version", lambda _: "1.0")
    (tmp_path / "xllamacpp.py").write_text("raise ImportError('GLIBC_2.38 not found')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = only(packages.runs_gguf)
    assert found.status == "warning"
    assert "GLIBC_2.38 not found" in found.text
    (tmp_path / "xllamacpp.py").write_text("import os\nos.abort()")
    assert "ended with" in only(packages.runs_gguf).text
    (tmp_path / "xllamacpp.py").write_text("")
    assert only(packages.runs_gguf).status == "ok"


def test_what_a_backend_needs_is_missing_but_not_needed_since_another_may_train(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def none(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", lambda _: ["torch>=2.10", "mlx>=0.31", "mlx-lm>=0.31"])
    monkeypatch.setattr(metadata, "version", none)
    found = list(packages.required())
    assert [(finding.name, finding.status, finding.needed) for finding in found] == [
        ("torch", "missing", False), ("mlx", "missing", False), ("mlx-lm", "missing", False)
    ]  # fmt: skip
    assert all(finding.fix for finding in found)


@pytest.mark.parametrize(
    ("version", "status"), [("0.32.2", "ok"), ("0.30.0", "missing"), ("0.33", "warning"), ("", "")]
)
def test_packages_of_an_extra_are_looked_at_where_they_are_installed(
    monkeypatch: pytest.MonkeyPatch, version: str, status: str
) -> None:
    def found(name: str) -> str:
        if name != "mlx-lm" or not version:
            raise metadata.PackageNotFoundError(name)
        return version

    extras = ["mlx-lm>=0.31,<0.33; sys_platform == 'linux' and extra == 'mlx-cpu'", "pytest>=99; extra == 'dev'"]
    monkeypatch.setattr(metadata, "requires", lambda _: extras)
    monkeypatch.setattr(metadata, "version", found)
    on(monkeypatch, "linux", "x86_64")
    assert [finding.status for finding in packages.required()] == ([status] if status else [])
    on(monkeypatch, "win32", "AMD64")
    assert list(packages.required()) == []
