"""Speed and memory of a LoRA run beside TRL's SFTTrainer: same model, rows, rank, batch, length, updates, precision.

    python tests/bench/against_trl.py MODEL ROWS.jsonl      (rows with prompt and completion; needs `pip install trl`)

Each side runs in a process of its own, in turn, REPEATS times. Tokens per second count real tokens only and leave out
loading; memory is the peak of the process (resident on a CPU, allocated on CUDA). The figure to quote is the ratio of
the medians.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

REPEATS = int(os.environ.get("BENCH_REPEATS", "3"))
RANK, BATCH, LENGTH = 16, 8, 512
PRECISION = os.environ.get("BENCH_PRECISION", "float32")


def ours(model: str, rows: str, steps: int) -> dict[str, float]:
    """One run of localtune's command line."""
    with tempfile.TemporaryDirectory() as folder:
        settings = {
            "data.max_tokens": LENGTH, "data.valid": "none", "train.steps": steps, "train.batch_size": BATCH,
            "train.precision": PRECISION, "train.checkpointing": "none", "lora.rank": RANK,
        }  # fmt: skip
        flags = [f"--set={key}={value}" for key, value in settings.items()]
        command = [sys.executable, "-m", "localtune", "run", rows, "-m", model, "--json", *flags]
        environment = os.environ | {"LOCALTUNE_RUNS": folder}
        out = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
    events = [json.loads(line) for line in out.splitlines()]
    taken = [event for event in events if event["type"] == "step"][1:]
    tokens, seconds = sum(step["tokens"] for step in taken), sum(step["seconds"] for step in taken)
    return {"tokens/s": tokens / seconds, "peak": max(step["peak_bytes"] for step in taken), "loss": taken[-1]["loss"]}


def theirs(model: str, rows: str, steps: int) -> dict[str, float]:
    """One run of TRL in a process of its own."""
    command = [sys.executable, __file__, model, rows, "--steps", str(steps), "--child"]
    out = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    value: dict[str, float] = json.loads(out.splitlines()[-1])
    return value


def child(model: str, rows: str, steps: int) -> None:
    """Train with TRL and print the figures."""
    import time

    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    class Clock(TrainerCallback):  # type: ignore[misc]
        """Seconds of the updates after the first."""

        def __init__(self) -> None:
            self.seconds: list[float] = []

        def on_step_begin(self, *arguments: object, **named: object) -> None:
            self.began = time.perf_counter()

        def on_step_end(self, *arguments: object, **named: object) -> None:
            self.seconds.append(time.perf_counter() - self.began)

    lines = Path(rows).read_text(encoding="utf-8").splitlines()
    data = Dataset.from_list([json.loads(line) for line in lines])
    dtype = getattr(torch, PRECISION)
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        trainer = SFTTrainer(
            model=AutoModelForCausalLM.from_pretrained(model, dtype=dtype),
            processing_class=AutoTokenizer.from_pretrained(model),
            train_dataset=data,
            peft_config=LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear"),
            args=SFTConfig(
                output_dir=folder,
                max_steps=steps,
                per_device_train_batch_size=BATCH,
                max_length=LENGTH,
                learning_rate=2e-4,
                logging_steps=1,
                save_strategy="no",
                report_to="none",
                seed=42,
                gradient_checkpointing=False,
                bf16=PRECISION == "bfloat16",
                use_cpu=not torch.cuda.is_available(),
            ),
            callbacks=[clock],
        )
        seen: list[int] = []
        collate = trainer.data_collator

        def counting(examples: list[dict[str, list[int]]]) -> object:
            seen.append(sum(len(example["input_ids"]) for example in examples))
            return collate(examples)

        trainer.data_collator = counting
        trainer.train()
    history = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    if torch.cuda.is_available():
        peak = torch.cuda.max_memory_allocated()
    rate = sum(seen[1:steps]) / sum(clock.seconds[1:])
    print(json.dumps({"tokens/s": rate, "peak": peak, "loss": history[-1]}))


def main() -> None:
    """Print each side's figures and the ratios."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("model")
    arguments.add_argument("rows")
    arguments.add_argument("--steps", type=int, default=20)
    arguments.add_argument("--child", action="store_true")
    given = arguments.parse_args()
    if given.child:
        child(given.model, given.rows, given.steps)
        return
    figures: dict[str, list[dict[str, float]]] = {"localtune": [], "trl": []}
    for _ in range(REPEATS):
        figures["localtune"].append(ours(given.model, given.rows, given.steps))
        figures["trl"].append(theirs(given.model, given.rows, given.steps))
    for key in ("tokens/s", "peak", "loss"):
        mine, other = (statistics.median(run[key] for run in figures[side]) for side in ("localtune", "trl"))
        print(f"{key:<9} localtune {mine:,.4g}   trl {other:,.4g}   ratio {mine / other:.2f}")


if __name__ == "__main__":
    main()
