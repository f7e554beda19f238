"""Backends, cards and wheels: what can train, and the command where something cannot."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from localtune import probe
from localtune.backend import Device
from localtune.doctor import Finding, can_train, training
from localtune.doctor.machine import Card
from tests.unit.doctor.builders import only


def _devices(monkeypatch: pytest.MonkeyPatch, *devices: Device) -> None:
    """Backends that would say these."""

    class Fake:
        def __init__(self, name: str, timeout: float) -> None:
            self.device = next(device for device in devices if device.backend == name)

        def __enter__(self) -> "Fake":
            return self

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(probe, "Probe", Fake)
    monkeypatch.setattr("localtune.backend.BACKENDS", {device.backend: "" for device in devices})


def _torch(kind: Any = "cpu", version: str = "2.13.0", reason: str = "") -> Device:
    return Device("torch", kind, "CPU (8 threads)", 24 * 10**9, ("float32",), {"torch": version}, reason)


def _cards(monkeypatch: pytest.MonkeyPatch, *cards: Card) -> None:
    monkeypatch.setattr(training, "cards", lambda: list(cards))


def test_a_machine_with_a_usable_backend_can_train(monkeypatch: pytest.MonkeyPatch) -> None:
    _devices(monkeypatch, _torch())
    _cards(monkeypatch)
    found = only(training.backends)
    assert found.status == "ok"
    assert "CPU (8 threads), 24.0 GB for a run" in found.text


def test_without_any_backend_nothing_can_train_and_the_command_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    _devices(monkeypatch, _torch("none", reason="the torch backend is not installed: No module named 'torch'"))
    found = only(training.backends)
    assert not can_train([found])
    assert found.fix.endswith('install "localtune[torch]"')
    assert "No module named 'torch'" in found.text


def test_one_usable_backend_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    other = Device("mlx", "none", "", 0, (), {}, "the mlx backend is not installed")
    _devices(monkeypatch, other, _torch())
    _cards(monkeypatch)
    found = list(training.backends())
    assert [finding.status for finding in found] == ["missing", "ok"]
    assert can_train(found)


@pytest.mark.parametrize(("apple", "mended"), [(False, False), (True, True)])
def test_mlx_that_is_not_here_needs_no_mending_but_on_apple_silicon(
    monkeypatch: pytest.MonkeyPatch, apple: bool, mended: bool
) -> None:
    monkeypatch.setattr("localtune.backend.on_apple_silicon", lambda: apple)
    _devices(monkeypatch, _torch(), Device("mlx", "none", "", 0, (), {}, "the mlx backend is not installed"))
    _cards(monkeypatch)
    _, found = training.backends()
    assert not found.needed
    assert bool(found.fix) == mended
    assert not mended or found.fix.endswith("install mlx mlx-lm")


@pytest.mark.parametrize(("apple", "words"), [(False, 'install "localtune[mlx-cpu]"'), (True, "install mlx mlx-lm")])
def test_without_any_backend_mlx_has_a_command_for_the_system(
    monkeypatch: pytest.MonkeyPatch, apple: bool, words: str
) -> None:
    monkeypatch.setattr("localtune.backend.on_apple_silicon", lambda: apple)
    monkeypatch.setattr("localtune.backend.sys.platform", "linux")
    _devices(monkeypatch, Device("mlx", "none", "", 0, (), {}, "the mlx backend is not installed"))
    found = only(training.backends)
    assert found.needed
    assert found.fix.endswith(words)


def test_a_backend_that_breaks_says_how_and_how_to_see_more(monkeypatch: pytest.MonkeyPatch) -> None:
    _devices(monkeypatch, _torch("none", reason="OSError: libtorch.so: cannot open"))
    found = only(training.backends)
    assert "libtorch.so" in found.text
    assert "-m localtune.probe torch" in found.fix


def _torch_found() -> Finding:
    """What true probes say of torch."""
    return next(finding for finding in training.backends() if finding.name == "torch")


def test_a_torch_that_is_not_there_is_found_missing_by_a_true_probe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError(\"No module named 'torch'\")")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = _torch_found()
    assert found.status == "missing"
    assert found.fix.endswith('install "localtune[torch]"')


def _hanging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A torch that never finishes loading."""
    (tmp_path / "torch.py").write_text("import time\ntime.sleep(600)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def test_a_probe_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _hanging(tmp_path, monkeypatch)
    monkeypatch.setattr(training, "PROBE_SECONDS", 0.5)
    before = psutil.Process().children()
    began = time.monotonic()
    found = _torch_found()
    assert time.monotonic() - began < 10
    assert "no answer within 0.5 s" in found.text
    assert psutil.Process().children() == before


def test_only_the_probe_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _hanging(tmp_path, monkeypatch)
    with probe.Probe("torch") as patient, probe.Probe("torch", timeout=0.2) as late:
        assert late.device.reason == "it gave no answer within 0.2 s"
        assert patient._child.poll() is None


def test_a_probe_that_answered_in_time_is_left_alive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError(\"No module named 'torch'\")")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with probe.Probe("torch", timeout=30) as asked:
        assert "not installed" in asked.device.reason
        assert asked._timer.finished.is_set()
        assert asked._child.poll() is None


def test_a_look_that_is_given_up_does_not_hold_the_exit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _hanging(tmp_path, monkeypatch)
    script = "from localtune.doctor import Look, examine, training\n"
    script += "found = examine([Look('training', 'backends', training.backends, 1.0)])\n"
    script += "assert 'no answer within 1 s' in found[-1].text\n"
    script += "import psutil, sys\nsys.stdout.write(str(psutil.Process().children()[0].pid))"
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", script], check=True, timeout=30, stdout=subprocess.PIPE)
    assert time.monotonic() - began < 10
    assert not psutil.pid_exists(int(done.stdout)) or psutil.Process(int(done.stdout)).status() == "zombie"


def test_the_torch_backend_says_that_it_is_built_without_cuda_in_the_words_looked_for() -> None:
    torch = pytest.importorskip("torch")
    if torch.version.cuda is not None:
        pytest.skip("this torch has CUDA")
    from localtune_torch import device

    assert "without CUDA" in device.probe().reason


@pytest.mark.parametrize(
    ("capability", "driver", "build"),
    [(6.1, "581.1", "cu126"), (8.9, "560.35.03", "cu126"), (8.9, "580.65", "cu130"), (12.0, "572.16", "cu130")],
)
def test_the_wheel_is_the_one_for_card_and_driver(
    monkeypatch: pytest.MonkeyPatch, capability: float, driver: str, build: str
) -> None:
    _devices(monkeypatch, _torch(reason="torch 2.13.0 is built without CUDA"))
    _cards(monkeypatch, Card("RTX", driver, capability))
    found = only(training.backends)
    assert found.status == "warning"
    assert "RTX is not used" in found.text
    assert found.fix.endswith(f"--upgrade --index-url https://download.pytorch.org/whl/{build}")
    assert ("driver 580 or newer" in found.text) == (capability == 12.0)
    assert can_train([found])


def test_a_card_that_is_hidden_by_the_environment_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    _devices(monkeypatch, _torch(version="2.13.0+cu130", reason="no CUDA device is visible to torch"))
    _cards(monkeypatch, Card("RTX", "580.1", 8.9))
    assert only(training.backends).fix == "unset CUDA_VISIBLE_DEVICES"


@pytest.mark.parametrize(
    ("capability", "version", "status"),
    [
        (12.0, "2.13.0+cu126", "warning"),
        (12.0, "2.13.0+cu130", "ok"),
        (6.1, "2.13.0", "warning"),
        (6.1, "2.13.0+cu126", "ok"),
        (8.9, "2.13.0", "ok"),
        (6.1, "2.13.0a0+git12345", "ok"),
    ],
)
def test_a_build_without_code_for_the_card_is_seen(
    monkeypatch: pytest.MonkeyPatch, capability: float, version: str, status: str
) -> None:
    _devices(monkeypatch, _torch("cuda", version=version))
    _cards(monkeypatch, Card("RTX", "580.1", capability))
    assert only(training.backends).status == status
