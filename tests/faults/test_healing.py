"""What ends a worker is healed where it can be: same result, at most three tries without progress, told in words."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from localtune.easing import times_eased
from localtune.events import Failed, Step, Warn
from localtune.runs.folder import Run
from tests.command import Command
from tests.faults.faulty import BACKENDS, arguments, figures, notes, only, weights, whole, with_faults
from tests.goals import FULL, Reached, times

STEPS = 6
PLAIN = ("--set=lora.dropout=0", "--set=train.pack=false")

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="aborts with a signal that Windows has not")


@pytest.fixture(scope="module", params=BACKENDS if FULL else ("torch",))
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, backend: str) -> Run:
    """The same run without a fault."""
    folder = tmp_path_factory.mktemp("whole")
    return whole(Command(folder / "runs"), folder, backend, STEPS, *PLAIN)


def _figures(run: Run) -> list[tuple[float, float]]:
    """Loss and norm of the gradient of every update."""
    return [(event.loss, event.gradient_norm) for event, _ in run.read_events() if isinstance(event, Step)]


def test_after_memory_ran_out_the_run_goes_on_with_smaller_parts_to_the_same_result(
    localtune: Command, tmp_path: Path, backend: str, finished: Run, goal: Reached
) -> None:
    result = with_faults(localtune, tmp_path, above=times(2, 1))("run", *arguments(tmp_path, backend, STEPS, *PLAIN))
    assert result.code == 0, result.err
    run = only(localtune)
    assert times_eased(run) >= 1
    assert any(f"with {times(2, 1)} rows a micro-batch instead of" in note for note in notes(run))
    ours, theirs = (np.array(_figures(each)) for each in (run, finished))
    apart = np.abs(ours / theirs - 1)
    assert apart[0].max() <= 1e-6  # the update that was split: loss and norm of the gradient
    assert apart[:, 0].max() <= 1e-4  # and what Adam makes of rounding in the updates after it
    assert apart[:, 0].mean() <= 1e-5
    split, later = apart[0].max(), apart[:, 0].max()
    goal("heal", f"{backend}: out of memory: split update apart {split:.0e}, all {STEPS} losses {later:.0e}")


def test_an_abort_and_a_lost_device_are_told_and_change_no_bit(
    localtune: Command, tmp_path: Path, backend: str, finished: Run, goal: Reached
) -> None:
    faults = with_faults(localtune, tmp_path, abort=[3], device=[5] if FULL else [])
    result = faults("run", *arguments(tmp_path, backend, STEPS, *PLAIN))
    assert result.code == 0, result.err
    run = only(localtune)
    assert "SIGABRT" in result.err
    assert ("lost its device" in result.err) == FULL
    told = [note for note in notes(run) if note.startswith("run.healed.note")]
    assert len(told) == times(1, 2)  # every note outlives the rewinds
    assert not [event for event, _ in run.read_events() if isinstance(event, Failed)]
    assert figures(run) == figures(finished)
    assert weights(run) == weights(finished)
    goal("heal", f"{backend}: SIGABRT and a lost device: bit-identical")


@pytest.mark.skipif(not FULL, reason="four workers; the rule itself is a test of tests/unit/test_healing.py")
def test_a_run_that_gets_no_further_has_failed_after_three_more_tries(localtune: Command, tmp_path: Path) -> None:
    faults = with_faults(localtune, tmp_path, times=9, device=[2])
    result = faults("run", *arguments(tmp_path, "torch", STEPS, *PLAIN))
    assert result.code == 3, result.err
    run = only(localtune)
    assert "device.lost" in result.err
    assert len(list((tmp_path / "left").glob("device-*"))) == 9 - 4
    assert run.status().state == "failed"


def test_a_number_that_is_none_never_enters_the_weights_and_its_rows_are_named(
    localtune: Command, tmp_path: Path, backend: str, goal: Reached
) -> None:
    result = with_faults(localtune, tmp_path, huge=[2, 4])("run", *arguments(tmp_path, backend, STEPS, *PLAIN))
    assert result.code == 0, result.err
    run = only(localtune)
    steps = [event for event, _ in run.read_events() if isinstance(event, Step)]
    assert [step.step for step in steps if not step.applied] == [2, 4]
    assert [step.step for step in steps if not math.isfinite(step.loss * step.gradient_norm)] == [2, 4]
    said = [event.text for event, _ in run.read_events() if isinstance(event, Warn) and "not finite" in event.text]
    assert len(said) == 2
    assert all("rows.jsonl:" in text for text in said)
    found = load_file(run.adapter / "adapter_model.safetensors")
    assert all(np.isfinite(array).all() for array in found.values())
    goal("nan", f"{backend}: 2 poisoned updates: 0 applied, 2 on record with their rows")


@pytest.mark.skipif(not FULL, reason="the rule itself is a test of tests/unit/test_train.py")
def test_a_third_refused_update_in_a_row_ends_the_run(localtune: Command, tmp_path: Path) -> None:
    faults = with_faults(localtune, tmp_path, huge=[2, 3, 4])
    result = faults("run", *arguments(tmp_path, "torch", STEPS, *PLAIN))
    assert result.code == 1
    assert "the weights are those of update 1" in result.err
    assert only(localtune).status().state == "failed"
