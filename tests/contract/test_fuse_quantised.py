"""A checkpoint in MLX's layout and its adapter say what the weights say that both are fused into (T12)."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from localtune.adapter import Lora
from localtune.backend import Backend
from localtune.fuse import fuse
from tests.contract.conftest import Models, files_of, installed, open_on, saved
from tests.contract.test_mlx_quantised import BATCH, CHECKPOINT, GRIDS, PLACES, TOKENS, converted
from tests.goals import Reached

KINDS: dict[str, dict[str, Any]] = {"lora": {}, "rslora": {"rslora": True}, "dora": {"dora": True}}


@pytest.fixture(scope="module")
def backend() -> Backend:
    return installed("mlx")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("grid", ["affine3", "affine4", "affine8", "mxfp4", "nvfp4", "mxfp8"])
def test_fused_weights_say_what_checkpoint_and_adapter_say(
    backend: Backend, models: Models, tmp_path: Path, grid: str, kind: str, goal: Reached
) -> None:
    files = converted(models("llama-even"), tmp_path / "model", **GRIDS[grid])
    with open_on(backend, files, Lora(4, 8, **KINDS[kind]), precision=CHECKPOINT) as session:
        base = session.logits(TOKENS, PLACES)
        for step in range(5):
            session.train_step([BATCH], step=step, lr=1e-2)
        trained = session.logits(TOKENS, PLACES)
        saved(session, tmp_path / "adapter")
    (tmp_path / "fused").mkdir()
    fuse(files, tmp_path / "adapter", tmp_path / "fused", dtype="float32")
    with open_on(backend, files_of(tmp_path / "fused")) as session:
        fused = session.logits(TOKENS, PLACES)
    gap = np.abs(fused - trained).max() / max(1, np.abs(trained).max())
    if kind == "lora":
        goal("fuse", f"mlx over {grid}: logits of the fused weights within {gap:.1e} of base and adapter")
    assert gap <= 1e-5
    assert np.abs(base - trained).max() > 1e-2
