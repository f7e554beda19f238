"""An adapter's GGUF beside its base says in llama.cpp what the fused weights say, or is refused by name."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import peft
import pytest
import torch
import transformers
from safetensors.numpy import load_file, save_file
from tokenizers import pre_tokenizers

from localtune.adapter import Lora
from localtune.errors import InputError, Problem
from localtune.export import adapter_file
from localtune.export.adapter_file import Encoding, Written, write_adapter
from localtune.export.gguf_file import PROOF, set_string
from localtune.export.identity import Identity, identify
from localtune.export.read import read_gguf
from localtune.fuse import fuse
from localtune.llamacpp import LlamaServer
from localtune.model import resolve
from tests.material import material
from tests.unit.export.tiny import byte_level, exported, llama, random_model, save_tokenizer

IDS = [5, 80, 13, 200, 7, 7, 311, 42, 9, 150]
VOCABULARY = 330
PLAIN = 40
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
IDENTITY = Identity("Tiny", "1M", "test", "v1.0")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama with grouped queries, biases and a head of its own, and its F32 file beside it."""
    folder = tmp_path_factory.mktemp("adapter") / "base"
    save_tokenizer(folder, byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False), size=VOCABULARY))
    llama(folder, VOCABULARY, eos=2, attention_bias=True)
    exported(folder)
    return folder


def make_adapter(base: Path, folder: Path, **options: Any) -> Path:
    """A random adapter of `base`, large enough to matter."""
    loaded = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    options = {"r": 4, "lora_alpha": 12, "target_modules": LINEAR, "task_type": "CAUSAL_LM", **options}
    adapted = peft.get_peft_model(loaded, peft.LoraConfig(**options))
    torch.manual_seed(1)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    adapted.save_pretrained(folder, save_embedding_layers=False)
    return folder


def written(base: Path, adapter: Path, encoding: Encoding = "F32") -> tuple[Path, Written]:
    path = adapter.with_suffix(".gguf")
    return path, write_adapter(adapter, resolve(str(base), base, offline=True), path, IDENTITY, encoding)


def logprobs(path: Path, adapters: Sequence[Path] = (), scales: Sequence[float] | None = None) -> Any:
    """Natural log-probabilities of the next token after every prefix of `IDS`, [positions, vocabulary]."""
    pytest.importorskip("xllamacpp")
    with LlamaServer(path, context=128, threads=1, adapters=adapters) as server:
        if scales is not None:
            server.scales(scales)
        rows = np.full((len(IDS), VOCABULARY), -np.inf)
        for end in range(1, len(IDS) + 1):
            tokens, found = server.next_logprobs(IDS[:end], top=VOCABULARY, force=PLAIN)
            rows[end - 1, tokens] = found
    return rows


def divergence(wanted: Any, got: Any) -> float:
    """Largest KL (nats) over the positions."""
    return float((np.exp(wanted) * (wanted - got)).sum(1).max())


def fused(base: Path, adapter: Path) -> Any:
    """What the fused weights say."""
    folder = adapter.with_name("fused")
    folder.mkdir()
    fuse(resolve(str(base), base, offline=True), adapter, folder)
    return logprobs(exported(folder))


KINDS: dict[str, dict[str, Any]] = {
    "every linear module": {},
    "rsLoRA": {"use_rslora": True, "lora_alpha": 3},
    "a head of its own": {"target_modules": [*LINEAR, "lm_head"]},
}


@pytest.mark.parametrize("kind", KINDS)
def test_beside_its_base_an_adapter_says_what_the_fused_weights_say(base: Path, tmp_path: Path, kind: str) -> None:
    adapter = make_adapter(base, tmp_path / "lora", **KINDS[kind])
    path, done = written(base, adapter)
    wanted = fused(base, adapter)
    assert divergence(wanted, logprobs(base.with_suffix(".F32.gguf"), [path])) < 1e-6
    assert divergence(wanted, logprobs(base.with_suffix(".F32.gguf"), [path], [0.0])) > 1e-1
    assert done.alpha == (6 if kind == "rsLoRA" else 12)
    assert len(done.modules) == 14 + (kind == "a head of its own")
    assert done.size == path.stat().st_size


GEMMA = {"tie_word_embeddings": True, "head_dim": 24, "query_pre_attn_scalar": 24, "sliding_window": 12}
FAMILIES: dict[str, tuple[dict[str, Any], list[str], int]] = {
    "Mistral": ({"sliding_window": None}, LINEAR, 14),
    "Qwen2": ({}, LINEAR, 14),
    "Qwen3": ({"head_dim": 24}, LINEAR, 14),
    "Qwen3Moe": (
        {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 40, "norm_topk_prob": True},
        LINEAR[:4],
        8,
    ),
    "Gemma2": (GEMMA, LINEAR, 14),
    "Gemma3": (GEMMA, LINEAR, 14),
    "Phi3": ({}, ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"], 8),
    "SmolLM3": ({}, LINEAR, 14),
}
"""Family -> shape, the modules that an adapter has, and how many there are."""


@pytest.mark.parametrize("family", FAMILIES)
def test_so_it_is_in_every_family(tmp_path: Path, family: str) -> None:
    config, modules, count = FAMILIES[family]
    folder = tmp_path / "base"
    save_tokenizer(folder, byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False), size=VOCABULARY))
    random_model(folder, family, VOCABULARY, num_hidden_layers=2, **config)
    adapter = make_adapter(folder, tmp_path / "lora", target_modules=modules)
    path, done = written(folder, adapter)
    wanted, base = fused(folder, adapter), exported(folder)
    assert len(done.modules) == count
    assert divergence(wanted, logprobs(base, [path])) < 1e-6
    assert divergence(wanted, logprobs(base, [path], [0.0])) > 1e-2


def _unpermuted(rows: Any, head_dim: int) -> Any:
    return rows


def _plain_scale(lora: Lora) -> float:
    return lora.alpha / lora.rank


@pytest.mark.parametrize("forgotten", ["the order of the rows", "the scale of rsLoRA"])
def test_what_is_forgotten_is_caught_by_that_bound(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forgotten: str
) -> None:
    adapter = make_adapter(base, tmp_path / "lora", use_rslora=True)
    wanted = fused(base, adapter)
    if forgotten == "the order of the rows":
        monkeypatch.setattr(adapter_file, "regrouped", _unpermuted)
    else:
        monkeypatch.setattr(Lora, "scale", property(_plain_scale))
    path, _ = written(base, adapter)
    assert divergence(wanted, logprobs(base.with_suffix(".F32.gguf"), [path])) > 1e-3


def test_half_precision_stays_near_and_two_adapters_add_up(base: Path, tmp_path: Path) -> None:
    adapter = make_adapter(base, tmp_path / "lora")
    wanted = fused(base, adapter)
    half, _ = written(base, adapter, "F16")
    assert divergence(wanted, logprobs(base.with_suffix(".F32.gguf"), [half])) < 1e-5
    twice = half.with_name("twice.gguf")
    twice.write_bytes(half.read_bytes())
    assert divergence(wanted, logprobs(base.with_suffix(".F32.gguf"), [half, twice], [0.25, 0.75])) < 1e-5


@pytest.mark.material
def test_files_are_those_of_llama_cpps_converter(tmp_path: Path) -> None:
    base = material("model-stories260K")
    model = resolve(str(base), base, offline=True)
    identity = identify(model, finetune="test", base=None, revision=None, lineage={})
    write_adapter(base / "reference" / "peft-lora", model, tmp_path / "a.gguf", identity)
    ours: Any = gguf.GGUFReader(tmp_path / "a.gguf")
    theirs: Any = gguf.GGUFReader(base / "reference" / "peft-lora" / "adapter-f16.gguf")
    for key in theirs.fields.keys() - {"general.name", "GGUF.kv_count"}:
        assert ours.fields[key].types == theirs.fields[key].types
        assert ours.fields[key].contents() == theirs.fields[key].contents()
    left, right = ({t.name: t for t in reader.tensors} for reader in (ours, theirs))
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        assert tensor.tensor_type == right[name].tensor_type
        assert tensor.shape.tolist() == right[name].shape.tolist()
        assert np.array_equal(tensor.data, right[name].data), name


@pytest.mark.material
def test_it_answers_as_peft_does(tmp_path: Path) -> None:
    base = material("model-stories260K")
    folder = base / "reference" / "peft-lora"
    expected = json.loads((folder / "expected.json").read_text())
    write_adapter(folder, resolve(str(base), base, offline=True), tmp_path / "a.gguf", IDENTITY, "F32")
    pytest.importorskip("xllamacpp")
    with LlamaServer(base / "reference" / "stories260K-f32.gguf", threads=1, adapters=[tmp_path / "a.gguf"]) as server:
        ids = server.complete(expected["input_ids"], tokens=len(expected["with_adapter"])).ids
        assert list(ids) == expected["with_adapter"]
        server.scales([0.0])
        assert list(server.complete(expected["input_ids"], tokens=9).ids) != expected["with_adapter"][:9]


def test_its_proof_has_room(base: Path, tmp_path: Path) -> None:
    path, _ = written(base, make_adapter(base, tmp_path / "lora"))
    set_string(path, PROOF, "passed")
    assert read_gguf(path).metadata[PROOF].rstrip() == "passed"


def refused(base: Path, adapter: Path, encoding: Encoding = "F32") -> Problem:
    """Why, with nothing left behind."""
    with pytest.raises(InputError) as caught:
        written(base, adapter, encoding)
    assert not list(adapter.parent.glob("*.gguf*"))
    return caught.value.problems[0]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"use_dora": True}, "DoRA"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"bias": "lora_only"}, "bias='lora_only'"),
        ({"rank_pattern": {"q_proj": 2}}, "rank_pattern"),
        ({"alpha_pattern": {"q_proj": 2}}, "alpha_pattern"),
        ({"lora_alpha": 0}, "lora_alpha is 0"),
    ],
)
def test_other_kinds_are_refused_by_name(base: Path, tmp_path: Path, options: dict[str, Any], says: str) -> None:
    problem = refused(base, make_adapter(base, tmp_path / "lora", **options))
    assert problem.code == "adapter.unsupported"
    assert says in problem.what
    assert problem.fix


def test_a_dora_is_offered_to_be_fused(base: Path, tmp_path: Path) -> None:
    assert "localtune export RUN --gguf" in refused(base, make_adapter(base, tmp_path / "lora", use_dora=True)).fix


def test_trained_embeddings_are_refused(base: Path, tmp_path: Path) -> None:
    adapter = make_adapter(base, tmp_path / "lora", target_modules=["q_proj", "embed_tokens"])
    assert "lora_embedding_A" in refused(base, adapter).evidence


def test_a_tied_head_is_refused_since_it_is_the_embedding_too(base: Path, tmp_path: Path) -> None:
    adapter = make_adapter(base, tmp_path / "lora", target_modules=["q_proj", "lm_head"])
    save_tokenizer(tmp_path / "tied", byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False), size=VOCABULARY))
    llama(tmp_path / "tied", VOCABULARY, eos=2, attention_bias=True, tie_word_embeddings=True)
    problem = refused(tmp_path / "tied", adapter)
    assert (problem.code, "lm_head" in problem.evidence) == ("adapter.base", True)


def test_one_expert_of_a_stack_has_no_place(tmp_path: Path) -> None:
    folder, (config, modules, _) = tmp_path / "base", FAMILIES["Qwen3Moe"]
    save_tokenizer(folder, byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False), size=VOCABULARY))
    random_model(folder, "Qwen3Moe", VOCABULARY, num_hidden_layers=2, **config)
    adapter = make_adapter(folder, tmp_path / "lora", target_modules=modules)
    tensors = load_file(adapter / "adapter_model.safetensors")
    renamed = {name.replace("self_attn.o_proj", "mlp.experts.0.down_proj"): one for name, one in tensors.items()}
    save_file(renamed, adapter / "adapter_model.safetensors")
    problem = refused(folder, adapter)
    assert problem.code == "adapter.base"
    assert "experts.0.down_proj: the base's file has no weight matrix for this module alone" in problem.evidence
    assert "localtune export RUN --gguf" in problem.fix


def test_an_adapter_of_another_base_is_refused_with_the_base_it_names(base: Path, tmp_path: Path) -> None:
    adapter = make_adapter(base, tmp_path / "lora")
    save_tokenizer(tmp_path / "wide", byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False), size=VOCABULARY))
    llama(tmp_path / "wide", VOCABULARY, eos=2, hidden_size=32)
    problem = refused(tmp_path / "wide", adapter)
    assert problem.code == "adapter.base"
    assert str(base) in problem.fix
    assert "the base needs" in problem.evidence


@pytest.mark.parametrize(("value", "code"), [(np.nan, "adapter.not-finite"), (7e4, "adapter.overflow")])
def test_values_that_do_not_fit_are_named(base: Path, tmp_path: Path, value: float, code: str) -> None:
    adapter = make_adapter(base, tmp_path / "lora")
    tensors = load_file(adapter / "adapter_model.safetensors")
    name = next(name for name in tensors if "layers.1.self_attn.v_proj.lora_B" in name)
    tensors[name][0, 0] = value
    save_file(tensors, adapter / "adapter_model.safetensors")
    problem = refused(base, adapter, "F16")
    assert (problem.code, problem.where) == (code, "blk.1.attn_v.weight.lora_b")


def test_a_folder_that_is_not_there_leaves_nothing(base: Path, tmp_path: Path) -> None:
    adapter = make_adapter(base, tmp_path / "lora")
    with pytest.raises(OSError, match="No such file"):
        write_adapter(adapter, resolve(str(base), base, offline=True), tmp_path / "none" / "a.gguf", IDENTITY)
