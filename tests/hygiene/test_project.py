"""The shape of the project: what its root shows, how large its parts are, what no file may hold."""

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
SHOWN = {
    "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "SECURITY.md", "Makefile", "constraints.txt",
    "constraints", "localtune", "backends", "tui", "recipes", "tests",
}  # fmt: skip


def _tracked() -> list[Path]:
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in names.split("\0") if name]


def _source() -> Iterator[Path]:
    for folder in ("localtune", "backends", "tui", "recipes"):
        yield from (ROOT / folder).rglob("*.py")


def test_the_root_shows_what_it_should_and_nothing_else() -> None:
    names = {path.relative_to(ROOT).parts[0] for path in _tracked()}
    assert {name for name in names if not name.startswith(".")} <= SHOWN


def test_files_have_at_most_300_lines_and_functions_80() -> None:
    for path in _source():
        text = path.read_text(encoding="utf-8")
        assert text.count("\n") <= 300 or path.name == "phrases.py", path  # sentences, one a line
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                assert (node.end_lineno or 0) - node.lineno <= 80, (path, node.name)


def test_large_files_are_the_quickstarts_model_only() -> None:
    large = [path for path in _tracked() if path.exists() and path.stat().st_size > 1 << 20]
    assert {path.name for path in large} <= {"model.safetensors"}
    assert sum(path.stat().st_size for path in (ROOT / "recipes/quickstart/model").iterdir()) < 6e6


FORBIDDEN = re.compile(r"\bimport pickle\b|torch\.(load|save)\(|shell=True|os\.system\(|trust_remote_code=True")


def test_no_source_reads_pickles_runs_shells_or_foreign_code() -> None:
    assert FORBIDDEN.search("torch.load(x)")
    for path in _source():
        assert not FORBIDDEN.search(path.read_text(encoding="utf-8")), path


def test_every_dependency_has_a_reason() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    project = tomllib.loads(text)["project"]
    groups = [*project["optional-dependencies"].values(), *tomllib.loads(text)["dependency-groups"].values()]
    named = project["dependencies"] + [entry for group in groups for entry in group]
    for entry in named:
        name = re.split(r"[<>=; ]", entry)[0]
        lines = [line for line in text.splitlines() if f'"{name}' in line]
        assert any("#" in line for line in lines), name


def test_constraints_are_names_and_versions_and_nothing_else() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = [line for line in lines if line and not line.startswith("#")]
    assert "torch==2.13.0" in pinned
    for line in pinned:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9._+!-]+", line), line
