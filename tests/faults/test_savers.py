"""Checkpoints of real sessions, killed at random moments of saving and cut or refused before each call: none lost."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import goals
from tests.command import ROOT

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="tries are forked processes")


@pytest.mark.skipif(sys.platform == "darwin", reason="what computes on a Mac does not survive a fork")
@pytest.mark.parametrize("backend", ["mlx", "torch"] if goals.FULL else ["mlx"])
def test_no_checkpoint_that_was_said_to_be_saved_is_lost(backend: str, tmp_path: Path, goal: goals.Reached) -> None:
    kills, cuts = goals.times(3, 200), goals.times(0, 1 << 20)
    arguments = [sys.executable, "-m", "tests.faults.saving", backend, str(tmp_path / "run"), str(kills), str(cuts)]
    done = subprocess.run(arguments, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True,
                          text=True, timeout=goals.times(240, 3600), check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["kills"] == kills
    middle, calls = found["in the middle"], found["calls"]
    goal("save", f"{backend}: 0 losses in {kills} kills, {middle} in the middle of a save, and at {calls} calls")
