"""An adapter trained on one backend opens on the other, and in peft, and says the same there."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from localtune.adapter import Lora
from localtune.backend import Backend
from localtune.batch import Floats
from localtune.model import ModelFiles
from tests.contract.conftest import LORA, Models, logits_apart, open_on, rows_of, saved, segment
from tests.contract.test_adapters import PLACES, TOKENS, peft_logits

BATCH = rows_of([segment(9, 1), segment(20, 2)], [segment(25, 3)])
VARIANTS: dict[str, tuple[str, Lora]] = {
    "lora": ("llama", LORA),
    "rslora": ("qwen2", replace(LORA, rslora=True, alpha=3.0)),
    "dora": ("qwen3", replace(LORA, dora=True)),
    "attention": ("gemma3", Lora(3, 5.0, targets=("q_proj", "v_proj"))),
    "fused-names": ("phi3-inside", LORA),
    "soft-capped": ("gemma2-inside", LORA),
    "sliding": ("mistral-inside", LORA),
}


def trained(backend: Backend, files: ModelFiles, lora: Lora, folder: Path) -> tuple[Floats, Floats]:
    """What a session says after three updates, and its base; the adapter is in `folder`."""
    with open_on(backend, files, lora) as session:
        for step in range(3):
            session.train_step([BATCH], step=step, lr=1e-2)
        saved(session, folder, state=True)
        return session.logits(TOKENS, PLACES), session.logits(TOKENS, PLACES, adapter=False)


@pytest.mark.parametrize("case", VARIANTS.values(), ids=VARIANTS.keys())
@pytest.mark.parametrize("direction", ["torch-to-mlx", "mlx-to-torch"])
def test_the_other_backend_says_the_same(
    backends: tuple[Backend, Backend], models: Models, tmp_path: Path, case: tuple[str, Lora], direction: str
) -> None:
    family, lora = case
    source, target = backends if direction == "torch-to-mlx" else backends[::-1]
    ours, base = trained(source, models(family), lora, tmp_path)
    for trainable in (None, lora):
        with open_on(target, models(family), trainable, tmp_path) as session:
            assert logits_apart(session.logits(TOKENS, PLACES), ours) <= 1e-5
            assert logits_apart(session.logits(TOKENS, PLACES, adapter=False), base) <= 1e-5
    assert logits_apart(base, ours) > 1e-3
    if direction == "mlx-to-torch":
        assert logits_apart(peft_logits(models(family), tmp_path), ours) <= 1e-5


def test_another_scale_would_be_seen(backends: tuple[Backend, Backend], models: Models, tmp_path: Path) -> None:
    ours, _ = trained(backends[1], models("llama"), LORA, tmp_path)
    path = tmp_path / "adapter_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**config, "lora_alpha": 1.25 * config["lora_alpha"]}), encoding="utf-8")
    for backend in backends:
        with open_on(backend, models("llama"), None, tmp_path) as session:
            assert logits_apart(session.logits(TOKENS, PLACES), ours) > 1e-3


@pytest.mark.parametrize("direction", ["torch-to-mlx", "mlx-to-torch"])
def test_the_other_backend_continues_a_run_with_the_state_of_its_optimizer(
    backends: tuple[Backend, Backend], models: Models, tmp_path: Path, direction: str
) -> None:
    source, target = backends if direction == "torch-to-mlx" else backends[::-1]
    trained(source, models("llama"), LORA, tmp_path)
    finals = []
    for number, backend in enumerate((source, target)):
        with open_on(backend, models("llama"), LORA, seed=8) as session:
            session.restore(tmp_path)
            for step in range(3, 6):
                session.train_step([BATCH], step=step, lr=1e-2)
            finals.append(saved(session, tmp_path / str(number)))
    for name, value in finals[0].items():
        np.testing.assert_allclose(finals[1][name], value, atol=1e-4)
