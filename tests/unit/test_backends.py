"""Which backend is chosen, and what is said of one that is not there."""

import platform
import sys
from pathlib import Path

import pytest

from localtune import probe
from localtune.backend import BACKENDS, in_order, installation, load_backend
from localtune.errors import MachineError


def _on(monkeypatch: pytest.MonkeyPatch, system: str, chip: str) -> None:
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(platform, "machine", lambda: chip)


@pytest.mark.parametrize(
    ("system", "chip", "order"),
    [
        ("darwin", "arm64", ("mlx", "torch")),
        ("darwin", "x86_64", ("torch", "mlx")),
        ("linux", "aarch64", ("torch", "mlx")),
        ("win32", "AMD64", ("torch", "mlx")),
    ],
)
def test_mlx_comes_first_on_apple_silicon_and_nowhere_else(
    monkeypatch: pytest.MonkeyPatch, system: str, chip: str, order: tuple[str, ...]
) -> None:
    _on(monkeypatch, system, chip)
    assert in_order() == order
    assert set(order) == set(BACKENDS)


@pytest.mark.parametrize(
    ("system", "chip", "words"),
    [
        ("darwin", "arm64", "pip install mlx mlx-lm"),
        ("linux", "x86_64", "pip install 'localtune[mlx-cpu]'"),
        ("win32", "AMD64", "--backend torch"),
        ("darwin", "x86_64", "--backend torch"),
    ],
)
def test_every_system_has_its_own_way_to_mlx(
    monkeypatch: pytest.MonkeyPatch, system: str, chip: str, words: str
) -> None:
    _on(monkeypatch, system, chip)
    assert words in installation("mlx")
    assert installation("torch") == "pip install 'localtune[torch]'"


def test_a_backend_whose_module_is_not_there_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BACKENDS, "mlx", "no_such_module.backend:Backend")
    with pytest.raises(MachineError, match="mlx backend is not installed: No module named 'no_such_module'"):
        load_backend("mlx")


def _broken(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that cannot be imported by what is started from now on."""
    (folder / f"{name}.py").write_text(f"raise ImportError(\"No module named '{name}'\")")
    monkeypatch.setenv("PYTHONPATH", str(folder))


def test_auto_goes_on_to_the_next_backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    _on(monkeypatch, "darwin", "arm64")
    _broken("mlx", tmp_path, monkeypatch)
    with probe.choose("auto") as chosen:
        assert chosen.device.backend == "torch"


def test_a_named_backend_is_never_replaced_by_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    _broken("mlx", tmp_path, monkeypatch)
    with pytest.raises(MachineError) as caught:
        probe.choose("mlx")
    problem = caught.value.problems[0]
    assert problem.what.startswith("mlx: the mlx backend is not installed")
    assert problem.fix == "pip install 'localtune[mlx-cpu]'"


def test_one_that_is_installed_but_breaks_is_not_to_be_installed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torch.py").write_text("raise OSError('libtorch.so: cannot open')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(MachineError) as caught:
        probe.choose("torch")
    assert "libtorch.so" in caught.value.problems[0].what
    assert caught.value.problems[0].fix == "localtune doctor"
