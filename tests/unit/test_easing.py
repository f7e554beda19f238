"""Smaller micro-batches, step by step, from one number in the run folder."""

from dataclasses import replace
from pathlib import Path

import pytest

from localtune.backend import Device, Precision
from localtune.easing import SHORTEST, ease, eased, smaller, times_eased, told
from localtune.plan import Plan
from localtune.runs.folder import Run
from localtune.schedule import Schedule

PLAN = Plan(
    schedule=Schedule("cosine", 1e-3, 10, 0), epochs=1.0, batch_size=16, train_rows=160, valid_rows=0, test_rows=0,
    tokens=1, learned=1, cut=0, dropped=0, rows=8, row_tokens=512, loss_chunk=256,
    precision=Precision("float32", "float32"), checkpointing="none", trainable=1, parameters=1, memory=(),
    memory_limit=1, disk=1, device=Device("torch", "cpu", "CPU", 1, ("float32",), {}, ""),
)  # fmt: skip


def test_rows_are_halved_then_activations_recomputed_then_rows_shortened() -> None:
    sizes = [
        (plan.rows, plan.checkpointing, plan.packed_width) for times in range(7) if (plan := eased(PLAN, times, 100))
    ]
    assert sizes == [
        (8, "none", 0), (4, "none", 0), (2, "none", 0), (1, "none", 0),
        (1, "blocks", 0), (1, "blocks", 256), (1, "blocks", 128),
    ]  # fmt: skip


def test_it_ends_where_nothing_can_be_made_smaller() -> None:
    last = eased(PLAN, 10**9, 100)
    assert smaller(last, 100) is None
    assert eased(PLAN, 51, 100) == last
    assert last.packed_width == 100
    assert eased(PLAN, 10**9, 3).packed_width == SHORTEST


def test_the_updates_stay_the_same() -> None:
    sized = {"rows", "checkpointing", "packed_width"}
    for name, value in vars(eased(PLAN, 5, 100)).items():
        assert (value != getattr(PLAN, name)) == (name in sized), name


@pytest.mark.parametrize("times", [0, 2, 3, 4])
def test_what_became_smaller_is_told(times: int) -> None:
    before, after = eased(PLAN, times, 100), eased(PLAN, times + 1, 100)
    assert told(before, after) in (
        "4 rows a micro-batch instead of 8, in updates of the same examples",
        "1 rows a micro-batch instead of 2, in updates of the same examples",
        "activations computed twice instead of kept",
        "rows packed up to 256 tokens instead of 512",
    )


def test_how_often_is_kept_in_the_run_folder(tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert times_eased(run) == 0
    ease(run)
    ease(run)
    assert times_eased(run) == 2


@pytest.mark.parametrize("content", ["", "{}", '{"format": 1}', '{"format": 1, "times": "x"}'])
def test_an_unreadable_number_is_none(tmp_path: Path, content: str) -> None:
    run = Run(tmp_path)
    run.eased.write_text(content, encoding="utf-8")
    assert times_eased(run) == 0


@pytest.mark.parametrize("longest", [505, 512])
def test_rows_that_one_example_fills_are_not_made_shorter(longest: int) -> None:
    plan = replace(PLAN, rows=1, checkpointing="blocks")
    assert smaller(plan, longest) is None


def test_a_row_is_never_shorter_than_the_longest_example() -> None:
    plan = eased(replace(PLAN, rows=1, checkpointing="blocks"), 9, 300)
    assert plan.packed_width == 300
    assert plan.room(300, 2048) == 300
