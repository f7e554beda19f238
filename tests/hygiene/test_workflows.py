"""What runs on hosted machines: pinned, read-only, by hash; and what SECURITY.md and the Makefile say of it."""

import re
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
MAY = {("release", "publish"): {"id-token": "write"}, ("release", "page"): {"contents": "write"}}
"""The jobs that may do more than read, and what."""
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
SECURITY = (ROOT / "SECURITY.md").read_text(encoding="utf-8")


def _faults(name: str, text: str) -> list[str]:
    """What a stolen action, token or package could use."""
    workflow = YAML(typ="safe").load(text)
    found = [] if workflow.get("permissions") == {"contents": "read"} else ["its token may write"]
    for job, body in workflow["jobs"].items():
        if body.get("permissions", MAY.get((name, job))) != MAY.get((name, job)):
            found.append(f"{job}: more than it needs")
        for step in body["steps"]:
            found += [f"{job}: {fault}" for fault in _step_faults(step)]
    used = ("pull_request_target", "workflow_run", "secrets.", "cache")
    return found + [f"uses {word}" for word in used if word in text]


def _step_faults(step: dict[str, Any]) -> list[str]:
    action, command = step.get("uses", ""), step.get("run", "")
    options = step.get("with", {})
    unpinned = action and not re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", action)
    keeps = action.startswith("actions/checkout@") and options.get("persist-credentials") is not False
    injected = re.search(r"\$\{\{(?! matrix\.)", command)
    unlocked = "pip install" in command and not re.search("--require-hashes|--no-index", command)
    signs = {
        "not pinned by commit": unpinned,
        "leaves the token in the checkout": keeps,
        "a command is put together from outside": injected,
        "installs without hashes": unlocked,
    }
    return [sign for sign, there in signs.items() if there]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_pinned_tokens_read_only_and_installs_hashed(path: Path) -> None:
    assert _faults(path.stem, path.read_text(encoding="utf-8")) == []


CHECKOUT = "      - uses: actions/checkout@3d3c42e5aac5ba805825da76410c181273ba90b1"


@pytest.mark.parametrize(
    ("good", "bad", "fault"),
    [
        ("  contents: read\n", "  contents: write\n", "its token may write"),
        (CHECKOUT, "      - uses: actions/checkout@v7", "not pinned by commit"),
        ("persist-credentials: false", "fetch-depth: 1", "leaves the token in the checkout"),
        ("run: make audit", "run: echo ${{ github.head_ref }}", "a command is put together from outside"),
        ("run: make audit", "run: pip install pip-audit", "installs without hashes"),
        ("    timeout-minutes: 15\n", "    permissions: {id-token: write}\n", "more than it needs"),
        ("  pull_request:\n", "  pull_request_target:\n", "uses pull_request_target"),
    ],
)
def test_a_careless_workflow_would_be_noticed(good: str, bad: str, fault: str) -> None:
    text = (ROOT / ".github" / "workflows" / "audit.yml").read_text(encoding="utf-8")
    assert good in text
    assert any(fault in found for found in _faults("audit", text.replace(good, bad)))


def test_upgrades_are_asked_for_a_week_after_they_came_out() -> None:
    settings = YAML(typ="safe").load((ROOT / ".github" / "dependabot.yml").read_text(encoding="utf-8"))
    assert {entry["package-ecosystem"] for entry in settings["updates"]} == {"pip", "github-actions"}
    assert all(entry["cooldown"] == {"default-days": 7} for entry in settings["updates"])


def test_only_what_reports_never_blocks() -> None:
    jobs = {job: body for path in WORKFLOWS for job, body in YAML(typ="safe").load(path)["jobs"].items()}
    assert [job for job, body in jobs.items() if body.get("continue-on-error")] == ["newest"]


def test_an_audit_that_could_not_ask_fails() -> None:
    recipe = MAKEFILE.partition("\naudit:")[2].partition("\n\n")[0]
    assert "pip-audit --strict" in recipe  # without it, what is not found counts as harmless
    assert "|| exit 1" in recipe  # a loop ends with the status of its last turn


def test_every_target_is_explained_at_the_head() -> None:
    phony = set(re.findall(r"^\.PHONY: (.*)", MAKEFILE, re.MULTILINE)[0].split()) - {"clean"}
    assert phony == set(re.findall(r"^# make (\w+)", MAKEFILE, re.MULTILINE))
    assert all(f"\n{target}:" in MAKEFILE for target in phony)


def test_what_security_names_is_there() -> None:
    targets = re.findall(r"`make (\w+)`", SECURITY)
    assert {"audit", "licences", "locks", "sbom", "wheel"} <= set(targets)
    assert all(f"\n{target}:" in MAKEFILE for target in targets)
    paths = re.findall(r"`((?:constraints|tests|\.github)/[\w./-]*)`", SECURITY)
    assert paths
    assert all((ROOT / path).exists() for path in paths)
