"""What changed between the stop of a run and its resume is noticed: named and refused, or where harmless noted."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from localtune import job as jobs
from localtune.errors import InputError
from localtune.job import changes_since, read_job
from localtune.runs.folder import Run
from tests.command import MODEL
from tests.faults import untrained


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run and the model it is of, in one folder."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOCALTUNE_RUNS", str(folder / "runs"))
        patch.setenv("LOCALTUNE_CACHE", str(folder / "cache"))
        shutil.copytree(MODEL, folder / "model")
        untrained.make_run(folder / "data", folder / "model")
        yield folder


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Iterator[Run]:
    """A copy of the run; its model is put back afterwards."""
    (folder,) = (made / "runs").glob("made-*")
    shutil.copytree(folder, tmp_path / folder.name)
    yield Run(tmp_path / folder.name)
    shutil.rmtree(made / "model")
    shutil.copytree(MODEL, made / "model")


def _edit(path: Path) -> None:
    """Another byte at its end, which no reader of JSON or YAML minds."""
    path.write_bytes(path.read_bytes() + b"\n")


def _other_row(run: Run) -> None:
    path = run.data / "train.safetensors"
    arrays = load_file(path)
    path.unlink()
    save_file(arrays | {"tokens": arrays["tokens"][::-1].copy()}, path, metadata={"format": "1"})


def _other_weight(model: Path) -> None:
    path = model / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_a_run_that_is_as_it_was_made_is_read_without_a_note(run: Run) -> None:
    assert changes_since(read_job(run)) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda run: _edit(run.recipe),
        lambda run: _edit(run.resolved),
        lambda run: _edit(run.plan),
        lambda run: _edit(run.environment),
        lambda run: _edit(run.data / "report.json"),
        lambda run: (run.data / "valid.safetensors").unlink(),
        _other_row,
    ],
    ids=["recipe", "resolved recipe", "plan", "environment", "report", "validation rows", "tokenised rows"],
)
def test_a_changed_file_of_the_run_is_refused(run: Run, change: Callable[[Run], None]) -> None:
    change(run)
    with pytest.raises(InputError, match=r"run\.changed"):
        read_job(run)


@pytest.mark.parametrize(
    "change",
    [
        _other_weight,
        lambda model: _edit(model / "config.json"),
        lambda model: _edit(model / "tokenizer.json"),
        lambda model: _edit(model / "tokenizer_config.json"),
        lambda model: (model / "chat_template.jinja").write_text("{{ messages }}", encoding="utf-8"),
        lambda model: (model / "generation_config.json").write_text('{"eos_token_id": 5}', encoding="utf-8"),
    ],
    ids=["weights", "configuration", "tokenizer", "tokenizer's settings", "template", "stop tokens"],
)
def test_a_changed_file_of_the_model_is_refused(run: Run, made: Path, change: Callable[[Path], None]) -> None:
    change(made / "model")
    with pytest.raises(InputError, match=r"run\.model-changed|run\.unreadable|model\."):
        changes_since(read_job(run))


def test_a_model_that_is_gone_is_refused_by_name(run: Run, made: Path) -> None:
    shutil.rmtree(made / "model")
    (made / "model").mkdir()
    with pytest.raises(InputError) as refused:
        changes_since(read_job(run))
    assert "model" in str(refused.value)


def test_other_versions_are_noted_one_by_one(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    real = jobs.versions

    def newer(backend: str) -> dict[str, str]:
        return real(backend) | {"numpy": "99.0", "localtune": "98.0"}

    monkeypatch.setattr(jobs, "versions", newer)
    noted = changes_since(read_job(run))
    assert noted == [f"localtune was {real('torch')['localtune']}, is 98.0", f"numpy was {np.__version__}, is 99.0"]


def test_a_refusal_names_what_was_changed(run: Run) -> None:
    _edit(run.plan)
    with pytest.raises(InputError) as refused:
        read_job(run)
    assert "plan" in str(refused.value)


def test_the_record_of_the_run_holds_what_is_compared(run: Run) -> None:
    made = json.loads(run.environment.read_text(encoding="utf-8"))
    assert {"config.json", "tokenizer.json", "model.safetensors"} <= made["model"]["sha256"].keys()
    assert made["data"]["tokenizer"]
    assert all(len(digest) == 64 for digest in made["data"]["files"].values())
