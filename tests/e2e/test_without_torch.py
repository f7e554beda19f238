"""The whole quickstart on MLX in an environment of its own that has no PyTorch: train, evaluate, fuse, export, chat.

The environment is a real one (`python -m venv`) whose packages are links to those that are installed here, all but
PyTorch and what is built on it; so neither an import nor the metadata of a package finds them.
"""

import importlib.util
import json
import os
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

from localtune.events import Done, Evaluation, Match, Product, Proof, Replies, Step
from localtune.runs.files import is_complete
from localtune.runs.folder import Run
from tests.command import QUICKSTART, Result

pytest.importorskip("mlx.core")
pytest.importorskip("mlx_lm")

ABSENT = ("torch", "functorch", "torchgen", "torchvision", "torchaudio", "triton", "nvidia", "peft", "bitsandbytes",
          "accelerate")  # fmt: skip
"""First parts of the names of packages, and of their metadata, that are left out."""

Python = Callable[..., Result]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Python:
    """Runs the interpreter of an environment without PyTorch."""
    folder = tmp_path_factory.mktemp("without")
    venv.create(folder / "env", symlinks=True)
    binaries = folder / "env" / ("Scripts" if sys.platform == "win32" else "bin")
    own = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder / "env"), "platbase": str(folder / "env")}))
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not entry.name.lower().replace("-", "_").startswith(ABSENT) and not (own / entry.name).exists():
            (own / entry.name).symlink_to(entry)
    variables = {"LOCALTUNE_RUNS": str(folder / "runs"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}

    def run(*arguments: str | Path) -> Result:
        command = [str(binaries / "python"), *map(str, arguments)]
        done = subprocess.run(
            command, env=environment | variables, cwd=folder, capture_output=True, encoding="utf-8", timeout=240
        )
        return Result(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="module")
def run(python: Python, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The quickstart's recipe on MLX, cut to a few rows and updates."""
    folder = tmp_path_factory.mktemp("quickstart")
    for name, count in (("train", 24), ("valid", 2), ("test", 2)):
        rows = (QUICKSTART / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        (folder / f"{name}.jsonl").write_text("\n".join(rows[:count]) + "\n", encoding="utf-8")
    changes = {
        "backend": "mlx",
        "train.steps": 3,
        "train.batch_size": 6,
        "watch.eval_every": 3,
        "watch.save_every": 3,
        "watch.samples": "[]",
        "watch.answer_tokens": 8,
    } | {f"data.{name}": folder / f"{name}.jsonl" for name in ("train", "valid", "test")}
    flags = [f"--set={key}={value}" for key, value in changes.items()]
    done = python("-m", "localtune", "run", QUICKSTART / "recipe.yaml", *flags)
    assert done.code == 0, done.err
    path = python("-m", "localtune", "runs", "path", "last")
    return Run(Path(path.out.strip()))


FEW_PLACES = """
import sys
from localtune import cli, places
places.POSITIONS = 8
sys.argv[0] = "localtune"
cli.main()
"""
"""The command line, comparing at few positions: each is a question to llama.cpp."""
FIND = """
import importlib.metadata, importlib.util
for name in ("torch", "peft", "bitsandbytes", "accelerate"):
    assert importlib.util.find_spec(name) is None, name
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        continue
    raise AssertionError(name)
import localtune_mlx.backend, localtune.worker
"""


def test_the_environment_has_no_pytorch(python: Python) -> None:
    assert python("-c", FIND).code == 0
    control = subprocess.run([sys.executable, "-c", FIND], capture_output=True, check=False)
    assert control.returncode == (1 if importlib.util.find_spec("torch") else 0)


def test_the_quickstart_trains_evaluates_and_proves_its_products(run: Run) -> None:
    events = [event for event, _ in run.read_events()]
    steps = [event for event in events if isinstance(event, Step)]
    assert [step.step for step in steps] == [1, 2, 3]
    assert all(step.applied for step in steps)
    assert {event.who for event in events if isinstance(event, Match)} == {"base", "tuned"}
    losses = [event.loss for event in events if isinstance(event, Evaluation) and event.split == "valid"]
    assert losses[-1] < losses[0]
    assert [event.name for event in events if isinstance(event, Product)] == ["adapter", "fused", "Q8_0"]
    proofs = [event for event in events if isinstance(event, Proof)]
    assert proofs[0].product == "fused"
    assert proofs[-1].product.endswith("-Q8_0.gguf")
    assert all(proof.passed for proof in proofs)
    (replies,) = (event for event in events if isinstance(event, Replies))
    assert set(replies.texts) == {"base", "adapter", "Q8_0"}
    assert any(isinstance(event, Done) for event in events)
    assert is_complete(run.adapter, verify=True)


def test_the_run_knows_what_it_was_made_with(run: Run) -> None:
    made = json.loads(run.environment.read_text(encoding="utf-8"))["versions"]
    assert "mlx" in made
    assert "torch" not in made


@pytest.mark.parametrize("who", ["run", "file"])
def test_the_run_and_its_file_answer(python: Python, run: Run, who: str) -> None:
    file = next(run.export.glob("*.gguf"))
    said = python("-m", "localtune", "chat", run.name if who == "run" else file, "-p", "Hello.", "--max-tokens", "8")
    assert said.code == 0, said.err
    assert said.out.strip()


def test_a_folder_is_exported_and_proven_by_the_backend_that_is_there(python: Python, tmp_path: Path) -> None:
    done = python("-c", FEW_PLACES, "export", QUICKSTART / "model", "--gguf", "F16", "-o", tmp_path, "--json")
    assert done.code == 0, done.err
    events = [json.loads(line) for line in done.out.splitlines()]
    assert [event["code"] for event in events if event["type"] == "warn" and event["code"].startswith("proof.")] == []
    (proof,) = (event for event in events if event["type"] == "proof")
    assert {check["name"]: check["passed"] for check in proof["checks"]}["file"] is True


def test_the_adapter_is_copied_for_mlx_lm_and_read_by_it(python: Python, run: Run) -> None:
    copied = python("-m", "localtune", "export", run.name, "--mlx-lm")
    assert copied.code == 0, copied.err
    folder = run.folder / "mlx-lm-adapter"
    assert is_complete(folder, verify=True)
    arguments = ["--model", QUICKSTART / "model", "--adapter-path", folder, "--prompt", "Hello.", "--max-tokens", "4"]
    said = python("-m", "mlx_lm", "generate", *arguments)
    assert said.code == 0, said.err
