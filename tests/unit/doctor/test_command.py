"""The command as a person and a program see it, also where dependencies are missing."""

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner

from localtune import doctor
from localtune.cli import doctor as command
from localtune.doctor import Finding, Look


def _looks(monkeypatch: pytest.MonkeyPatch, *findings: Finding) -> None:
    looks = [Look(finding.group, finding.name, partial(iter, [finding]), 2) for finding in findings]
    monkeypatch.setattr(command, "LOOKS", looks)


def test_findings_are_aligned_with_what_mends_them_below(monkeypatch: pytest.MonkeyPatch) -> None:
    _looks(
        monkeypatch,
        Finding("torch", "missing", "not installed", "pip install torch", needed=True, group="training"),
        Finding("click", "ok", "8.2", group="packages"),
        Finding("numpy", "ok", "2.0", group="packages"),
        Finding("rich", "warning", "15 \x1b[31m", "pip install rich", group="packages"),
        Finding("ollama", "missing", "not found", group="chat"),
    )
    result = CliRunner().invoke(command.doctor)
    assert result.exit_code == 3
    assert result.stdout.splitlines() == [
        "training",
        "  missing  torch     not installed",
        "                     fix: pip install torch",
        "packages",
        "  ok       required  2 of 3 as required",
        "  warning  rich      15 \\x1b[31m",
        "                     fix: pip install rich",
        "chat",
        "  -        ollama    not found",
        "this machine cannot train yet: torch",
    ]


def test_json_holds_every_finding_and_the_same_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    _looks(monkeypatch, Finding("click", "ok", "8.2", group="packages"), Finding("x", "warning", "y", group="z"))
    result = CliRunner().invoke(command.doctor, ["--json"])
    assert result.exit_code == 0
    said = json.loads(result.stdout)
    assert said["can_train"] is True
    assert [finding["name"] for finding in said["findings"]] == ["click", "x"]
    assert set(said["findings"][0]) == {"name", "status", "text", "fix", "needed", "group"}


SCRIPT = "from localtune.cli.doctor import doctor; doctor()"


LISTEN = (
    "import sys; sys.addaudithook(lambda event, what: event == 'socket.connect' and print(what[1], file=sys.stderr)); "
)


def test_a_true_run_says_everything_tells_no_secret_and_asks_this_machine_only(tmp_path: Path) -> None:
    environment = os.environ | {
        "HF_TOKEN": "hf_secret",
        "HF_HOME": str(tmp_path),
        "LOCALTUNE_RUNS": str(tmp_path / "runs"),
        "OLLAMA_HOST": "127.0.0.1:9",
    }
    child = subprocess.run(
        [sys.executable, "-c", LISTEN + SCRIPT, "--json"], env=environment, capture_output=True, text=True, timeout=120
    )
    said = json.loads(child.stdout)
    findings = {(finding["group"], finding["name"]): finding for finding in said["findings"]}
    assert child.returncode == (0 if said["can_train"] else 3)
    assert {look.group for look in doctor.LOOKS} == {group for group, _ in findings}
    assert findings["training", "torch"]["status"] == "ok"
    assert findings["folders", "runs"]["status"] == "ok"
    assert "could not be looked at" not in child.stdout
    assert "hf_secret" not in child.stdout + child.stderr
    assert child.stderr.splitlines() == ["('127.0.0.1', 9)"]
    assert list(tmp_path.iterdir()) == []


def test_it_answers_where_dependencies_are_missing(tmp_path: Path) -> None:
    gone = ("numpy", "pydantic", "psutil", "huggingface_hub", "torch")
    for name in gone:
        (tmp_path / f"{name}.py").write_text(f"raise ImportError(\"No module named '{name}'\")")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    child = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, timeout=120)
    assert child.returncode == 3
    assert "No module named" in child.stdout
    assert "cannot train yet" in child.stdout
    assert "Traceback" not in child.stderr


def test_loading_the_command_loads_nothing_heavy() -> None:
    script = "import sys, localtune.cli.doctor; sys.stdout.write(' '.join(sys.modules))"
    child = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(child.stdout.split())
    assert "localtune.doctor" in loaded
    assert not loaded & {"numpy", "pydantic", "psutil", "huggingface_hub", "torch", "gguf", "xllamacpp"}
