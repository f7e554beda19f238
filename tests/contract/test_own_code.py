"""A model's own code beside its weights is never run, though its configuration names it."""

import json
import sys
from pathlib import Path

import pytest

from localtune.model import ModelFiles
from tests.contract.conftest import LORA, Models, Opener, rows_of, saved, segment, with_config

CODE = ("configuration_phi3.py", "modeling_phi3.py", "tokenization_phi3.py", "custom_generate/generate.py")
AUTO_MAP = {
    "AutoConfig": "configuration_phi3.Phi3Config",
    "AutoModelForCausalLM": "modeling_phi3.Phi3ForCausalLM",
    "AutoTokenizer": "tokenization_phi3.Phi3Tokenizer",
}


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """What the model's code writes when it is run."""
    return tmp_path / "it ran"


@pytest.fixture
def model(models: Models, tmp_path: Path, marker: Path) -> ModelFiles:
    """Phi-3 as it is on the hub: a known architecture, with its own code beside."""
    files = with_config(models("phi3-inside"), tmp_path / "model", {"auto_map": AUTO_MAP})
    for name in CODE:
        (files.folder / name).parent.mkdir(exist_ok=True)
        (files.folder / name).write_text(f"open({str(marker)!r}, 'a').close()\n", encoding="utf-8")
    (files.folder / "tokenizer_config.json").write_text(json.dumps({"auto_map": AUTO_MAP}), encoding="utf-8")
    return files


def test_training_runs_no_code_of_the_model(
    open_session: Opener, model: ModelFiles, marker: Path, tmp_path: Path
) -> None:
    with open_session(model, LORA) as session:
        session.train_step([rows_of([segment(12)])], step=0, lr=1e-2)
        saved(session, tmp_path / "adapter", state=True)
    assert not marker.exists()
    assert not set(sys.modules) & {Path(name).stem for name in CODE[:3]}


def test_the_code_would_run_where_it_is_trusted(
    model: ModelFiles, marker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transformers = pytest.importorskip("transformers")
    monkeypatch.setattr(transformers.dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(AttributeError):  # the file defines no class
        transformers.AutoConfig.from_pretrained(model.folder, local_files_only=True, trust_remote_code=True)
    assert marker.exists()
