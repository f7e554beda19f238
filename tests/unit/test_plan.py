"""The plan: exact where it can be, and what does not fit is refused with settings that do."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from localtune.adapter import Full, Lora
from localtune.backend import Device, Precision
from localtune.errors import ResourceError
from localtune.memory import Load, memory_items, trainable_count
from localtune.model import resolve
from localtune.plan import Plan, check_fits, from_json, make_plan
from localtune.sizes import readable
from tests.command import MODEL
from tests.unit.shapes import GB, HIDDEN, VOCABULARY, big_model, prepared, recipe

DEVICE = Device("torch", "cuda", "a card", 8 * GB, ("bfloat16", "float32"), {}, "for the test")


def _plan(device: Device = DEVICE, **train: object) -> Plan:
    return make_plan(recipe(**train), big_model(), prepared(), device)


def test_steps_follow_from_rows_batch_and_epochs() -> None:
    plan = _plan(batch_size=8, epochs=2)
    assert plan.schedule.steps == 2 * 13
    assert plan.epochs == 2.0
    assert plan.tokens == 90_000


def test_adapter_and_base_are_counted_exactly() -> None:
    model = resolve(str(MODEL), Path())
    lora = Lora(16, 32)
    with safe_open(MODEL / "model.safetensors", "np") as file:
        shapes = [file.get_slice(name).get_shape() for name in file.keys() if "_proj" in name]  # noqa: SIM118
    assert trainable_count(model, lora) == sum(16 * (rows + columns) for rows, columns in shapes)
    assert trainable_count(model, Full()) == model.parameters
    items = {
        item.name: item.size
        for item in memory_items(model, lora, Precision("bfloat16", "bfloat16"), DEVICE, Load(1, 8, 8, False))
    }
    assert items["base weights"] == 2 * model.parameters
    assert items["what trains"] == 16 * trainable_count(model, lora)


def test_every_item_says_its_arithmetic() -> None:
    for item in _plan().memory:
        assert item.why
        assert item.name


def test_it_takes_as_many_rows_as_fit_and_recomputes_only_when_it_must() -> None:
    roomy = _plan(replace(DEVICE, memory_limit=100 * GB))
    assert (roomy.rows, roomy.checkpointing) == (8, "none")
    tight = _plan(replace(DEVICE, memory_limit=9 * GB))
    assert tight.checkpointing == "blocks"
    assert tight.fits


def test_what_does_not_fit_is_refused_with_settings_that_do() -> None:
    device = replace(DEVICE, memory_limit=4 * GB)
    asked, model, rows = recipe(), big_model(), prepared()
    plan = make_plan(asked, model, rows, device)
    assert not plan.fits
    with pytest.raises(ResourceError, match=r"needs .* GB, 3\.60 GB may be used") as caught:
        check_fits(plan, asked, model, rows, disk_free=100 * GB)
    fix = caught.value.problems[0].fix
    assert "--set train.method=qlora" in fix
    fixed = make_plan(recipe(method="qlora"), model, rows, device)
    assert fixed.fits
    assert f"({readable(fixed.memory_needed)})" in fix


def test_a_full_disk_is_refused_with_the_bytes_needed() -> None:
    asked, model, rows = recipe(), big_model(), prepared()
    plan = _plan(replace(DEVICE, memory_limit=80 * GB))
    with pytest.raises(ResourceError, match="of disk"):
        check_fits(plan, asked, model, rows, disk_free=plan.disk - 1)
    check_fits(plan, asked, model, rows, disk_free=plan.disk)


def test_a_limit_in_therecipe_wins_over_the_devices() -> None:
    assert _plan(memory_limit="3GB").memory_limit == 3 * GB


def test_four_bits_take_a_quarter_of_sixteen() -> None:
    sixteen, four = (
        next(item.size for item in _plan(method=method).memory if item.name == "base weights")
        for method in ("lora", "qlora")
    )
    kept = 2 * VOCABULARY * HIDDEN
    assert (four - kept) / (sixteen - kept) == pytest.approx(0.516 / 2, rel=1e-3)


def test_on_a_gpu_libraries_are_planned_but_not_measured() -> None:
    for backend, kind in (("torch", "cuda"), ("mlx", "metal"), ("mlx", "cpu")):
        device = replace(DEVICE, backend=backend, kind=kind)  # type: ignore[arg-type]
        plan = _plan(device)
        libraries = next(item.size for item in plan.memory if item.name == "libraries")
        assert libraries > 0
        assert plan.memory_needed - plan.memory_measurable == (0 if kind == "cpu" else libraries)


@pytest.mark.parametrize("method", ["lora", "qlora", "full"])
@pytest.mark.parametrize(("backend", "kind"), [("torch", "cpu"), ("mlx", "cpu"), ("mlx", "metal"), ("mlx", "cuda")])
def test_every_backend_and_device_has_a_plan(backend: str, kind: Any, method: str) -> None:
    plan = _plan(replace(DEVICE, backend=backend, kind=kind), method=method)
    assert plan.device.backend == backend
    assert all(item.size >= 0 for item in plan.memory)
    assert from_json({"format": 1} | plan.to_json()) == plan


def test_a_plan_comes_back_from_json_as_it_was() -> None:
    plan = _plan()
    assert from_json({"format": 1} | plan.to_json()) == plan


@pytest.mark.parametrize(
    ("size", "text"),
    [(812, "812 B"), (3400, "3.4 KB"), (120e3, "0.1 MB"), (1.5e6, "1.5 MB"), (620e6, "620 MB"),
     (1.25e9, "1.25 GB"), (31.8e9, "31.8 GB")],
)  # fmt: skip
def test_sizes_are_said_with_at_most_three_figures(size: float, text: str) -> None:
    assert readable(size) == text


def test_rows_on_mlx_are_as_long_as_the_longest_example_needs_and_no_longer() -> None:
    plan = _plan(replace(DEVICE, backend="mlx", kind="metal"))
    assert plan.packed_width
    assert plan.room(40, 2048) == plan.packed_width
    assert plan.room(2000, 2048) == 2000
    assert plan.room(40, plan.packed_width - 8) == plan.packed_width - 8
    assert _plan().room(40, 2048) == 2048
