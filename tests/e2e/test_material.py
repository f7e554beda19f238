"""Real data on a real pretrained model: the loss falls, and peft opens what came out and says the same."""

from pathlib import Path

import numpy as np
import pytest

from localtune.adapter import read_peft_config
from localtune.backend import MemorySpec, Precision, load_backend
from localtune.data.prepare import load
from localtune.events import Evaluation, Step
from localtune.model import resolve
from localtune.runs.folder import Run
from tests.command import Command
from tests.material import material

pytestmark = pytest.mark.material

DATA = {
    "sft-wikisql/train.jsonl": [],
    "sft-gsm8k/train-2000.jsonl": ["--set=data.columns={prompt: question, completion: answer}"],
    "cpt-text/tinyshakespeare.txt": ["--set=data.too_long=split", "--set=data.valid=none"],
}


@pytest.mark.parametrize(
    "name", [next(iter(DATA)), *(pytest.param(one, marks=pytest.mark.slow) for one in [*DATA][1:])]
)
def test_the_loss_falls_on_real_data_and_peft_says_the_same(name: str, localtune: Command) -> None:
    folder, _, file = name.partition("/")
    settings = {"max_tokens": 256, "on_error": "stop"} if "gsm8k" not in name else {"max_tokens": 512}
    flags = [f"--set=data.{key}={value}" for key, value in settings.items()]
    train = {"steps": 25, "learning_rate": 3e-3, "precision": "float32", "warmup": 2, "batch_size": 4}
    flags += [f"--set=train.{key}={value}" for key, value in train.items()]
    model = material("model-stories260K")
    result = localtune("run", material(folder) / file, "-m", model, *DATA[name], *flags, "--json")
    assert result.code == 0, result.err
    run = Run(next(localtune.runs.iterdir()))
    losses = [event.loss for event, _ in run.read_events() if isinstance(event, Step)]
    assert np.mean(losses[-5:]) < np.mean(losses[:3]) - 0.3
    measured = [event.loss for event, _ in run.read_events() if isinstance(event, Evaluation)]
    assert not measured or measured[-1] < measured[0]
    _compare_with_peft(run, model)


def _compare_with_peft(run: Run, model: Path) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    tokens = load(run.data).train[0].tokens[:64]
    theirs = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32), run.adapter)
    with torch.no_grad():
        expected = theirs(torch.tensor([tokens.tolist()])).logits[0].numpy()
    session = load_backend("torch").open(
        resolve(str(model), Path()), read_peft_config(run.adapter), run.adapter,
        precision=Precision("float32", "float32"), objective=None, optimizer=None, memory=MemorySpec(0), seed=0,
    )  # fmt: skip
    with session:
        ours = session.logits(tokens.tolist(), range(len(tokens)))
        base = session.logits(tokens.tolist(), range(len(tokens)), adapter=False)
    assert np.abs(ours - expected).max() <= 1e-4
    assert np.abs(base - expected).max() > 0.1
