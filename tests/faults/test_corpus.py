"""Opening what a stranger made runs nothing, takes seconds and megabytes at most, and ends in words.

The corpus holds what other programs had advisories for, and what our own fuzzing found. All of it is opened by one
watched process (tests/faults/corpus/child.py); here each case is judged.
"""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from localtune.model import json_object
from tests.faults.corpus import child
from tests.faults.corpus.case import Case, base, program
from tests.faults.corpus.child import CASES, Watch, opened
from tests.goals import Reached

SECONDS, MEMORY = 2.0, 256 * 2**20
CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
"""What no screen should be sent; a newline is one between lines."""
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pipes, links and their names are as on POSIX")


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """How each case ended."""
    folder = tmp_path_factory.mktemp("corpus")
    report = folder / "report.json"
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "home")}
    command = [sys.executable, "-m", "tests.faults.corpus.child", str(folder), str(report)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=250)
    assert report.is_file(), done.stderr[-3000:]
    found: dict[str, dict[str, Any]] = json.loads(report.read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("name", CASES)
def test_an_attack_runs_nothing_and_is_told_in_words(name: str, ended: dict[str, dict[str, Any]]) -> None:
    case, found = CASES[name], ended[name]
    assert not found["ran"]
    assert found["did"] == []
    assert found["ended"] == case.code, found["text"]
    assert case.words in found["text"]
    assert "Traceback" not in found["text"]
    assert CONTROL.search(found["text"]) is None
    assert found["seconds"] <= SECONDS
    assert found["memory"] <= MEMORY


def test_every_attack_has_ended_so(ended: dict[str, dict[str, Any]], goal: Reached) -> None:
    slowest, most = (max(found[key] for found in ended.values()) for key in ("seconds", "memory"))
    runs = sum(found["ran"] or found["did"] != [] for found in ended.values())
    assert len(ended) == len(CASES) >= 200
    assert runs == 0
    goal("code", f"{len(ended)} attacks: {runs} runs, slowest {slowest:.2f} s, memory +{most // 2**20} MB at most")


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    """One that is told of events by the test, since a hook stays for the life of a process."""
    monkeypatch.setattr(sys, "addaudithook", lambda hook: None)
    return Watch()


def test_an_attack_that_runs_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, watch: Watch) -> None:
    def build(folder: Path, canary: Path) -> None:
        base(folder)
        (folder / "evil.py").write_text(program(canary))

    def runs(folder: Path) -> None:
        exec(compile((folder / "evil.py").read_text(), str(folder / "evil.py"), "exec"))

    monkeypatch.setitem(child.OPENERS, "model", runs)
    assert opened(Case("model", "", build), tmp_path / "x", tmp_path / "canary", watch)["ran"]


@pytest.mark.parametrize(
    ("event", "given"),
    [
        ("os.system", (b"x",)),
        ("subprocess.Popen", ("x", ["x"], None, None)),
        ("socket.connect", (None, ("127.0.0.1", 9))),
        ("pickle.find_class", ("os", "system")),
        ("open", ("/etc/passwd", "r", 0)),
        ("open", ("/case/out", "w", os.O_WRONLY | os.O_CREAT)),
        ("open", ("/case/rng_state.pth", "rb", 0)),
        ("exec", (compile("0", "/case/modeling.py", "eval"),)),
    ],
)
def test_what_a_case_may_not_do_is_written_down(watch: Watch, event: str, given: tuple[Any, ...]) -> None:
    watch.folders, watch.on = ("/case",), True
    watch("open", ("/case/config.json", "r", 0))
    assert watch.seen == []
    watch(event, given)
    assert len(watch.seen) == 1


def test_without_its_bound_a_header_would_take_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, watch: Watch
) -> None:
    bound = json_object.parse_object.__defaults__
    assert bound == (json_object.VALUES,)
    case = CASES["a header of lists"]
    monkeypatch.setattr(json_object.parse_object, "__defaults__", (10**9,))
    found = opened(replace(case, code=""), tmp_path / "x", tmp_path / "canary", watch)
    assert found["ended"] != case.code
    if sys.platform.startswith("linux"):
        assert found["memory"] > MEMORY
