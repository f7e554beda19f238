"""What the supervisor makes of its worker: a stand-in that ends as it is told, by a battery, clocks and signals."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from localtune import supervisor
from localtune.data.prepared import Prepared
from localtune.easing import times_eased
from localtune.events import Event, Failed, Phase, Step, Warn
from localtune.healing import Pulse
from localtune.power import Power
from localtune.runs.files import write_json
from localtune.runs.folder import Run
from localtune.supervisor import device_kind, environment, supervise
from localtune.watch import Watch
from localtune.worked import TRAINING
from tests.command import wait_until
from tests.unit.test_easing import PLAN

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the stand-in is a script")

WORKER = """
import os, signal, sys, time
from pathlib import Path
from localtune.events import Failed, Phase, Step
from localtune.runs.folder import Run
run, turn = Run(Path(sys.argv[1])), Path(sys.argv[1]) / "turn"
number = int(turn.read_text()) if turn.exists() else 0
turn.write_text(str(number + 1))
act = {acts}[min(number, len({acts}) - 1)]
if act == "early":
    run.record(Failed("memory.exhausted", "out of memory"))
    sys.exit(4)
run.record(Phase("training"))
{body}
"""
BODY = """
if act == "wait":
    while "pause" not in run.requests() and "stop" not in run.requests():
        time.sleep(0.01)
    sys.exit(130)
if act == "memory":
    run.record(Failed("memory.exhausted", "out of memory"))
    sys.exit(4)
if act.startswith("step "):
    run.record(Step(int(act[5:]), 9, 1.0, 1.0, 1.0, 1e-4, 1.0, True, 1, 1, 0, 0.1))
    os.abort()
os.abort() if act == "abort" else sys.exit(0)
"""


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    names = [name for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)]
    before = {name: signal.getsignal(getattr(signal, name)) for name in names}
    monkeypatch.setattr(supervisor, "HEARTBEAT", 0.05)
    monkeypatch.setattr("localtune.healing.WAITS", (0.0, 0.05, 0.05))
    yield
    for name, handler in before.items():
        signal.signal(getattr(signal, name), handler)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    folder = tmp_path / "a-run"
    folder.mkdir()
    run = Run(folder)
    write_json(run.plan, asdict(PLAN))
    return run


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Says what the workers do, one after the other; the last for all that follow."""

    def acts(*which: str) -> None:
        script, python = tmp_path / "worker.py", tmp_path / "python"
        script.write_text(WORKER.format(acts=list(which), body=BODY), encoding="utf-8")
        python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{script}" "$4" "$5"\n', encoding="utf-8")
        python.chmod(0o755)
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
        monkeypatch.setattr(sys, "executable", str(python))

    return acts


def _events(run: Run, *kinds: type[Any]) -> list[Event]:
    return [event for event, _ in run.read_events() if isinstance(event, kinds)]


def test_work_on_apples_gpu_gets_more_time_and_the_users_word_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "AGX_RELAX_CDM_CTXSTORE_TIMEOUT"
    monkeypatch.delenv(name, raising=False)
    assert environment("darwin")[name] == "1"
    assert name not in environment("linux")
    monkeypatch.setenv(name, "0")
    assert environment("darwin")[name] == "0"


@pytest.mark.parametrize("content", [None, {}, {"device": None}, asdict(PLAN)])
def test_a_plan_that_cannot_be_read_tells_no_device(tmp_path: Path, content: dict[str, Any] | None) -> None:
    run = Run(tmp_path)
    if content is not None:
        write_json(run.plan, content)
    assert device_kind(run) == ("cpu" if content and content.get("device") else "")


def test_a_worker_that_gets_nowhere_is_started_four_times_and_recorded_with_the_way_on(
    run: Run, worker: Callable[..., None]
) -> None:
    worker("abort")
    assert supervise(run, "launch") == -signal.SIGABRT
    *notes, failed = _events(run, Warn, Failed)
    assert (run.folder / "turn").read_text() == "4"
    assert [note.code for note in notes if isinstance(note, Warn)] == ["run.healed.note"] * 3
    assert isinstance(failed, Failed)
    assert failed.text.endswith("localtune run --resume a-run")
    assert run.status().state == "failed"
    assert run.status().sessions == 4
    assert "SIGABRT" in run.status().detail
    assert not run.reserve.exists()


def test_a_worker_that_gets_further_is_started_again_each_time(run: Run, worker: Callable[..., None]) -> None:
    worker(*(f"step {number}" for number in range(1, 7)), "end")
    assert supervise(run, "launch") == 0
    assert run.status().state == "done"
    assert run.status().sessions == 7


def test_out_of_memory_makes_the_parts_smaller_and_leaves_no_failure_on_record(
    run: Run, worker: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "load", lambda folder: Prepared([], [], (), (), None))  # type: ignore[arg-type]
    worker("memory", "memory", "end")
    assert supervise(run, "launch") == 0
    assert times_eased(run) == 2
    assert not _events(run, Failed)
    first, second = (event.text for event in _events(run, Warn) if isinstance(event, Warn))
    assert "4 rows a micro-batch instead of 8" in first
    assert "2 rows a micro-batch instead of 4" in second


def test_a_low_battery_pauses_and_power_goes_on(
    run: Run, worker: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = [Power(18.0, False)]
    monkeypatch.setattr(supervisor, "power", lambda: said[0])
    worker("wait", "end")
    seen: list[str] = []

    def plug_in() -> None:
        wait_until(lambda: run.status().state == "paused")
        seen.append(run.status().detail)
        said[0] = Power(18.0, True)

    thread = threading.Thread(target=plug_in)
    thread.start()
    assert supervise(run, "launch") == 0
    thread.join()
    assert seen == ["battery at 18 %: goes on when plugged in"]
    assert run.status().state == "done"
    assert run.requests() == set()
    codes = [event.code for event in _events(run, Warn) if isinstance(event, Warn)]
    assert codes == ["run.paused", "run.healed.note"]


def test_a_paused_run_ends_when_it_is_asked_to(
    run: Run, worker: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "power", lambda: Power(5.0, False))
    worker("wait")

    def stop() -> None:
        wait_until(lambda: run.status().state == "paused")
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=stop)
    thread.start()
    assert supervise(run, "launch") == 143
    thread.join()
    assert run.status().state == "stopped"


def test_a_stop_that_comes_with_a_pause_is_a_stop(
    run: Run, worker: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "power", lambda: Power(5.0, False))
    monkeypatch.setattr(supervisor, "_charged", lambda watch: pytest.fail("it went on"))
    worker("wait")
    begin = Watch.began

    def asked(watch: Watch, child: Any) -> None:
        begin(watch, child)
        run.request("stop")

    monkeypatch.setattr(Watch, "began", asked)
    assert supervise(run, "launch") == 130
    assert run.status().state == "stopped"


def test_a_worker_that_is_stuck_is_ended_and_started_again(
    run: Run, worker: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    pulses: list[int] = []

    class Fake(Pulse):
        def stuck(self, events: int) -> bool:
            pulses.append(self.pid)
            return events > 0 and self.pid == pulses[0]

    monkeypatch.setattr(supervisor, "Pulse", Fake)
    worker("wait", "end")
    assert supervise(run, "launch") == 0
    (note,) = (event.text for event in _events(run, Warn) if isinstance(event, Warn))
    assert "did nothing any more and was ended" in note
    assert times_eased(run) == 0


def test_memory_that_runs_out_while_loading_is_no_matter_of_micro_batches(
    run: Run, worker: Callable[..., None]
) -> None:
    run.record(Phase(TRAINING))  # of an earlier life
    worker("early")
    assert supervise(run, "launch") == 4
    assert times_eased(run) == 0
    assert run.status().state == "failed"


def test_a_supervisor_that_is_told_to_end_while_a_worker_crashes_has_stopped(
    run: Run, worker: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = Watch.began

    def signalled(watch: Watch, child: Any) -> None:
        begin(watch, child)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Watch, "began", signalled)
    worker("abort")
    assert supervise(run, "launch") == 143
    assert run.status().state == "stopped"


def test_notes_outlive_the_events_that_are_forgotten(run: Run) -> None:
    watch = Watch(run, "launch")
    watch.note("run.healed.note", "started again")
    run.record(Phase(TRAINING))
    run.record(Step(1, 9, 1.0, 1.0, 1.0, 1e-4, 1.0, True, 1, 1, 0, 0.1))
    watch.look()
    assert watch.step == 1
    watch.note("run.healed.note", "started again")
    watch.rewind()
    assert _events(run, Phase, Step, Warn) == [Warn("run.healed.note", "started again")] * 2
    assert watch.step == 0
