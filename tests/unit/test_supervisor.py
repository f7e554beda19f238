"""What is said of a worker that died, and what it is started with."""

import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from localtune.events import Failed
from localtune.runs.files import write_json
from localtune.runs.folder import Run
from localtune.supervisor import device_kind, environment, explain, supervise


def test_an_abort_on_metal_is_the_displays_watchdog_and_is_avoided_by_a_dark_display() -> None:
    what, mend = explain(-signal.SIGABRT, "metal")
    assert "held up the display" in what
    assert "pmset displaysleepnow" in mend
    for other in ("cpu", "cuda", ""):
        what, mend = explain(-signal.SIGABRT, other)
        assert what == "ended with SIGABRT: aborted by a library or driver"
        assert mend == ""


@pytest.mark.parametrize(
    ("code", "words"),
    [(1, "ended with code 1"), (-9, "SIGKILL: killed, most often because memory ran out"), (-11, "SIGSEGV")],
)
def test_other_ends_are_the_same_on_metal(code: int, words: str) -> None:
    if sys.platform == "win32" and code < 0:
        pytest.skip("no such signals")
    what, mend = explain(code, "metal")
    assert words in what
    assert mend == ""


def test_work_on_apples_gpu_gets_more_time_and_the_users_word_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "AGX_RELAX_CDM_CTXSTORE_TIMEOUT"
    monkeypatch.delenv(name, raising=False)
    assert environment("darwin")[name] == "1"
    assert name not in environment("linux")
    monkeypatch.setenv(name, "0")
    assert environment("darwin")[name] == "0"


@pytest.mark.parametrize("content", [None, {}, {"device": None}, {"device": {"kind": "metal"}}])
def test_a_plan_that_cannot_be_read_tells_no_device(tmp_path: Path, content: dict[str, Any] | None) -> None:
    run = Run(tmp_path)
    if content is not None:
        write_json(run.plan, content)
    assert device_kind(run) == ("metal" if content and content.get("device") else "")


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in is a shell script")
@pytest.mark.parametrize("kind", ["metal", "cpu"])
def test_a_worker_that_aborts_is_recorded_with_the_way_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nkill -ABRT $$\n")
    python.chmod(0o755)
    folder = tmp_path / "a-run"
    folder.mkdir()
    run = Run(folder)
    write_json(run.plan, {"device": {"kind": kind}})
    monkeypatch.setattr(sys, "executable", str(python))
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        assert supervise(run, "launch") == -signal.SIGABRT
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    ((event, _),) = run.read_events()
    assert isinstance(event, Failed)
    assert event.text.endswith("localtune run --resume a-run")
    assert ("pmset displaysleepnow" in event.text) == (kind == "metal")
    assert run.status().state == "failed"
    assert "SIGABRT" in run.status().detail
