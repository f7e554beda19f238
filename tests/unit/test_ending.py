"""How a worker ended, from its exit code, its last record and what the system says."""

import signal
import sys
from pathlib import Path

import pytest

from localtune.ending import Ending, explain, memory_kills, stop_code, understand
from localtune.events import Failed

KILL = -9


def _kind(code: int, failed: str = "", *, memory: bool | None = False, full: bool = False) -> str:
    record = Failed(failed, failed) if failed else None
    return understand(code, record, "cpu", memory_ran_out=memory, disk_full=full).kind


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
    [(1, "ended with code 1"), (KILL, "SIGKILL: killed, most often because memory ran out"), (-11, "SIGSEGV")],
)
def test_other_ends_are_the_same_on_metal(code: int, words: str) -> None:
    if sys.platform == "win32" and code < 0:
        pytest.skip("no such signals")
    what, mend = explain(code, "metal")
    assert words in what
    assert mend == ""


@pytest.mark.parametrize(
    ("code", "failed", "kind"),
    [
        (0, "", "done"),
        (130, "", "stopped"),
        (143, "", "stopped"),
        (4, "memory.exhausted", "memory"),
        (4, "memory.out", "memory"),
        (4, "disk.full", "disk"),
        (4, "gguf.disk-full", "disk"),
        (4, "gguf.file-size", "failed"),
        (3, "device.lost", "device"),
        (3, "backend.missing", "failed"),
        (1, "train.not-finite", "failed"),
        (1, "", "crash"),
        (-6, "", "crash"),
        (-11, "", "crash"),
        (0xC0000005, "", "crash"),
    ],
)
def test_a_code_and_a_record_say_what_it_was(code: int, failed: str, kind: str) -> None:
    assert _kind(code, failed) == kind


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_a_signal_before_it_could_be_heeded_is_a_stop_with_the_shells_code() -> None:
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        assert understand(-number, None, "", memory_ran_out=None, disk_full=False) == Ending("stopped", code)


def test_a_kill_is_a_matter_of_memory_unless_the_system_knows_better() -> None:
    assert [_kind(KILL, memory=said) for said in (True, None, False)] == ["memory", "memory", "crash"]


def test_a_full_disk_is_known_although_nothing_could_be_recorded() -> None:
    assert _kind(4, full=True) == "disk"
    assert _kind(4) == "crash"


def test_every_stop_has_the_code_of_a_shell() -> None:
    windows_break = 21
    asked = (None, signal.SIGINT, signal.SIGTERM, windows_break)
    assert [stop_code(number) for number in asked] == [130, 130, 143, 130]


def test_linux_counts_what_it_ended_for_memory(tmp_path: Path) -> None:
    file = tmp_path / "vmstat"
    assert memory_kills(file, "linux") is None
    file.write_text("pgfault 12\noom_kill 3\n", encoding="ascii")
    assert memory_kills(file, "linux") == 3
    assert memory_kills(file, "darwin") is None
