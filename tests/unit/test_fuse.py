"""Fusing: what lies in the new folder is what peft's merge gives, transformers opens it, and nothing else changed."""

import json
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from localtune import fuse as fuse_module
from localtune.adapter import Lora
from localtune.errors import InputError, Problem
from localtune.fuse import Fused, copy_companions, fuse
from localtune.model import resolve
from localtune.model import weights as weights_module
from localtune.modelcard import model_card, stated_licence
from tests.material import material

LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
PRECISION = {"float32": 2.0**-24, "bfloat16": 2.0**-8, "float16": 2.0**-11}
"""Largest relative error of one rounding to nearest."""
KINDS: dict[str, dict[str, bool]] = {"lora": {}, "rslora": {"use_rslora": True}, "dora": {"use_dora": True}}


def make_base(folder: Path, dtype: str = "float32", *, tied: bool = False, layers: int = 2, **config: Any) -> Path:
    """A random Llama of several shards, with the files that lie beside weights."""
    torch.manual_seed(0)
    shape = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 4, **config}
    made = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(vocab_size=128, num_hidden_layers=layers, tie_word_embeddings=tied, **shape)
    )
    made.to(getattr(torch, dtype)).save_pretrained(folder, max_shard_size="100KB" if dtype == "float32" else "50KB")
    beside = {"tokenizer.json": "{}", "tokenizer_config.json": '{"a": 1}\n', "chat_template.jinja": "{{ 'é' }}",
              "LICENSE.txt": "free", "README.md": "of the base", "adapter_config.json": "{}"}  # fmt: skip
    for name, text in beside.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def peft_model(base: Path, **options: Any) -> Any:
    """A float32 copy of `base` with a random adapter."""
    loaded = transformers.AutoModelForCausalLM.from_pretrained(copy_of_model(base), dtype=torch.float32)
    options = {"r": 4, "lora_alpha": 12, "target_modules": LINEAR, "task_type": "CAUSAL_LM", **options}
    adapted = peft.get_peft_model(loaded, peft.LoraConfig(**options))
    torch.manual_seed(1)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
        if "magnitude" in name:
            parameter.data *= 1 + 0.1 * torch.rand_like(parameter)
    return adapted.eval()


def copy_of_model(base: Path) -> Path:
    """`base` without the adapter's file, which transformers would follow."""
    (base / "adapter_config.json").unlink(missing_ok=True)
    return base


def make_adapter(base: Path, folder: Path, **options: Any) -> dict[str, Any]:
    """Save a random adapter of `base` and return peft's own merge in float32."""
    adapted = peft_model(base, **options)
    adapted.save_pretrained(folder, save_embedding_layers=False)
    merged: dict[str, Any] = adapted.merge_and_unload().state_dict()
    return merged


def fused(base: Path, adapter: Path, dtype: Any = None) -> tuple[Path, Fused]:
    folder = base.with_name(f"fused{dtype or ''}")
    folder.mkdir()
    return folder, fuse(resolve(str(base), base, offline=True), adapter, folder, dtype)


def tensors_in(folder: Path) -> dict[str, Any]:
    return {name: tensor for path in folder.glob("*.safetensors") for name, tensor in load_file(path).items()}


def assert_merged(folder: Path, merged: Mapping[str, Any], dtype: str) -> None:
    """Every tensor in `folder` is that of `merged` within one rounding to `dtype` and float32's own error."""
    for name, tensor in tensors_in(folder).items():
        expected = merged[name].double()
        assert tensor.dtype == getattr(torch, dtype)
        error = (tensor.double() - expected).abs()
        assert bool((error <= PRECISION[dtype] * 1.001 * expected.abs() + 1e-6).all()), (name, float(error.max()))


@pytest.mark.parametrize("dtype", PRECISION)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_fused_weights_equal_pefts_merge(tmp_path: Path, dtype: str, kind: str, tied: bool) -> None:
    base = make_base(tmp_path / "base", dtype, tied=tied)
    merged = make_adapter(base, tmp_path / "adapter", **KINDS[kind])
    folder, done = fused(base, tmp_path / "adapter")
    assert_merged(folder, merged, dtype)
    assert len(done.modules) == 14
    assert 0.01 < done.largest_change < 10
    with pytest.raises(AssertionError):
        assert_merged(base, merged, dtype)


@pytest.mark.parametrize("block", [5 * 4 * 64, 16], ids=["five rows", "less than a row"])
@pytest.mark.parametrize("dtype", [None, "float32"])
def test_fused_weights_do_not_depend_on_the_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, dtype: str | None
) -> None:
    monkeypatch.setattr(weights_module, "BLOCK", block)
    base = make_base(tmp_path / "base", "bfloat16")
    merged = make_adapter(base, tmp_path / "adapter", use_dora=True)
    assert_merged(fused(base, tmp_path / "adapter", dtype)[0], merged, dtype or "bfloat16")


@pytest.mark.parametrize("stored", PRECISION)
@pytest.mark.parametrize("dtype", PRECISION)
def test_a_named_type_is_that_of_every_tensor_of_index_and_configuration(
    tmp_path: Path, stored: str, dtype: str
) -> None:
    base = make_base(tmp_path / "base", stored)
    merged = make_adapter(base, tmp_path / "adapter", target_modules=["q_proj", "down_proj"])
    before = json.loads((base / "config.json").read_text())
    before["note"] = "é \ud83d \u2028"
    (base / "config.json").write_text(json.dumps(before))
    folder, done = fused(base, tmp_path / "adapter", dtype)
    assert_merged(folder, merged, dtype)
    after = resolve(str(folder), tmp_path, offline=True)
    assert after.config.dtype == dtype
    assert done.size == after.size == after.parameters * (4 if dtype == "float32" else 2)
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    old = json.loads((base / "model.safetensors.index.json").read_text())
    assert index == {**old, "metadata": {**old["metadata"], "total_size": done.size}}
    config = (folder / "config.json").read_text()
    assert list(json.loads(config).items()) == list({**before, "dtype": dtype}.items())
    assert config == json.dumps(json.loads(config), indent=2) + "\n"
    if stored == dtype:
        same = fused(base, tmp_path / "adapter")[0]
        for path in folder.glob("*.safetensors"):
            assert path.read_bytes() == (same / path.name).read_bytes()


@pytest.mark.parametrize(("stated", "said"), [
    ({"torch_dtype": "float16"}, {"torch_dtype": "float32"}),
    ({"dtype": "float16", "torch_dtype": "float16"}, {"dtype": "float32", "torch_dtype": "float32"}),
    ({}, {"dtype": "float32"}),
], ids=str)  # fmt: skip
def test_the_type_is_stated_under_the_keys_that_are_there(
    tmp_path: Path, stated: dict[str, str], said: dict[str, str]
) -> None:
    base = make_base(tmp_path / "base", "float16")
    make_adapter(base, tmp_path / "adapter")
    config = json.loads((base / "config.json").read_text())
    del config["dtype"]
    (base / "config.json").write_text(json.dumps({**config, **stated}))
    folder, _ = fused(base, tmp_path / "adapter", "float32")
    assert json.loads((folder / "config.json").read_text()) == {**config, **said}


def test_other_types_than_weights_have_stay_as_they_are(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", max_position_embeddings=8)
    merged = make_adapter(base, tmp_path / "adapter")
    shard = base / json.loads((base / "model.safetensors.index.json").read_text())["weight_map"]["lm_head.weight"]
    save_file({**load_file(shard), "extra.ids": torch.arange(5)}, shard)
    folder, _ = fused(base, tmp_path / "adapter", "bfloat16")
    tensors = tensors_in(folder)
    assert torch.equal(tensors.pop("extra.ids"), torch.arange(5))
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
    assert set(tensors) == set(merged)


def test_a_weight_without_adapter_that_is_too_large_for_the_named_type_is_named(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base")
    make_adapter(base, tmp_path / "adapter")
    (shard,) = {path for path in base.glob("*.safetensors") if "model.norm.weight" in load_file(path)}
    save_file({**load_file(shard), "model.norm.weight": torch.full((64,), 1e6)}, shard)
    with pytest.raises(InputError, match=r"model\.norm\.weight  the weight 1e\+06 is too large for F16"):
        fused(base, tmp_path / "adapter", "float16")


def scaled_adapter(base: Path, folder: Path, factor: float, **options: Any) -> None:
    """A random adapter of `base` whose change is `factor` times the usual."""
    make_adapter(base, folder, **options)
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    save_file({name: tensor * factor if "lora_B" in name else tensor for name, tensor in tensors.items()}, path)


def test_a_change_that_rounding_loses_is_seen_and_float32_keeps_it(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", "bfloat16")
    scaled_adapter(base, tmp_path / "tiny", 1e-4)
    lost = fused(base, tmp_path / "tiny")[1]
    assert lost.kept < 0.1
    assert lost.kept_least[0] in lost.modules
    assert lost.kept_least[1] <= lost.kept
    kept = fused(base, tmp_path / "tiny", "float32")[1]
    assert (kept.kept, kept.kept_least[1]) == (1.0, 1.0)
    assert kept.largest_change == pytest.approx(lost.largest_change)


def test_a_change_much_larger_than_rounding_is_kept(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", "bfloat16")
    scaled_adapter(base, tmp_path / "adapter", 1.0)
    assert fused(base, tmp_path / "adapter")[1].kept == pytest.approx(1, abs=0.01)


def test_kept_is_the_share_of_the_change_that_the_files_hold(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", "bfloat16")
    scaled_adapter(base, tmp_path / "adapter", 0.001, target_modules=["q_proj", "up_proj"])
    rounded, done = fused(base, tmp_path / "adapter")
    exact, _ = fused(base, tmp_path / "adapter", "float32")
    before, whole, after = tensors_in(base), tensors_in(exact), tensors_in(rounded)
    sums = {}
    for module in done.modules:
        old = before[f"{module}.weight"].double()
        delta, survived = (tensors[f"{module}.weight"].double() - old for tensors in (whole, after))
        sums[module] = (float((survived * delta).sum()), float((delta * delta).sum()))
    assert 0.2 < done.kept < 0.98
    assert done.kept == pytest.approx(sum(a for a, _ in sums.values()) / sum(b for _, b in sums.values()))
    least = min(sums, key=lambda module: sums[module][0] / sums[module][1])
    assert done.kept_least[0] == least
    assert done.kept_least[1] == pytest.approx(sums[least][0] / sums[least][1])


def test_an_adapter_that_changes_nothing_loses_nothing(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", "bfloat16")
    scaled_adapter(base, tmp_path / "adapter", 0.0)
    done = fused(base, tmp_path / "adapter")[1]
    assert (done.kept, done.kept_least[1], done.largest_change) == (1.0, 1.0, 0.0)


def test_a_head_of_its_own_is_fused_too(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base")
    merged = make_adapter(base, tmp_path / "adapter", target_modules=["lm_head", "q_proj"])
    folder, done = fused(base, tmp_path / "adapter")
    assert "lm_head" in done.modules
    assert_merged(folder, merged, "float32")


def dropped_scale(weight: Any, a: Any, b: Any, scale: float, magnitude: Any = None) -> Any:
    return weight + b @ a


def transposed(weight: Any, a: Any, b: Any, scale: float, magnitude: Any = None) -> Any:
    change = scale * (b @ a)
    return weight + (change.T if change.shape[0] == change.shape[1] else change)


def swapped(weight: Any, a: Any, b: Any, scale: float, magnitude: Any = None) -> Any:
    square = len(weight) == a.shape[1]
    return weight + scale * (a.T @ b.T if square else b @ a)


def no_magnitude(weight: Any, a: Any, b: Any, scale: float, magnitude: Any = None) -> Any:
    return weight + scale * (b @ a)


def columns_normed(weight: Any, a: Any, b: Any, scale: float, magnitude: Any = None) -> Any:
    whole = weight + scale * (b @ a)
    return whole * (magnitude / np.linalg.norm(whole, axis=1).mean())[:, None]


WRONG: dict[str, tuple[str, Callable[..., Any]]] = {
    "scale dropped": ("lora", dropped_scale),
    "transposed": ("lora", transposed),
    "a and b swapped": ("lora", swapped),
    "no magnitude": ("dora", no_magnitude),
    "another norm": ("dora", columns_normed),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_a_wrong_formula_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mistake: str) -> None:
    kind, formula = WRONG[mistake]
    base = make_base(tmp_path / "base", "bfloat16")
    merged = make_adapter(base, tmp_path / "adapter", **KINDS[kind])
    monkeypatch.setattr(fuse_module, "fused_rows", formula)
    folder, _ = fused(base, tmp_path / "adapter")
    with pytest.raises(AssertionError):
        assert_merged(folder, merged, "bfloat16")


@pytest.mark.parametrize("dtype", PRECISION)
def test_rounding_to_another_type_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str) -> None:
    def wrong(values: Any, kind: str, name: str) -> Any:
        if kind == "BF16":
            return (values.view(np.uint32) >> 16).astype("<u2")  # cut off
        coarser = "F16" if kind == "F32" else "BF16"
        return weights_module.encode(weights_module.decode(weights_module.encode(values, coarser), coarser), kind)

    base = make_base(tmp_path / "base", dtype)
    merged = make_adapter(base, tmp_path / "adapter")
    monkeypatch.setattr(fuse_module, "encode", wrong)
    folder, _ = fused(base, tmp_path / "adapter")
    with pytest.raises(AssertionError):
        assert_merged(folder, merged, dtype)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_transformers_opens_it_with_the_logits_of_base_and_adapter(tmp_path: Path, kind: str, tied: bool) -> None:
    base = make_base(tmp_path / "base", tied=tied)
    adapted = peft_model(base, **KINDS[kind])
    adapted.save_pretrained(tmp_path / "adapter")
    folder, _ = fused(base, tmp_path / "adapter")
    opened = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    ids = torch.arange(40)[None] * 3
    with torch.no_grad():
        ours, theirs = opened(ids).logits, adapted(ids).logits
        assert float((ours - theirs).abs().max()) <= 1e-5
        with adapted.disable_adapter():
            assert float((ours - adapted(ids).logits).abs().max()) > 1e-2


def test_every_other_tensor_and_file_is_as_it_was(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", "bfloat16")
    make_adapter(base, tmp_path / "adapter", target_modules=["q_proj"])
    folder, done = fused(base, tmp_path / "adapter")
    before, after = (resolve(str(path), tmp_path, offline=True) for path in (base, folder))
    assert before.tensors == after.tensors
    assert len({tensor.shard for tensor in after.tensors}) > 2
    assert done.size == before.size
    ours, theirs = weights_module.Weights(after), weights_module.Weights(before)
    changed = {name for name in theirs if bytes(ours.raw(name)) != bytes(theirs.raw(name))}
    assert changed == {f"{module}.weight" for module in done.modules}
    files = {path.name for path in base.iterdir()} - {"README.md"}
    assert {path.name for path in folder.iterdir()} == files
    for name in files:
        assert name.endswith(".safetensors") or (folder / name).read_bytes() == (base / name).read_bytes(), name


def test_companions_are_known_in_any_case_and_readme_and_index_are_none(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    target.mkdir()
    wanted = ["License.txt", "license.md", "NOTICE", "Use_Policy.md", "tekken.json", "tokenizer.model.v3",
              "chat_template.jinja", "additional_chat_templates/tool_use.jinja"]  # fmt: skip
    others = ["README.md", "Readme.txt", "model.safetensors.index.json", "model.safetensors", "adapter_config.json",
              "optimizer.json", "modeling.py", "licenses/other.txt", "additional_chat_templates/run.py"]  # fmt: skip
    for name in wanted + others:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(name)
    (source / "license").mkdir()
    copy_companions(source, target)
    assert {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()} == set(wanted)


def test_companions_suit_weights_in_one_file_too(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base")
    save_file(tensors_in(base), tmp_path / "model.safetensors")
    copy_companions(base, tmp_path)
    assert len(resolve(str(tmp_path), tmp_path, offline=True).tensors) == len(tensors_in(base))


def test_the_change_is_that_of_the_module_that_changed_most(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base")
    merged = make_adapter(base, tmp_path / "adapter")
    before = tensors_in(base)
    changes = {name: float((merged[name] - before[name]).norm() / before[name].norm()) for name in before}
    _, done = fused(base, tmp_path / "adapter")
    most = max(changes, key=lambda name: changes[name])
    assert done.changed_most == most.removesuffix(".weight")
    assert done.largest_change == pytest.approx(changes[most], rel=1e-4)


@pytest.mark.material
def test_the_reference_adapter_comes_out_as_it_did_elsewhere(tmp_path: Path) -> None:
    stories = material("model-stories260K")
    reference = stories / "reference" / "peft-lora"
    expected = json.loads((reference / "expected.json").read_text(encoding="utf-8"))
    logits = load_file(reference / "expected_logits.safetensors")
    fuse(resolve(str(stories), tmp_path, offline=True), reference, tmp_path)
    opened = transformers.LlamaForCausalLM.from_pretrained(tmp_path).eval()
    ids = torch.tensor([expected["input_ids"]])
    with torch.no_grad():
        ours = opened(ids).logits[0]
        answer = opened.generate(ids, max_new_tokens=len(expected["merged"]), do_sample=False, eos_token_id=None)
    assert float((ours - logits["merged_logits"]).abs().max()) <= 1e-4
    assert answer[0, ids.shape[1] :].tolist() == expected["merged"]


def refusal(base: Path, adapter: Path) -> Problem:
    with pytest.raises(InputError) as caught:
        fused(base, adapter)
    assert not any(base.with_name("fused").iterdir()), "nothing is written before everything is known to fit"
    return caught.value.problems[0]


Q = "base_model.model.model.layers.0.self_attn.q_proj"


def drop_b(tensors: dict[str, Any]) -> None:
    del tensors[f"{Q}.lora_B.weight"]


def swap_halves(tensors: dict[str, Any]) -> None:
    a, b = f"{Q}.lora_A.weight", f"{Q}.lora_B.weight"
    tensors[a], tensors[b] = tensors[b], tensors[a]


def add_unknown(tensors: dict[str, Any]) -> None:
    tensors["base_model.model.lm_head.weight"] = torch.zeros(2)


def add_magnitude(tensors: dict[str, Any]) -> None:
    tensors[f"{Q}.lora_magnitude_vector"] = torch.zeros(64)


def add_module(tensors: dict[str, Any]) -> None:
    for half in ("A", "B"):
        tensors[f"{Q.replace('.0.', '.7.')}.lora_{half}.weight"] = tensors[f"{Q}.lora_{half}.weight"].clone()


def drop_module(tensors: dict[str, Any]) -> None:
    for half in ("A", "B"):
        del tensors[f"{Q}.lora_{half}.weight"]


def clear(tensors: dict[str, Any]) -> None:
    tensors.clear()


def whole_numbers(tensors: dict[str, Any]) -> None:
    tensors[f"{Q}.lora_A.weight"] = tensors[f"{Q}.lora_A.weight"].to(torch.int8)


def not_a_number(tensors: dict[str, Any]) -> None:
    tensors[f"{Q}.lora_A.weight"][1, 2] = torch.nan


def infinite(tensors: dict[str, Any]) -> None:
    tensors[f"{Q}.lora_B.weight"][1, 2] = -torch.inf


DAMAGES: list[tuple[Callable[[dict[str, Any]], None], str, str]] = [
    (drop_b, "adapter.unreadable", "layers.0.self_attn.q_proj has no lora_B.weight"),
    (add_unknown, "adapter.unreadable", "lm_head.weight (F32) is no part"),
    (add_magnitude, "adapter.unreadable", "lora_magnitude_vector (F32) is no part"),
    (whole_numbers, "adapter.unreadable", "lora_A.weight (I8) is no part"),
    (clear, "adapter.unreadable", "there are none"),
    (swap_halves, "adapter.base", "lora_A.weight is [64, 4], the base needs [4, 64]"),
    (add_module, "adapter.base", "layers.7.self_attn.q_proj: the base has no such weight matrix"),
    (drop_module, "adapter.base", "layers.0.self_attn.q_proj of the base has no adapter, though q_proj is a target"),
    (not_a_number, "adapter.not-finite", f"{Q}.lora_A.weight"),
    (infinite, "adapter.not-finite", f"{Q}.lora_B.weight"),
]


@pytest.mark.parametrize(("damage", "code", "evidence"), DAMAGES, ids=[case[0].__name__ for case in DAMAGES])
def test_an_adapter_that_does_not_fit_is_refused_by_name(
    tmp_path: Path, damage: Callable[[dict[str, Any]], None], code: str, evidence: str
) -> None:
    base = make_base(tmp_path / "base")
    make_adapter(base, tmp_path / "adapter")
    path = tmp_path / "adapter" / "adapter_model.safetensors"
    tensors = load_file(path)
    damage(tensors)
    save_file(tensors, path)
    problem = refusal(base, tmp_path / "adapter")
    assert problem.code == code
    assert problem.fix
    assert evidence in problem.evidence


@pytest.mark.parametrize(
    "other", [{"layers": 3}, {"layers": 1}, {"intermediate_size": 80}, {"hidden_size": 32}], ids=str
)
def test_an_adapter_of_another_base_is_refused_with_the_name_of_its_own(tmp_path: Path, other: dict[str, Any]) -> None:
    make_adapter(make_base(tmp_path / "mine"), tmp_path / "adapter")
    problem = refusal(make_base(tmp_path / "base", **other), tmp_path / "adapter")
    assert problem.code == "adapter.base"
    assert str(tmp_path / "mine") in problem.fix


def test_an_adapter_of_a_head_that_is_the_embedding_is_refused(tmp_path: Path) -> None:
    make_adapter(make_base(tmp_path / "mine"), tmp_path / "adapter", target_modules=["lm_head"])
    problem = refusal(make_base(tmp_path / "base", tied=True), tmp_path / "adapter")
    assert "the base's head is its embedding" in problem.evidence or "no such weight" in problem.evidence


def test_a_configuration_of_nonsense_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base")
    make_adapter(base, tmp_path / "adapter")
    (tmp_path / "adapter" / "adapter_config.json").write_text('{"r": 3.7}')
    assert refusal(base, tmp_path / "adapter").code.startswith("adapter.")


def test_an_adapter_without_weights_is_refused(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base")
    make_adapter(base, tmp_path / "adapter")
    (tmp_path / "adapter" / "adapter_model.safetensors").unlink()
    assert refusal(base, tmp_path / "adapter").where == "adapter_model.safetensors"


def test_a_quantised_base_is_refused_with_the_reason(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base")
    make_adapter(base, tmp_path / "adapter")
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "gptq"}}))
    problem = refusal(base, tmp_path / "adapter")
    assert (problem.code, "gptq" in problem.what) == ("fuse.quantized", True)


@pytest.mark.parametrize(("dtype", "value"), [("float16", 3e5), ("bfloat16", 2e38), ("float32", 2e38)])
def test_a_weight_too_large_for_its_type_is_named(tmp_path: Path, dtype: str, value: float) -> None:
    base = make_base(tmp_path / "base", dtype)
    make_adapter(base, tmp_path / "adapter")
    path = tmp_path / "adapter" / "adapter_model.safetensors"
    tensors = load_file(path)
    tensors[f"{Q}.lora_A.weight"][:, 0] = 1
    tensors[f"{Q}.lora_B.weight"][3] = value
    save_file(tensors, path)
    with pytest.raises(InputError) as caught:
        fused(base, tmp_path / "adapter")
    problem = caught.value.problems[0]
    assert (problem.code, problem.where) == ("weights.overflow", "model.layers.0.self_attn.q_proj.weight")
    assert problem.fix


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_base_that_is_not_finite_where_it_is_adapted_is_refused_by_name(tmp_path: Path, value: float) -> None:
    base = make_base(tmp_path / "base", "bfloat16")
    make_adapter(base, tmp_path / "adapter")
    name = "model.layers.0.self_attn.q_proj.weight"
    (shard,) = {path for path in base.glob("*.safetensors") if name in load_file(path)}
    tensors = load_file(shard)
    tensors[name][60, 3] = value
    save_file(tensors, shard)
    with pytest.raises(InputError, match=rf"{name}  the base's or the fused weight is not a finite number"):
        fused(base, tmp_path / "adapter")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_an_adapter_of_16_bits_is_fused_as_it_is(tmp_path: Path, dtype: torch.dtype) -> None:
    base = make_base(tmp_path / "base")
    make_adapter(base, tmp_path / "adapter")
    path = tmp_path / "adapter" / "adapter_model.safetensors"
    halved = {name: tensor.to(dtype) for name, tensor in load_file(path).items()}
    save_file(halved, path)
    folder, _ = fused(base, tmp_path / "adapter")
    a, b = (halved[f"{Q}.lora_{half}.weight"].float() for half in "AB")
    name = "model.layers.0.self_attn.q_proj.weight"
    torch.testing.assert_close(tensors_in(folder)[name], tensors_in(base)[name] + 3 * b @ a, atol=1e-6, rtol=1e-6)
    assert Lora(4, 12).scale == 3


def test_a_full_disk_is_the_callers_to_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: Any, piece: Any) -> int:
        raise OSError(28, "No space left on device")

    base = make_base(tmp_path / "base")
    make_adapter(base, tmp_path / "adapter")
    monkeypatch.setattr(weights_module, "_write", full)
    with pytest.raises(OSError, match="No space left"):
        fused(base, tmp_path / "adapter")


def make_large(folder: Path, rows: int, columns: int, layers: int) -> tuple[Path, Path]:
    """A BF16 model of zeros that takes no room on disk, [rows, columns] a layer, and an adapter of rank 8."""
    base, adapter = folder / "base", folder / "adapter"
    base.mkdir()
    adapter.mkdir()
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "num_hidden_layers": layers,
              "hidden_size": columns, "intermediate_size": rows, "num_attention_heads": 2, "vocab_size": 16,
              "max_position_embeddings": 32, "tie_word_embeddings": True, "dtype": "bfloat16"}  # fmt: skip
    (base / "config.json").write_text(json.dumps(config))
    names = [f"model.layers.{layer}.mlp.up_proj" for layer in range(layers)]
    size = 2 * rows * columns
    header = {f"{name}.weight": {"dtype": "BF16", "shape": [rows, columns], "data_offsets": [n * size, n * size + size]}
              for n, name in enumerate(names)}  # fmt: skip
    text = json.dumps(header).encode()
    with (base / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + layers * size)
    halves = {f"base_model.model.{name}.lora_A.weight": torch.ones(8, columns) for name in names}
    halves |= {f"base_model.model.{name}.lora_B.weight": torch.ones(rows, 8) for name in names}
    save_file(halves, adapter / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "r": 8, "lora_alpha": 8, "target_modules": ["up_proj"]}
    (adapter / "adapter_config.json").write_text(json.dumps(settings))
    return base, adapter


def test_memory_is_that_of_a_few_blocks_whatever_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base, adapter = make_large(tmp_path, 4096, 512, 4)

    def peak(folder: Path) -> int:
        folder.mkdir()
        model = resolve(str(base), tmp_path, offline=True)
        tracemalloc.start()
        fuse(model, adapter, folder)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    block, whole = 1 << 18, 4 * 4096 * 512
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setattr(fuse_module, "AT_ONCE", block // 16)
    monkeypatch.setattr(weights_module, "BLOCK", block)
    assert peak(tmp_path / "in blocks") < 10 * block
    monkeypatch.setattr(weights_module, "BLOCK", whole)
    monkeypatch.setattr(fuse_module, "AT_ONCE", whole // 4)
    assert peak(tmp_path / "at once") > whole


LIMITED = """
import resource, sys
from pathlib import Path
from localtune import fuse as fusing
from localtune.fuse import fuse
from localtune.model import resolve, weights
resource.setrlimit(resource.RLIMIT_DATA, (10**9, 10**9))
weights.BLOCK *= int(sys.argv[4])
fusing.AT_ONCE *= int(sys.argv[4])
print(fuse(resolve(sys.argv[1], Path(), offline=True), Path(sys.argv[2]), Path(sys.argv[3])).largest_change)
"""
"""RLIMIT_DATA counts private writable memory, not mapped files: the system itself refuses more than 1 GB."""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the limit counts anonymous memory on Linux only")
def test_a_model_of_2_gb_is_fused_in_less_than_1_gb(tmp_path: Path) -> None:
    base, adapter = make_large(tmp_path, 32768, 8192, 4)
    for times, enough in ((1, True), (1024, False)):
        target = tmp_path / f"fused{times}"
        target.mkdir()
        arguments = [sys.executable, "-c", LIMITED, str(base), str(adapter), str(target), str(times)]
        child = subprocess.run(arguments, capture_output=True, text=True, check=False)
        assert (child.returncode == 0) is enough, child.stderr
        assert enough or "MemoryError" in child.stderr


def card(**changes: Any) -> str:
    settings: dict[str, Any] = {
        "name": "support-bot", "base": "Qwen/Qwen3-0.6B", "revision": "0123abc", "method": "LoRA",
        "licence": {"license": "apache-2.0"}, "recipe": {"rank": 16, "learning rate": 2e-4},
        "measured": {"validation loss": 1.2345678}, "versions": {"localtune": "0.1.0"},
    }  # fmt: skip
    return model_card(**{**settings, **changes})


def head_of(text: str, folder: Path) -> dict[str, Any]:
    import huggingface_hub

    (folder / "README.md").write_text(text, encoding="utf-8")
    found: dict[str, Any] = huggingface_hub.ModelCard.load(folder / "README.md").data.to_dict()
    return found


def test_the_card_names_base_revision_licence_settings_and_figures(tmp_path: Path) -> None:
    text = card()
    assert head_of(text, tmp_path) == {
        "base_model": "Qwen/Qwen3-0.6B", "base_model_relation": "finetune", "library_name": "transformers",
        "pipeline_tag": "text-generation", "license": "apache-2.0", "tags": ["lora", "sft", "localtune"],
    }  # fmt: skip
    for part in ("revision 0123abc", "| rank | 16 |", "| learning rate | 0.0002 |", "| validation loss | 1.23457 |"):
        assert part in text


def test_a_base_that_is_a_folder_is_no_hub_id_and_its_path_stays_private(tmp_path: Path) -> None:
    text = card(base="/home/jane/models/gpt2", revision=None)
    assert not head_of(text, tmp_path).keys() & {"base_model", "base_model_relation"}
    assert "jane" not in text
    assert "the folder gpt2" in text


def test_no_value_can_break_out_of_its_cell(tmp_path: Path) -> None:
    text = card(name="a\n---\n# b", recipe={"system|x": "<script>\n\n# head\n|y|"}, licence={"license": "x: [y"})
    assert head_of(text, tmp_path)["license"] == "x: [y"
    assert "| system\\|x | \\<script\\> \\# head \\|y\\| |" in text
    assert "\n# b" not in text


@pytest.mark.parametrize(
    ("readme", "stated"),
    [
        ("---\nlicense: mit\nlanguage: [en]\n---\n# x", {"license": "mit"}),
        ("\ufeff---\r\nlicense: other\r\nlicense_name: own\r\n---\r\nx", {"license": "other", "license_name": "own"}),
        ("---\nlicense: [mit, apache-2.0]\n---", {"license": ["mit", "apache-2.0"]}),
        ("---\nlicense: 5\n---\n", {}),
        ("---\nlicense: {a: b}\n---\n", {}),
        ("---\nlicense: *x\n---\n", {}),
        ("---\n- license\n---\n", {}),
        ("---\nlicense: mit\n", {}),
        ("# title\n\n---\nlicense: mit\n---\n", {}),
        ("---\nlicense: " + "x" * 500 + "\n---\n", {}),
        ("---\nx: " + "[" * 100_000 + "\n---\n", {}),
        ("---\n---\n", {}),
        ("", {}),
    ],
)
def test_a_licence_is_taken_only_where_a_head_states_it(tmp_path: Path, readme: str, stated: dict[str, Any]) -> None:
    assert stated_licence(tmp_path) == {}
    (tmp_path / "README.md").write_bytes(readme.encode())
    assert stated_licence(tmp_path) == stated


def test_bytes_that_are_no_text_state_no_licence(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_bytes(b"---\nlicense: \xff\x00\n---\n")
    assert stated_licence(tmp_path) == {}
