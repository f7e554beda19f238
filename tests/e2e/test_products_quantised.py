"""Products of a base in few bits, from the command line: what can be made of a run on it, and of its folder alone."""

import json
import shutil
from pathlib import Path

import pytest

from localtune.runs.folder import Run
from tests.command import MODEL, Command
from tests.e2e.few_bits import few_bits
from tests.e2e.in_process import InProcess
from tests.e2e.test_products import short_to_compare

pytestmark = pytest.mark.usefixtures("few_places")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("products") / "runs"


@pytest.fixture(scope="module")
def command(runs: Path) -> Command:
    return InProcess(runs)


@pytest.fixture(scope="module")
def quantised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The quickstart's model as mlx_lm.convert -q leaves it."""
    return few_bits(tmp_path_factory.mktemp("mlx") / "q4", group_size=64, bits=4)


@pytest.fixture(scope="module")
def on_quantised(quantised: Path, command: Command, runs: Path) -> tuple[Run, str]:
    """A run on that base, and what its end named to be typed."""
    arguments = [
        word if word != str(MODEL) else str(quantised) for word in short_to_compare(runs.parent / "data", steps=2)
    ]
    done = command("run", *arguments, "--backend", "mlx", "--name", "few-bits", "--set", "watch.samples=[]")
    assert done.code == 0, done.err
    (folder,) = runs.glob("few-bits-*")
    return Run(folder), done.err.splitlines()[-1]


def test_a_run_on_a_quantised_base_names_what_can_be_made_of_it(
    on_quantised: tuple[Run, str], command: Command
) -> None:
    run, named = on_quantised
    assert named == f"next: localtune chat {run.name} --compare   or   localtune export {run.name} --gguf Q8_0"
    copied = command("export", run.name, "--mlx-lm")
    assert copied.code == 0, copied.err


def test_an_adapter_over_a_quantised_base_is_fused_into_its_exact_values_and_proven(
    on_quantised: tuple[Run, str], command: Command
) -> None:
    run, _ = on_quantised
    done = command("export", run.name, "--gguf", "F16", "--json")
    assert done.code == 0, done.err
    proofs = [json.loads(line) for line in done.out.splitlines() if json.loads(line)["type"] == "proof"]
    assert [proof["passed"] for proof in proofs] == [True, True]
    checks = {check["name"]: check for check in proofs[0]["checks"]}
    assert checks["fusion"]["passed"] is True
    assert "quantization" not in json.loads((run.fused / "config.json").read_text(encoding="utf-8"))


def test_a_quantised_folder_is_exported_by_its_exact_values(quantised: Path, command: Command, tmp_path: Path) -> None:
    done = command("export", quantised, "--gguf", "F16", "-o", tmp_path / "out", "--json")
    assert done.code == 0, done.err
    (proof,) = [json.loads(line) for line in done.out.splitlines() if json.loads(line)["type"] == "proof"]
    checks = {check["name"]: check["passed"] for check in proof["checks"]}
    assert checks == {"tokens": True, "template": True, "stop": True, "file": True, "tensors": True}


def test_a_folder_quantised_in_a_way_not_known_is_refused_before_anything_is_computed(
    command: Command, tmp_path: Path
) -> None:
    odd = tmp_path / "odd"
    shutil.copytree(MODEL, odd)
    config = json.loads((odd / "config.json").read_text(encoding="utf-8"))
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    (odd / "config.json").write_text(json.dumps(config), encoding="utf-8")
    refused = command("export", odd, "-o", tmp_path / "out")
    assert refused.code == 2
    assert refused.err.startswith("error[fuse.quantized]")
    assert not (tmp_path / "out").exists()


def test_a_file_of_a_quantised_base_is_planned_and_the_backends_are_explained(
    quantised: Path, command: Command, runs: Path
) -> None:
    arguments = [word if word != str(MODEL) else str(quantised) for word in short_to_compare(runs.parent / "data")]
    asked = ["plan", *arguments, "--backend", "mlx", "--set", "export.gguf=[Q8_0]"]
    assert command(*asked).code == 0
    explained = command(*asked, "--explain-backends")
    assert explained.code == 0
    assert "\nmlx " in explained.out
    assert "refuses model: the checkpoint is already quantised (mlx)" in explained.out
    assert max(map(len, explained.out.splitlines())) <= 80
    told = command(*asked, "--explain-backends", "--json")
    assert {entry["name"] for entry in told.json()["backends"]} == {"torch", "mlx"}
