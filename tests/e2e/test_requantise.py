"""`localtune fuse RUN --requantize`: back on the grid of the base, where the change is large enough to stay."""

import json
from pathlib import Path

import pytest

from localtune.model import resolve
from localtune.runs.folder import Run
from tests.command import MODEL, Command, short
from tests.e2e.few_bits import few_bits
from tests.e2e.in_process import InProcess


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("requantise") / "runs"


@pytest.fixture(scope="module")
def command(runs: Path) -> Command:
    return InProcess(runs)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The quickstart's model in 8 bits, as mlx_lm.convert -q leaves it."""
    return few_bits(tmp_path_factory.mktemp("mlx") / "q8", group_size=32, bits=8)


def trained(base: Path, command: Command, runs: Path, name: str, rate: float) -> Run:
    arguments = [word if word != str(MODEL) else str(base) for word in short(runs.parent / "data", steps=3)]
    more = ["--set", "watch.samples=[]", "--set", f"train.learning_rate={rate}"]
    done = command("run", *arguments, "--backend", "mlx", "--name", name, *more)
    assert done.code == 0, done.err
    (folder,) = runs.glob(f"{name}-*")
    return Run(folder)


@pytest.mark.slow
def test_a_large_change_is_written_on_the_grid_and_a_tiny_one_refused(base: Path, command: Command, runs: Path) -> None:
    large, tiny = trained(base, command, runs, "large", 0.05), trained(base, command, runs, "tiny", 1e-6)
    done = command("fuse", large.name, "--requantize", "--json")
    assert done.code == 0, done.err
    events = [json.loads(line) for line in done.out.splitlines()]
    assert [event["name"] for event in events if event["type"] == "product"] == ["requantised"]
    found = resolve(str(large.folder / "requantised"), Path(), offline=True)
    assert found.config.quantization == resolve(str(base), Path(), offline=True).config.quantization
    refused = command("fuse", tiny.name, "--requantize")
    assert refused.code == 2
    assert refused.err.startswith("error[requantise.lost]") or "error[requantise.lost]" in refused.err
    assert "without --requantize" in refused.err
    assert not (tiny.folder / "requantised").exists()
    assert not list(tiny.folder.glob("*.partial"))
