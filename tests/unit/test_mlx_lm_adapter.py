"""A copy of an adapter for mlx-lm, read by mlx-lm itself: it says what peft says, or is refused by name."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from localtune.errors import InputError
from localtune.events import Event, Warn
from localtune.mlx_lm_adapter import copy_for_mlx_lm
from localtune.model import ModelFiles, resolve
from localtune.runs.files import is_complete
from tests.command import MODEL, Command, returned
from tests.material import material

TOKENS = [5, 900, 17, 333, 42, 1000, 64, 8]
LAYERS = 3
KINDS = {"lora": {}, "dora": {"use_dora": True}, "rslora": {"use_rslora": True}}
TARGETS = ["q_proj", "v_proj", "down_proj"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random float32 Llama of three layers, with the quickstart's tokenizer."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("base") / "tiny"
    torch.manual_seed(3)
    config = transformers.LlamaConfig(
        vocab_size=1280, hidden_size=48, intermediate_size=80, num_hidden_layers=LAYERS, num_attention_heads=4,
        num_key_value_heads=2, initializer_range=0.1, max_position_embeddings=128,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    for path in MODEL.glob("*token*"):
        shutil.copy(path, folder)
    return folder


Adapters = Callable[..., Path]


@pytest.fixture
def adapter(base: Path, tmp_path: Path) -> Adapters:
    """An adapter of `base` with random B, written by peft; its logits of TOKENS beside it."""

    def made(**settings: Any) -> Path:
        import peft
        import torch
        import transformers

        torch.manual_seed(4)
        plain = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        config = peft.LoraConfig(**{"r": 4, "lora_alpha": 12, "target_modules": TARGETS, **settings})
        model = peft.get_peft_model(plain, config)
        for name, parameter in model.named_parameters():
            if "lora_B" in name or "magnitude" in name:
                parameter.data += 0.1 * torch.randn_like(parameter)
        model.save_pretrained(tmp_path / "peft")
        with torch.no_grad():
            logits = model.eval()(torch.tensor([TOKENS])).logits[0].numpy()
        np.save(tmp_path / "logits.npy", logits)
        return tmp_path / "peft"

    return made


def opened(base: Path) -> ModelFiles:
    return resolve(str(base), base.parent, offline=True)


def copied(adapter: Path, base: Path) -> Path:
    folder: Path = returned(copy_for_mlx_lm(adapter, opened(base), adapter.with_name("copy")))
    return folder


def logits_of_mlx_lm(base: Path, adapter: Path | None) -> np.ndarray[Any, np.dtype[Any]]:
    mlx_lm, mx = pytest.importorskip("mlx_lm"), pytest.importorskip("mlx.core")
    model = mlx_lm.load(str(base), adapter_path=str(adapter) if adapter else None)[0]
    return np.array(model(mx.array([TOKENS]))[0].astype(mx.float32))


def apart(a: Any, b: Any) -> float:
    return float(np.max(np.abs(a - b)) / np.max(np.abs(b)))


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
def test_mlx_lm_says_what_peft_says(base: Path, adapter: Adapters, kind: dict[str, Any]) -> None:
    peft_folder = adapter(**kind)
    folder = copied(peft_folder, base)
    expected = np.load(peft_folder.with_name("logits.npy"))
    assert apart(logits_of_mlx_lm(base, folder), expected) <= 1e-5
    assert apart(logits_of_mlx_lm(base, None), expected) > 0.05
    config = folder / "adapter_config.json"
    content = json.loads(config.read_text())
    content["lora_parameters"]["scale"] *= 1.1
    config.write_text(json.dumps(content))
    assert apart(logits_of_mlx_lm(base, folder), expected) > 1e-3


def test_the_last_layers_alone_are_said_by_their_number(base: Path, adapter: Adapters) -> None:
    peft_folder = adapter()
    kept = {name: value for name, value in tensors(peft_folder).items() if ".layers.0." not in name}
    rewritten(peft_folder, kept)
    folder = copied(peft_folder, base)
    content = json.loads((folder / "adapter_config.json").read_text())
    assert content["num_layers"] == 2
    assert content["lora_parameters"]["keys"] == ["mlp.down_proj", "self_attn.q_proj", "self_attn.v_proj"]
    written = load_file(folder / "adapters.safetensors")
    assert len(written) == 2 * 3 * 2
    assert apart(logits_of_mlx_lm(base, folder), np.load(peft_folder.with_name("logits.npy"))) > 1e-3


def tensors(adapter: Path) -> dict[str, Any]:
    return load_file(adapter / "adapter_model.safetensors")


def rewritten(adapter: Path, content: dict[str, Any]) -> None:
    save_file(content, adapter / "adapter_model.safetensors", metadata={"format": "pt"})


def refusal(adapter: Path, base: Path) -> str:
    with pytest.raises(InputError) as caught:
        copied(adapter, base)
    assert not adapter.with_name("copy").exists()
    (problem,) = caught.value.problems
    assert problem.fix
    return str(problem)


def test_a_module_left_out_of_one_layer_is_named(base: Path, adapter: Adapters) -> None:
    peft_folder = adapter()
    kept = {name: value for name, value in tensors(peft_folder).items() if "layers.1.self_attn.v_proj" not in name}
    rewritten(peft_folder, kept)
    shown = refusal(peft_folder, base)
    assert "error[mlx-lm.unmapped]" in shown
    assert "model.layers.1.self_attn.v_proj has no adapter" in shown


@pytest.mark.parametrize("outside", ["lm_head", "model.embed_tokens"])
def test_a_module_outside_the_layers_is_named(base: Path, adapter: Adapters, outside: str) -> None:
    peft_folder = adapter(target_modules=["q_proj", "lm_head"])
    parts = {name: value for name, value in tensors(peft_folder).items() if ".lora_" in name}
    renamed = {name.replace("lm_head", outside): value for name, value in parts.items()}
    rewritten(peft_folder, renamed)
    shown = refusal(peft_folder, base)
    assert "error[mlx-lm.unmapped]" in shown
    assert f"{outside} is no linear module" in shown


def test_an_adapter_of_another_model_is_refused(base: Path, adapter: Adapters) -> None:
    peft_folder = adapter()
    name = next(iter(tensors(peft_folder)))
    changed = tensors(peft_folder)
    changed[name] = np.ascontiguousarray(changed[name][:, :-1])
    rewritten(peft_folder, changed)
    assert "error[adapter.base]" in refusal(peft_folder, base)
    deeper = {key.replace("layers.2.", "layers.7."): value for key, value in tensors(peft_folder).items()}
    rewritten(peft_folder, deeper)
    assert "model.layers.7." in refusal(peft_folder, base)


def test_an_earlier_copy_is_replaced_and_nothing_else_is(base: Path, adapter: Adapters) -> None:
    peft_folder = adapter()
    folder = copied(peft_folder, base)
    assert is_complete(copied(peft_folder, base), verify=True)
    (folder / "adapters.safetensors").write_bytes(b"mine")
    with pytest.raises(InputError, match=r"mlx-lm\.exists"):
        copied(peft_folder, base)
    assert (folder / "adapters.safetensors").read_bytes() == b"mine"


def warnings(adapter: Path, base: Path) -> list[Event]:
    events = list(copy_for_mlx_lm(adapter, opened(base), adapter.with_name("copy")))
    return [event for event in events if isinstance(event, Warn)]


def test_rope_settings_that_mlx_lm_does_not_read_are_told(base: Path, adapter: Adapters, tmp_path: Path) -> None:
    peft_folder, told = adapter(), shutil.copytree(base, tmp_path / "told")
    content = json.loads((told / "config.json").read_text())
    assert "rope_parameters" in content
    assert "rope_theta" not in content
    (warning,) = warnings(peft_folder, told)
    assert '"rope_theta": 10000.0' in str(warning)
    (told / "config.json").write_text(json.dumps(content | {"rope_theta": 10000.0}))
    assert not warnings(peft_folder, told)


def test_mlx_lms_own_adapter_comes_back_number_for_number(tmp_path: Path) -> None:
    reference = material("model-stories260K")
    source = reference / "reference" / "mlx-lora"
    settings = json.loads((source / "adapter_config.json").read_text())["lora_parameters"]
    theirs = load_file(source / "adapters.safetensors")
    names = {"lora_a": "lora_A.weight", "lora_b": "lora_B.weight"}
    mine = {}
    for name, value in theirs.items():
        module, _, part = name.rpartition(".")
        mine[f"base_model.model.{module}.{names[part]}"] = np.ascontiguousarray(value.T)
    folder = tmp_path / "peft"
    folder.mkdir()
    rewritten(folder, mine)
    targets = sorted({name.split(".")[-2] for name in theirs})
    rank = settings["rank"]
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": settings["scale"] * rank, "target_modules": targets}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    copy = copied(folder, reference)
    again = load_file(copy / "adapters.safetensors")
    assert again.keys() == theirs.keys()
    assert all(np.array_equal(again[name], theirs[name]) for name in theirs)
    written = json.loads((copy / "adapter_config.json").read_text())
    assert written["num_layers"] == 2
    keys = written["lora_parameters"].pop("keys")
    assert written["lora_parameters"] == settings
    assert {key.rsplit(".")[-1] for key in keys} == set(targets)


def test_the_command_copies_and_mlx_lm_generates_with_it(base: Path, adapter: Adapters, tmp_path: Path) -> None:
    pytest.importorskip("mlx_lm")
    command, peft_folder = Command(tmp_path / "runs"), adapter()
    done = command("export", peft_folder, "--mlx-lm", "-o", tmp_path / "copy")
    assert done.code == 0, done.err
    assert str(tmp_path / "copy") in done.out
    assert f"--adapter-path {tmp_path / 'copy'}" in done.err
    arguments = ["--model", base, "--adapter-path", tmp_path / "copy", "--prompt", "Hello", "--max-tokens", "4"]
    said = subprocess.run(
        [sys.executable, "-m", "mlx_lm", "generate", *map(str, arguments)], capture_output=True, text=True, timeout=120
    )
    assert said.returncode == 0, said.stderr
    assert "4 tokens" in said.stdout + said.stderr


def test_the_command_says_what_is_wrong(adapter: Adapters, tmp_path: Path) -> None:
    command, peft_folder = Command(tmp_path / "runs"), adapter()
    both = command("export", peft_folder, "--mlx-lm", "--gguf", "Q8_0")
    assert both.code == 2
    assert "--gguf in a command of its own" in both.err
    path = peft_folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": None}))
    nameless = command("export", peft_folder, "--mlx-lm")
    assert nameless.code == 2
    assert "error[export.base]" in nameless.err
