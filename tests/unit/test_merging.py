"""Merged adapters: what they change is the weighted sum, TIES or DARE of what their sources change, as peft has it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import peft
import pytest
import torch
import transformers
from safetensors.numpy import load_file, save_file

from localtune.adapter import read_peft_config, read_updates
from localtune.errors import InputError
from localtune.fuse import fuse
from localtune.merging import merge
from localtune.model import resolve
from localtune.runs.files import is_complete
from tests.command import Command

Array = npt.NDArray[np.float32]
KINDS: dict[str, dict[str, Any]] = {
    "x": {"r": 4, "lora_alpha": 12, "target_modules": ["q_proj", "v_proj"]},
    "y": {"r": 6, "lora_alpha": 9, "use_rslora": True, "target_modules": ["q_proj", "down_proj"]},
}


def make_base(folder: Path) -> Path:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=4,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("merging") / "base")


def model_with(base: Path, kinds: dict[str, dict[str, Any]]) -> Any:
    """A peft model that holds random adapters of these names."""
    loaded = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model: Any = None
    for number, (name, options) in enumerate(kinds.items()):
        config = peft.LoraConfig(task_type="CAUSAL_LM", **options)
        if model is None:
            model = peft.get_peft_model(loaded, config, adapter_name=name)
        else:
            model.add_adapter(name, config)
        torch.manual_seed(10 + number)
        for key, parameter in model.named_parameters():
            if f"lora_B.{name}" in key:
                torch.nn.init.normal_(parameter, std=0.05)
            if f"lora_magnitude_vector.{name}" in key:
                parameter.data *= 1.1
    return model


def saved(base: Path, folder: Path, kinds: dict[str, dict[str, Any]]) -> tuple[Any, list[Path]]:
    model = model_with(base, kinds)
    model.save_pretrained(folder)
    return model, [folder / name for name in kinds]


def deltas(folder: Path) -> dict[str, Array]:
    """What the adapter changes, by module."""
    lora = read_peft_config(folder)
    updates, weights = read_updates(folder, lora)
    whole = {name: weights.rows(name, 0, weights[name].shape[0]) for name in weights}
    return {module: np.float32(lora.scale) * (whole[u.b] @ whole[u.a]) for module, u in updates.items()}


def pefts(model: Any, name: str) -> dict[str, Array]:
    """What peft says an adapter changes."""
    found = {}
    for key, layer in model.named_modules():
        if hasattr(layer, "get_delta_weight") and name in layer.lora_A:
            found[key.removeprefix("base_model.model.")] = layer.get_delta_weight(name).detach().numpy()
    return found


def assert_same(one: dict[str, Array], other: dict[str, Array], tolerance: float = 1e-6) -> None:
    assert one.keys() == other.keys()
    for module, delta in one.items():
        np.testing.assert_allclose(delta, other[module], atol=tolerance, rtol=1e-4, err_msg=module)


def test_linear_is_pefts_exact_concatenation_of_other_ranks_scales_and_targets(base: Path, tmp_path: Path) -> None:
    model, folders = saved(base, tmp_path, KINDS)
    model.add_weighted_adapter(["x", "y"], [0.7, -0.4], "both", combination_type="cat")
    done = merge(folders, tmp_path / "out", weights=[0.7, -0.4])
    assert (done.rank, done.kept) == (10, 1.0)
    assert len(done.modules) == 6
    assert_same(deltas(tmp_path / "out"), pefts(model, "both"))
    other = merge(folders, tmp_path / "other", weights=[0.7, 0.4])
    assert other.modules == done.modules
    with pytest.raises(AssertionError):
        assert_same(deltas(tmp_path / "other"), pefts(model, "both"))


def test_a_lower_rank_is_pefts_svd_and_what_is_lost_is_told(base: Path, tmp_path: Path) -> None:
    model, folders = saved(base, tmp_path, KINDS)
    model.add_weighted_adapter(["x", "y"], [0.5, 0.5], "both", combination_type="svd", svd_rank=3)
    done = merge(folders, tmp_path / "out", rank=3)
    found, exact = deltas(tmp_path / "out"), pefts(model_sum(model), "sum")
    assert_same(found, pefts(model, "both"), 1e-5)
    kept = {m: 1 - np.sum((exact[m] - found[m]) ** 2) / np.sum(exact[m] ** 2) for m in exact}
    least = min(kept, key=lambda module: kept[module])
    assert done.kept_least[0] == least
    assert done.kept_least[1] == pytest.approx(kept[least], abs=1e-5)
    assert 0.1 < done.kept < 0.999


def model_sum(model: Any) -> Any:
    model.add_weighted_adapter(["x", "y"], [0.5, 0.5], "sum", combination_type="cat")
    return model


@pytest.mark.parametrize("density", [0.3, 0.8])
def test_ties_is_pefts(base: Path, tmp_path: Path, density: float) -> None:
    model, folders = saved(base, tmp_path, KINDS)
    arguments = {"combination_type": "ties_svd", "svd_rank": 32, "density": density}
    model.add_weighted_adapter(["x", "y"], [1.0, 0.5], "both", **arguments)
    done = merge(folders, tmp_path / "out", how="ties", weights=[1, 0.5], density=density, rank=32)
    assert done.kept == pytest.approx(1, abs=1e-6)
    assert_same(deltas(tmp_path / "out"), pefts(model, "both"), 1e-5)
    merge(folders, tmp_path / "other", how="ties", weights=[1, 0.5], density=density + 0.05, rank=32)
    with pytest.raises(AssertionError):
        assert_same(deltas(tmp_path / "other"), pefts(model, "both"), 1e-5)


def test_dare_keeps_the_sum_on_average_drops_its_share_and_repeats_itself(base: Path, tmp_path: Path) -> None:
    _, folders = saved(base, tmp_path, KINDS)
    for name, seed in (("one", 1), ("again", 1), ("two", 2)):
        merge(folders, tmp_path / name, how="dare", weights=[1, 1], density=0.25, seed=seed, rank=32)
    one, again, two = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("one", "again", "two"))
    assert all(np.array_equal(one[key], again[key]) for key in one)
    assert not all(np.array_equal(one[key], two[key]) for key in one)
    whole = merge(folders, tmp_path / "all", how="dare", weights=[1, 1], density=1, rank=32)
    assert whole.kept == pytest.approx(1, abs=1e-6)
    merge(folders, tmp_path / "linear", weights=[1, 1])
    assert_same(deltas(tmp_path / "all"), deltas(tmp_path / "linear"), 1e-6)


def test_the_result_is_a_whole_adapter_that_peft_loads_and_fuse_takes(base: Path, tmp_path: Path) -> None:
    _, folders = saved(base, tmp_path, KINDS)
    merge(folders, tmp_path / "out")
    assert is_complete(tmp_path / "out", verify=True)
    loaded = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    adapted = peft.PeftModel.from_pretrained(loaded, tmp_path / "out")
    assert_same(pefts(adapted, "default"), deltas(tmp_path / "out"))
    (tmp_path / "fused").mkdir()
    done = fuse(resolve(str(base), base, offline=True), tmp_path / "out", tmp_path / "fused")
    assert len(done.modules) == 6
    card = (tmp_path / "out" / "README.md").read_text("utf-8")
    for part in ("library_name: peft", "merging 2 adapters (linear)", "| weights | 0.5, 0.5 |", "| rank | 10 |"):
        assert part in card
    assert str(tmp_path) not in card


def refused(adapters: Sequence[Path], folder: Path, **options: Any) -> list[str]:
    with pytest.raises(InputError) as caught:
        merge(adapters, folder, **options)
    assert not folder.exists()
    assert not list(folder.parent.glob("*.partial"))
    return [problem.code for problem in caught.value.problems]


def changed(folder: Path, **keys: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))


def test_what_does_not_belong_together_is_refused_by_name(base: Path, tmp_path: Path) -> None:
    kinds = KINDS | {"dora": {"r": 4, "use_dora": True, "target_modules": ["q_proj"]}}
    _, (a, b, dora) = saved(base, tmp_path, kinds)
    out = tmp_path / "out"
    assert refused([a, tmp_path / "gone"], out) == ["model.json"]
    assert refused([a, dora], out) == ["merge.dora"]
    assert refused([a], out) == ["merge.few"]
    bad: dict[str, Any] = {"weights": [1], "how": "ties", "density": 0.0, "rank": 0}
    assert refused([a, b], out, **bad) == ["merge.weights", "merge.density", "merge.rank"]
    assert refused([a, b], out, how="dare", density=float("nan")) == ["merge.density"]
    assert refused([a, b], out, weights=[1, float("inf")]) == ["merge.weights"]
    changed(b, base_model_name_or_path="other/model")
    assert refused([a, b], out) == ["merge.base"]
    changed(b, base_model_name_or_path=json.loads((a / "adapter_config.json").read_text())["base_model_name_or_path"])
    changed(a, revision="1" * 40)
    changed(b, revision="2" * 40)
    assert refused([a, b], out) == ["merge.base"]


def test_a_base_is_the_same_by_its_hub_id_and_by_its_folder(base: Path, tmp_path: Path) -> None:
    _, (a, b) = saved(base, tmp_path, KINDS)
    changed(a, base_model_name_or_path=f"/models/{base.name}")
    changed(b, base_model_name_or_path=f"org/{base.name}", revision="1" * 40)
    merge([a, b], tmp_path / "out")
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == (f"org/{base.name}", "1" * 40)
    changed(a, base_model_name_or_path=f"other/{base.name}")
    assert refused([a, b], tmp_path / "more") == ["merge.base"]


def test_other_shapes_and_values_that_are_no_numbers_are_refused_by_name(base: Path, tmp_path: Path) -> None:
    _, (a, b) = saved(base, tmp_path, KINDS)
    weights = load_file(b / "adapter_model.safetensors")
    name = next(key for key in weights if "q_proj.lora_A" in key)
    save_file(weights | {name: np.zeros((6, 16), np.float32)}, b / "adapter_model.safetensors")
    assert refused([a, b], tmp_path / "out") == ["merge.shape"]
    save_file(weights | {name: np.full((6, 32), np.nan, np.float32)}, b / "adapter_model.safetensors")
    assert refused([a, b], tmp_path / "out") == ["merge.not-finite"]
    save_file(weights | {name: np.zeros((5, 32), np.float32)}, b / "adapter_model.safetensors")
    assert refused([a, b], tmp_path / "out") == ["merge.shape"]


@pytest.mark.parametrize("rank", [None, 2])
@pytest.mark.parametrize("weights", [(0.5, -0.5), (0.0, 0.0), (1e-30, -1e-30)])
def test_adapters_that_cancel_each_other_out_are_refused(
    base: Path, tmp_path: Path, weights: tuple[float, float], rank: int | None
) -> None:
    _, (a, b) = saved(base, tmp_path, KINDS)
    assert refused([a, a], tmp_path / "out", weights=weights, rank=rank) == ["merge.nothing"]
    if any(weights):
        assert merge([a, b], tmp_path / "two", weights=weights, rank=rank).kept > 0.1
        assert merge([a, a], tmp_path / "most", weights=(weights[0], 0.999 * weights[1]), rank=rank).kept > 0.1


def test_three_weights_whose_rounded_sum_is_0_cancel_out_too(base: Path, tmp_path: Path) -> None:
    _, (a, _) = saved(base, tmp_path, KINDS)
    assert sum(float(np.float32(weight)) for weight in (0.1, 0.2, -0.3)) != 0
    for rank in (None, 4):
        assert refused([a, a, a], tmp_path / "out", weights=(0.1, 0.2, -0.3), rank=rank) == ["merge.nothing"]


def test_adapters_that_learned_nothing_are_refused(base: Path, tmp_path: Path) -> None:
    _, folders = saved(base, tmp_path, KINDS)
    for folder in folders:
        path = folder / "adapter_model.safetensors"
        save_file({key: value * ("lora_A" in key) for key, value in load_file(path).items()}, path)
    for how in ("linear", "ties", "dare"):
        assert refused(folders, tmp_path / "out", how=how) == ["merge.nothing"]


def test_a_density_near_0_keeps_the_largest_value_and_drops_all_by_chance(base: Path, tmp_path: Path) -> None:
    _, folders = saved(base, tmp_path, KINDS)
    merge(folders, tmp_path / "out", how="ties", density=1e-6)
    assert {np.count_nonzero(np.abs(delta) > 1e-9) for delta in deltas(tmp_path / "out").values()} <= {1, 2}
    assert refused(folders, tmp_path / "none", how="dare", density=1e-6) == ["merge.nothing"]


@pytest.mark.parametrize("options", [{}, {"rank": 2}, {"how": "ties"}, {"how": "dare", "density": 1e-320}])
def test_a_change_beyond_float32_is_refused(base: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    _, folders = saved(base, tmp_path, KINDS)
    assert refused(folders, tmp_path / "out", weights=[1, 1e300], **options) == ["merge.not-finite"]


def test_a_folder_that_is_there_is_left_alone(base: Path, tmp_path: Path) -> None:
    _, folders = saved(base, tmp_path, KINDS)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    with pytest.raises(InputError, match=r"merge\.exists"):
        merge(folders, tmp_path / "out")
    assert (tmp_path / "out" / "mine").read_text() == "mine"


def test_the_command_merges_and_says_what_is_left(base: Path, tmp_path: Path, localtune: Command) -> None:
    _, folders = saved(base, tmp_path, KINDS)
    made = localtune("merge", *folders, "-o", tmp_path / "out", "--how", "ties", "--density", "0.4", "--json")
    assert made.code == 0, made.err
    assert made.json()["rank"] == 6
    assert 0 < made.json()["kept"] < 1
    again = localtune("merge", *folders, "-o", tmp_path / "out")
    assert (again.code, again.err.splitlines()[0][:19]) == (2, "error[merge.exists]")
    wrong = localtune("merge", *folders, "-o", tmp_path / "out2", "--weights", "1,x")
    assert (wrong.code, "error[merge.weights]" in wrong.err) == (2, True)
    linear = localtune("merge", *folders, "-o", tmp_path / "out3", "--weights", "1,1")
    assert "nothing was cut" in linear.err
    cut = localtune("merge", *folders, "-o", tmp_path / "out4", "--rank", "1")
    assert "a higher --rank keeps more" in cut.err
    (tmp_path / "file").touch()
    nowhere = localtune("merge", *folders, "-o", tmp_path / "file" / "out")
    assert (nowhere.code, "error[product.system]" in nowhere.err, "Traceback" in nowhere.err) == (3, True, False)
