"""What is said of the difference between the backends: only what applies, in words, and of each what it refuses."""

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from localtune.backend import Device, Refusal
from localtune.model import ModelFiles
from localtune.plan import make_plan
from localtune.portability import Side, comparison, differences, portability_lines
from localtune.settings import Recipe
from tests.command import QUICKSTART, Command
from tests.unit.shapes import GB, big_model, prepared, recipe

TORCH = Device("torch", "cuda", "a card", 80 * GB, ("bfloat16", "float32"), {}, "for the test")
MLX = replace(TORCH, backend="mlx", kind="metal", name="a Mac")
GONE = Device("mlx", "none", "", 0, (), {}, "the mlx backend is not installed: No module named 'mlx'")


def _sides(asked: Recipe, *devices: Device, model: ModelFiles | None = None) -> list[Side]:
    files, rows = model or big_model(), prepared()
    return [Side(d, None if d.kind == "none" else make_plan(asked, files, rows, d)) for d in devices]


def _rows(asked: Recipe, *devices: Device, model: ModelFiles | None = None) -> dict[str, dict[str, str]]:
    sides = _sides(asked, *devices, model=model)
    return {row.what: row.texts for row in differences(asked, model or big_model(), sides)}


def test_the_quantisers_of_qlora_differ_and_those_of_lora_do_not_exist() -> None:
    base = _rows(recipe(method="qlora"), TORCH, MLX)["base"]
    assert base["torch"].startswith("NF4")
    assert base["mlx"].startswith("affine4: 4 bits")
    assert "base" not in _rows(recipe(method="lora"), TORCH, MLX)
    assert "base" not in _rows(recipe(method="full"), TORCH, MLX)


@pytest.mark.parametrize("name", ["affine2", "affine8", "mxfp4", "nvfp4", "mxfp8"])
def test_a_named_quantiser_is_said_by_its_name(name: Any) -> None:
    asked = recipe(method="qlora", quantize=name)
    lines = "\n".join(portability_lines(asked, big_model(), _sides(asked, MLX, replace(TORCH, dtypes=("float32",)))))
    assert "base" not in lines  # both would store it alike; that PyTorch has no such quantiser is its refusal


def test_compute_types_and_repeatability_are_those_of_the_devices() -> None:
    rows = _rows(recipe(), replace(TORCH, kind="cpu", dtypes=("float32",)), MLX)
    assert rows["computes"] == {"torch": "in float32 on a card", "mlx": "in bfloat16 on a Mac"}
    assert rows["repeated"]["torch"] == "the same bit for bit"
    assert "last digits" in rows["repeated"]["mlx"]
    assert "repeated" not in _rows(recipe(), TORCH, MLX)


def test_dropout_is_a_row_only_where_there_is_some() -> None:
    some = recipe().model_copy(update={"lora": recipe().lora.model_copy(update={"dropout": 0.1})})
    assert "dropout" in _rows(some, TORCH, MLX)
    assert "dropout" not in _rows(recipe(), TORCH, MLX)


def test_soft_capped_scores_are_written_out_on_both_sides() -> None:
    model = big_model()
    gemma = replace(model, config=replace(model.config, model_type="gemma2"))
    assert "attention" in _rows(recipe(), TORCH, MLX)
    assert "attention" not in _rows(recipe(), TORCH, MLX, model=gemma)


def test_what_a_backend_that_is_not_here_would_refuse_is_said_to_be_unknown() -> None:
    asked = recipe()
    lines = list(portability_lines(asked, big_model(), _sides(asked, TORCH, GONE)))
    assert sum(line.startswith("mlx") for line in lines) == 1
    assert "cannot be used here, so what it refuses is not known" in " ".join(" ".join(lines).split())
    assert any("fix: " in line and "mlx" in line for line in lines)
    found = comparison(asked, big_model(), _sides(asked, TORCH, GONE))
    assert [entry["usable"] for entry in found["backends"]] == [True, False]
    assert found["backends"][1]["refusals"] is None


def test_every_refusal_stands_with_its_fix() -> None:
    asked = recipe()
    (torch, mlx) = _sides(asked, TORCH, MLX)
    mlx = replace(mlx, refusals=(Refusal("data.max_tokens", "too long", "--set data.max_tokens=512"),
                                 Refusal("model", "unknown")))  # fmt: skip
    text = "\n".join(portability_lines(asked, big_model(), [torch, mlx]))
    assert "refuses data.max_tokens: too long" in text
    assert "fix: --set data.max_tokens=512" in text
    assert "fix: change model" in text
    assert text.count("refuses nothing of this recipe") == 1


def test_no_line_is_wider_than_a_terminal_and_what_goes_on_stands_beneath_its_text() -> None:
    reason = "mlx-lm ignores this model's sliding window of 4,096 tokens, so longer texts would differ"
    refusals = (Refusal("data.max_tokens", reason, "--set data.max_tokens=4096   or   name another model with -m"),)
    for asked in (recipe(method="qlora"), recipe(optimizer="adafactor")):
        torch, mlx, gone = _sides(asked, TORCH, MLX, GONE)
        lines = list(portability_lines(asked, big_model(), [torch, replace(mlx, refusals=refusals), gone]))
        assert max(map(len, lines)) <= 80
        whole = " ".join(" ".join(lines).split())
        assert f"refuses data.max_tokens: {reason}" in whole
        assert "NF4: 4 bits on the quantiles of a normal distribution, a scale per 64 weights" in whole or (
            asked.train.method != "qlora"
        )
        at = next(i for i, line in enumerate(lines) if line.startswith("           refuses data.max_tokens"))
        assert lines[at + 1].startswith(" " * 19 + "of 4,096 tokens")


def test_a_word_longer_than_a_line_is_never_broken() -> None:
    path = "/".join(["folder"] * 20)
    asked = recipe()
    lines = list(portability_lines(asked, big_model(), _sides(asked, replace(GONE, reason=f"no {path}"))))
    assert any(path in line for line in lines)


def test_true_probes_answer_for_the_quickstart(localtune: Command) -> None:
    said = localtune("plan", QUICKSTART / "qlora.yaml", "--explain-backends", "--json")
    assert said.code == 0, said.err
    assert list(localtune.runs.iterdir()) == []
    found = said.json()
    usable = {entry["name"]: entry["usable"] for entry in found["backends"]}
    for name, library in (("torch", "torch"), ("mlx", "mlx")):
        assert usable[name] == (importlib.util.find_spec(library) is not None)
    rows = {row["what"]: row["texts"] for row in found["differences"]}
    assert {name: text.partition(":")[0] for name, text in rows["base"].items()} == {"torch": "NF4", "mlx": "affine4"}
    if usable["torch"]:
        (torch,) = [entry for entry in found["backends"] if entry["name"] == "torch"]
        assert torch["precision"]["storage"] == "nf4"


def test_a_quantiser_that_a_backend_lacks_is_its_refusal(localtune: Command) -> None:
    arguments: list[str | Path] = [QUICKSTART / "qlora.yaml", "--set", "train.quantize=affine4"]
    said = localtune("plan", *arguments, "--explain-backends")
    assert said.code == 0
    if importlib.util.find_spec("torch") is not None:
        torch = said.out[said.out.index("torch  ") : said.out.index("what differs")].partition("\nmlx")[0]
        assert "refuses train." in torch
        assert "affine4" in torch
        assert localtune("plan", *arguments, "--backend", "torch").code == 2
