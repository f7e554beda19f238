"""Cards are read from nvidia-smi or the driver, whatever they answer."""

import time
from pathlib import Path

import pytest

from localtune.doctor import machine
from localtune.doctor.machine import Card
from tests.unit.doctor.builders import POSIX, only, program


@POSIX
def test_cards_are_read_from_nvidia_smi(programs_here: Path) -> None:
    script = "echo 'NVIDIA GeForce RTX 4060, 560.35.03, 8.9, 8188'\necho 'NVIDIA GB10, 580.1, 12.1, [N/A]'"
    program(programs_here, "nvidia-smi", script)
    assert machine.cards() == [
        Card("NVIDIA GeForce RTX 4060", "560.35.03", 8.9, 8188 << 20),
        Card("NVIDIA GB10", "580.1", 12.1, 0),
    ]
    assert [finding.text for finding in machine.nvidia()] == [
        "NVIDIA GeForce RTX 4060, 8.6 GB, driver 560.35.03",
        "NVIDIA GB10, driver 580.1",
    ]


@POSIX
def test_a_driver_that_does_not_answer_is_said(programs_here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert only(machine.nvidia).text == "none seen"
    program(programs_here, "nvidia-smi", "echo 'NVIDIA-SMI has failed, because, of, commas'\nexit 9")
    assert only(machine.nvidia).status == "warning"
    program(programs_here, "nvidia-smi", "exec /bin/sleep 60")
    monkeypatch.setattr(machine, "SMI_SECONDS", 0.2)
    began = time.monotonic()
    assert only(machine.nvidia).status == "warning"
    assert time.monotonic() - began < 5


def test_a_card_is_known_from_the_driver_alone(programs_here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = programs_here / "driver" / "gpus" / "0000:01:00.0".replace(":", "-")
    entry.mkdir(parents=True)
    (entry / "information").write_text("Model: \t\t NVIDIA RTX A2000\nIRQ:   16\n")
    monkeypatch.setattr(machine, "DRIVER", programs_here / "driver")
    assert machine.cards() == [Card("NVIDIA RTX A2000")]
