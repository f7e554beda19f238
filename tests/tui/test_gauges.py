"""The machine is read from programs that may say anything, or nothing, and only while somebody trains."""

import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from localtune_tui import gauges
from localtune_tui.app import LocaltuneApp
from localtune_tui.gauges import Apple, Meter, Nvidia, Processor, Reading, Source, gauge_lines, gauge_words

from tests.tui.recorded_run import recorded_run
from tests.tui.screen_text import says, screen_text, until

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="stand-ins are shell scripts")
CARD = "GPU-1, 92, 11200, 31.40, 71, Not Active, Not Active"


@pytest.fixture
def bin_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the whole PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def _program(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


@POSIX
def test_a_card_tells_its_memory_load_power_and_heat(bin_folder: Path) -> None:
    _program(bin_folder, "nvidia-smi", f"echo '{CARD}'")
    assert Nvidia().read(1) == Reading(11200 << 20, 0.92, 31.4, 71.0)


@POSIX
@pytest.mark.parametrize("hot", ["Active, Not Active", "Not Active, Active"])
def test_a_card_that_is_too_hot_is_slowed(bin_folder: Path, hot: str) -> None:
    _program(bin_folder, "nvidia-smi", f"echo 'GPU-1, 92, 11200, 31.40, 71, {hot}'")
    assert Nvidia().read(1).slowed


@POSIX
def test_what_a_card_does_not_tell_is_left_out(bin_folder: Path) -> None:
    _program(bin_folder, "nvidia-smi", "echo 'GPU-1, [N/A], 500, [Not Supported], , [N/A], [N/A]'")
    reading = Nvidia().read(1)
    assert reading == Reading(500 << 20)
    assert gauge_lines(reading, "cuda", 40) == gauge_words(reading, "cuda") == []


@POSIX
def test_a_driver_that_does_not_know_why_it_is_slow_is_asked_for_the_rest(bin_folder: Path) -> None:
    _program(bin_folder, "nvidia-smi", 'case "$1" in *throttle*) exit 2;; esac; echo "GPU-1, 92, 11200, 31.40, 71"')
    card = Nvidia()
    assert card.read(1) == Reading()
    assert card.read(1) == Reading(11200 << 20, 0.92, 31.4, 71.0)


@POSIX
def test_of_several_cards_only_that_of_the_run_is_told(bin_folder: Path) -> None:
    cards = f"{CARD}\\nGPU-2, 5, 100, 9.00, 40, Not Active, Not Active\\n"
    _program(bin_folder, "nvidia-smi", f"case \"$1\" in *apps*) echo '77, GPU-2';; *) printf '{cards}';; esac")
    assert Nvidia().read(77).load == 0.05
    assert Nvidia().read(78) == Reading()


@POSIX
def test_a_mac_tells_memory_and_load(bin_folder: Path) -> None:
    said = '"In use system memory (driver)"=7,"Device Utilization %"=37,"In use system memory"=812000000,"x"={}'
    _program(bin_folder, "ioreg", f"echo '\"PerformanceStatistics\" = {{{said}}}'")
    assert Apple().read(1) == Reading(812_000_000, 0.37)


HOSTILE_ANSWERS = (
    "", "nan, nan, nan, nan, nan, nan, nan", "GPU, inf, -1, 1e99, -400, Active!, [", "a,b,c,d,e,f,g", "\\033[31m,,,,,,",
    '"Device Utilization %"=99999999999999999999 "In use system memory"=-5', '"Device Utilization %"="x"', "\\377\\376",
)  # fmt: skip


@POSIX
@pytest.mark.parametrize("said", HOSTILE_ANSWERS)
def test_nonsense_is_no_reading(bin_folder: Path, said: str) -> None:
    for name in ("nvidia-smi", "ioreg"):
        _program(bin_folder, name, f"printf '{said}\\n'")
    assert Nvidia().read(1) == Apple().read(1) == Reading()


@POSIX
@pytest.mark.parametrize(
    "script", ["/bin/sleep 60 & echo $! >> asked; wait", "echo $$ >> asked; while :; do echo x; done"]
)
def test_a_program_that_hangs_is_ended_and_not_asked_again(
    bin_folder: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    monkeypatch.setattr(gauges, "PATIENCE", 0.2)
    monkeypatch.chdir(bin_folder)
    _program(bin_folder, "nvidia-smi", script)
    card = Nvidia()
    assert card.read(1) == card.read(1) == Reading()
    (asked,) = (bin_folder / "asked").read_text().split()
    assert not psutil.pid_exists(int(asked)) or psutil.Process(int(asked)).status() == psutil.STATUS_ZOMBIE


@pytest.mark.usefixtures("bin_folder")
def test_without_the_programs_nothing_is_read() -> None:
    assert Nvidia().read(1) == Apple().read(1) == Reading()


def test_on_a_processor_the_process_that_trains_is_looked_at() -> None:
    source = Processor()
    first = source.read(os.getpid())
    assert first.memory is not None
    assert first.memory > 10_000_000
    assert first.load is None, "there is no time yet that it could be a share of"
    load = source.read(os.getpid()).load
    assert load is not None
    assert 0 <= load <= 1
    assert source.read(2**22 + 1) == Reading()


class _Slow(Source):
    """Counts how often it is read."""

    def __init__(self) -> None:
        self.read_for: list[int] = []

    def read(self, pid: int) -> Reading:
        """A reading."""
        self.read_for.append(pid)
        return Reading(1)


def test_a_meter_reads_every_two_seconds_and_only_while_somebody_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    slow, now = _Slow(), [100.0]
    monkeypatch.setitem(gauges.SOURCES, "cuda", lambda: slow)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    meter = Meter("cuda")
    meter.look(None)
    assert slow.read_for == []
    for at in (100.0, 101.9, 102.1):
        now[0] = at
        meter.look(7)
        while meter._busy:
            time.sleep(0.001)
    assert slow.read_for == [7, 7]
    assert meter.reading == Reading(1)
    meter.look(None)
    assert meter.reading == Reading()
    Meter("none").look(7)


def test_the_lines_name_what_is_known_and_a_card_that_is_too_hot() -> None:
    reading = Reading(1, 0.92, 31.4, 71.0, True)
    assert gauge_lines(reading, "cuda", 36) == [
        "gpu    " + "█" * 23 + "░░ 92%",
        "power  31 W   temp 71°C, throttled",
    ]
    assert gauge_lines(Reading(slowed=True), "cuda", 36) == ["throttled by heat"]
    assert gauge_lines(Reading(load=0.5), "cpu", 20, ascii_only=True) == ["cpu    ####----- 50%"]
    assert gauge_words(reading, "cuda", ascii_only=True) == ["gpu 92%", "31 W", "71 C, throttled"]


@POSIX
async def test_live_shows_the_machine_while_a_run_is_alive(bin_folder: Path) -> None:
    _program(bin_folder, "nvidia-smi", f"echo '{CARD}'")
    run = recorded_run(steps=40, state="running")
    plan = json.loads(run.plan.read_text())
    run.plan.write_text(json.dumps(plan | {"device": plan["device"] | {"kind": "cuda"}}))
    app = LocaltuneApp(run.folder)
    async with app.run_test(size=(100, 30)) as pilot:
        await says(pilot, "power  31 W   temp 71°C")
        text = screen_text(app)
        assert "░ 92%" in text
        assert "11.7 GB" in text, "of the card, not the peak"
        await pilot.resize_terminal(80, 24)
        await says(pilot, "gpu 92%  31 W  71°C")
        run.write_status(replace(run.status(), state="stopped"))
        await until(pilot, lambda: "gpu 92%" not in screen_text(app))
