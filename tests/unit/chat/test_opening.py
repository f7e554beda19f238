"""A folder answers by the first backend that computes it as it is; what none computes is refused by name."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from localtune import defaults
from localtune.adapter import Nothing
from localtune.answering import by_length, context_on, willing
from localtune.backend import Device, MemorySpec, Precision, Settings, in_order
from localtune.chat.answer import Answer, Wishes
from localtune.chat.opening import _settings, open_folder
from localtune.data.conversations import Message
from localtune.errors import InputError, MachineError
from localtune.model import ModelFiles
from tests.command import MODEL
from tests.contract.conftest import FAMILIES, SHAPE, files_of, installed, make_model
from tests.contract.test_mlx_quantised import converted
from tests.unit.shapes import recipe

pytest.importorskip("mlx_lm")
pytest.importorskip("torch")

BOTH = ("mlx", "torch")


def _folder(folder: Path, **config: Any) -> Path:
    """The quickstart's model with another configuration."""
    shutil.copytree(MODEL, folder)
    stated = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(stated | config), encoding="utf-8")
    return folder


def _said(folder: Path, backends: Sequence[str], text: str = "Hello.") -> str:
    with open_folder(folder, backends) as opened:
        answer = Answer(opened.speaker("model"), [Message("user", text)], Wishes(max_tokens=8))
        return "".join(answer)


def _wanted(device: Device) -> list[Settings]:
    memory = MemorySpec(device.memory_limit)
    return [Settings(Nothing(), Precision("float32", "float32"), None, None, memory, 32, packed=False)]


@pytest.fixture(scope="module")
def quantised(tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
    """The quickstart's model as mlx_lm.convert -q leaves it."""
    files = files_of(MODEL)
    made = converted(files, tmp_path_factory.mktemp("mlx") / "q4", group_size=64, bits=4, mode="affine")
    for path in MODEL.iterdir():
        if not (made.folder / path.name).exists() and path.suffix != ".safetensors":
            shutil.copyfile(path, made.folder / path.name)
    return made


def test_the_first_that_computes_the_model_as_it_is_answers(tmp_path: Path) -> None:
    gelu = _folder(tmp_path / "gelu", hidden_act="gelu")
    assert willing(files_of(MODEL), _wanted, BOTH)[0].backend == "mlx"
    assert willing(files_of(gelu), _wanted, BOTH)[0].backend == "torch"
    assert _said(gelu, BOTH) == _said(gelu, ("torch",)) != _said(MODEL, ("torch",))


def test_a_model_that_mlx_would_compute_differently_is_refused_where_nothing_else_is_asked(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="gelu") as caught:
        _said(_folder(tmp_path / "gelu", hidden_act="gelu"), ("mlx",))
    (problem,) = caught.value.problems
    assert (problem.code, problem.where) == ("backend.refused", "mlx")
    assert not problem.fix.startswith("--")  # chat takes no such option


def test_an_architecture_that_nobody_knows_is_refused_by_all(tmp_path: Path) -> None:
    unknown = _folder(tmp_path / "new", model_type="new", architectures=["NewForCausalLM"])
    with pytest.raises(InputError) as caught:
        _said(unknown, BOTH)
    assert {problem.where for problem in caught.value.problems} == set(BOTH)
    assert all("NewForCausalLM" in problem.what for problem in caught.value.problems)


def test_where_nothing_can_be_used_it_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mlx.py").write_text("raise ImportError(\"No module named 'mlx'\")")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(MachineError, match="No module named 'mlx'") as caught:
        _said(MODEL, ("mlx",))
    assert "mlx" in caught.value.problems[0].fix
    gelu = _folder(tmp_path / "gelu", model_type="new", architectures=["NewForCausalLM"])
    with pytest.raises(InputError) as refused:
        _said(gelu, BOTH)
    assert {problem.where for problem in refused.value.problems} == {"torch"}


@pytest.mark.parametrize("backends", [("mlx",), ("torch", "mlx"), None])
def test_a_folder_of_mlx_community_answers_as_it_is_stored(
    quantised: ModelFiles, backends: Sequence[str] | None
) -> None:
    import mlx.core as mx
    from mlx_lm import generate, load

    if installed("mlx").probe().kind != "cpu":
        pytest.skip("a GPU answers in bfloat16, where the order of sums decides between close tokens")
    model, tokenizer = load(str(quantised.folder))[:2]
    model.set_dtype(mx.float32)  # as it computes on a processor
    prompt = tokenizer.apply_chat_template([{"role": "user", "content": "Hello."}], add_generation_prompt=True)
    own = generate(model, tokenizer, prompt=prompt, max_tokens=8)
    assert _said(quantised.folder, backends or in_order()) == own


def test_a_folder_may_use_as_much_memory_as_a_run() -> None:
    cpu = Device("torch", "cpu", "CPU", 10**10, ("float32",), {}, "")
    for device in (cpu, replace(cpu, backend="mlx", kind="metal")):
        limit = _settings(files_of(MODEL), device).memory.limit
        assert limit == defaults.memory_limit(recipe(), device) < device.memory_limit


WINDOW = 40


@pytest.fixture(scope="module")
def windowed(tmp_path_factory: pytest.TempPathFactory) -> ModelFiles:
    """A model whose sliding window mlx-lm ignores, with the quickstart's tokenizer."""
    kind, extra = FAMILIES["qwen2-window"]
    folder = tmp_path_factory.mktemp("windowed") / "model"
    make_model((kind, {**SHAPE, **extra, "vocab_size": 1280, "sliding_window": WINDOW}), folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copyfile(MODEL / name, folder / name)
    return files_of(folder)


def test_no_text_is_longer_than_a_window_that_the_backend_ignores(windowed: ModelFiles) -> None:
    assert windowed.config.context > WINDOW
    long = "hello " * WINDOW
    assert _said(windowed.folder, ("torch",), long)
    with pytest.raises(InputError, match=f"the model reads {WINDOW}") as caught:
        _said(windowed.folder, ("mlx",), long)
    assert caught.value.problems[0].code == "chat.context"


def test_a_run_on_mlx_is_talked_to_within_that_window_too(windowed: ModelFiles) -> None:
    settings = Settings(Nothing(), Precision("float32", "float32"), None, None, MemorySpec(0), 16, packed=True)
    assert context_on(installed("mlx"), windowed, settings) == WINDOW
    assert context_on(installed("torch"), windowed, settings) == windowed.config.context


def test_shorter_texts_are_tried_longest_first() -> None:
    files = files_of(MODEL)
    scaling = {"rope_type": "longrope", "original_max_position_embeddings": 64}
    both = replace(files, config=replace(files.config, rope_scaling=scaling, sliding_window=300))
    (settings,) = _wanted(Device("torch", "cpu", "CPU", 10**10, ("float32",), {}, ""))
    assert [asked.max_tokens for asked in by_length(both, settings)] == [1024, 300, 64]
    assert [asked.max_tokens for asked in by_length(files, settings)] == [1024]
