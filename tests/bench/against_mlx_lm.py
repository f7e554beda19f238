"""Speed and memory of a LoRA run on MLX beside `mlx_lm.lora`: same model, rows, rank, batch, modules, updates, type.

    python tests/bench/against_mlx_lm.py ROWS.jsonl                             (both random models, in turn; a CPU)
    python tests/bench/against_mlx_lm.py ROWS.jsonl --model small               (one of them: small or wide)
    BENCH_PRECISION=bfloat16 python tests/bench/against_mlx_lm.py ROWS.jsonl --model Qwen/Qwen3-0.6B --rows 400  (a Mac)

ROWS has question and answer, as GSM8K does, or prompt and completion. Each side runs in a process of its own, in turn,
REPEATS times, for two passes over the rows; the second is measured, when both have compiled their shapes. Real tokens
are those of the rows as each side renders them, without padding, by the seconds of the updates. Memory is counted the
same way on both sides, up to the last update: on a CPU the peak resident size of the whole process, libraries included
("resident MB"); on a GPU the peak of MLX's own arrays ("arrays MB"), without libraries and without buffers kept for
reuse. mlx-lm's side is what `mlx_lm.lora --train -c CONFIG` does between reading its configuration and saving
(`mlx_lm.lora.train_model`, with a callback that keeps the figures): all linear modules of all layers, prompts masked,
AdamW with bias correction. The figure to quote is the ratio of the medians, with the model it was measured on.

The random models are Llamas with the quickstart's tokenizer. "small" has hidden size 64 and 4 blocks: attention over
long rows is a large share of it, which hides what padding costs. "wide" has 256 and 2: attention is a smaller share, as
in most models. Neither stands for the other, so both are printed unless one is named.
"""

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

QUICKSTART = Path(__file__).parents[2] / "recipes/quickstart/model"
REPEATS = int(os.environ.get("BENCH_REPEATS", "3"))
PRECISION = os.environ.get("BENCH_PRECISION", "float32")
RANK, BATCH, LENGTH, RATE = 16, 8, 1024, 2e-4
PASSES = 2
RANDOM = {"small": (64, 192, 4), "wide": (256, 512, 2)}
"""Hidden size, feed-forward size and blocks of the random models."""


def ours(model: str, folder: Path, count: int) -> dict[str, float]:
    """One run of localtune's command line."""
    settings = {
        "backend": "mlx", "data.max_tokens": LENGTH, "data.valid": "none", "data.too_long": "cut",
        "train.epochs": PASSES, "train.batch_size": BATCH, "train.precision": PRECISION, "train.checkpointing": "none",
        "train.learning_rate": RATE, "train.schedule": "constant", "train.warmup": 0,
        "lora.rank": RANK, "lora.alpha": 2 * RANK,
    }  # fmt: skip
    flags = [f"--set={key}={value}" for key, value in settings.items()]
    command = [sys.executable, "-m", "localtune", "run", str(folder / "train.jsonl"), "-m", model, "--json", *flags]
    with tempfile.TemporaryDirectory() as runs:
        environment = os.environ | {"LOCALTUNE_RUNS": runs}
        out = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
        (plan,) = Path(runs).glob("*/plan.json")
        kind = json.loads(plan.read_text(encoding="utf-8"))["device"]["kind"]
    steps = [event for event in map(json.loads, out.splitlines()) if event["type"] == "step"]
    assert len(steps) == PASSES * count // BATCH
    taken = steps[count // BATCH :]
    tokens, seconds = (sum(step[key] for step in taken) for key in ("tokens", "seconds"))
    losses = [step["loss"] for step in taken]
    peak = max(step["peak_bytes"] for step in taken)
    memory = {"resident MB" if kind == "cpu" else "arrays MB": peak / 1e6}
    return {"tokens/s": tokens / seconds, **memory, "tokens": tokens, "loss": statistics.mean(losses)}


def theirs(model: str, folder: Path, count: int) -> dict[str, float]:
    """One run of mlx-lm in a process of its own."""
    command = [sys.executable, __file__, str(folder), "--model", model, "--rows", str(count), "--child"]
    out = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    value: dict[str, float] = json.loads(out.splitlines()[-1])
    return value


def child(model: str, folder: Path, count: int) -> None:
    """Train with mlx-lm and print the figures."""
    from mlx_lm import load
    from mlx_lm.lora import CONFIG_DEFAULTS, train_model
    from mlx_lm.tuner.callbacks import TrainingCallback
    from mlx_lm.tuner.datasets import CacheDataset, load_dataset

    class Kept(TrainingCallback):  # type: ignore[misc]
        """What is reported of every update, with the memory at its end."""

        def __init__(self) -> None:
            self.reports: list[dict[str, float]] = []

        def on_train_loss_report(self, info: dict[str, float]) -> None:
            self.reports.append(info | memory_peak())

    adamw = {"bias_correction": True, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.0}
    config: dict[str, Any] = {
        "model": model, "data": str(folder), "train": True, "fine_tune_type": "lora", "num_layers": -1,
        "optimizer": "adamw", "optimizer_config": {"adamw": adamw}, "learning_rate": RATE, "mask_prompt": True,
        "batch_size": BATCH, "iters": PASSES * count // BATCH, "max_seq_length": LENGTH, "steps_per_report": 1,
        "lora_parameters": {"rank": RANK, "dropout": 0.0, "scale": 2.0}, "adapter_path": str(folder / "adapters"),
    }  # fmt: skip
    arguments, kept = SimpleNamespace(**CONFIG_DEFAULTS | config), Kept()
    with contextlib.redirect_stdout(sys.stderr):
        transformer, tokenizer = load(model)
        rows, valid, _ = load_dataset(arguments, tokenizer)
        train_model(arguments, transformer, rows, valid, kept)
    cached = CacheDataset(rows)
    tokens = sum(min(len(cached[number][0]), LENGTH) for number in range(count))
    taken = kept.reports[count // BATCH :]
    seconds = sum(1 / report["iterations_per_second"] for report in taken)
    losses = [report["train_loss"] for report in taken]
    memory = {name: max(report[name] for report in taken) for name in memory_peak()}
    print(json.dumps({"tokens/s": tokens / seconds, **memory, "tokens": tokens, "loss": statistics.mean(losses)}))


def memory_peak() -> dict[str, float]:
    """The peak of this process so far, counted as localtune counts its own, under a name that says how."""
    import mlx.core as mx

    from localtune.resident import resident_peak

    if mx.default_device().type == mx.DeviceType.gpu:
        return {"arrays MB": mx.get_peak_memory() / 1e6}
    return {"resident MB": resident_peak() / 1e6}


def random_model(name: str, folder: Path) -> str:
    """Write the random model of that name."""
    import numpy as np
    from safetensors.numpy import save_file

    (hidden, inner, layers), heads, kv_heads, vocabulary = RANDOM[name], 4, 2, 1280
    wide = hidden * kv_heads // heads
    shapes = {
        "self_attn.q_proj": (hidden, hidden), "self_attn.k_proj": (wide, hidden), "self_attn.v_proj": (wide, hidden),
        "self_attn.o_proj": (hidden, hidden), "mlp.gate_proj": (inner, hidden), "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }  # fmt: skip
    drawn = np.random.default_rng(0)
    tensors = {"model.norm.weight": np.ones(hidden, np.float32)}
    tensors["model.embed_tokens.weight"] = drawn.normal(0, 0.02, (vocabulary, hidden)).astype(np.float32)
    for layer in range(layers):
        for name, shape in shapes.items():
            tensors[f"model.layers.{layer}.{name}.weight"] = drawn.normal(0, 0.02, shape).astype(np.float32)
        for name in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"model.layers.{layer}.{name}.weight"] = np.ones(hidden, np.float32)
    shutil.copytree(QUICKSTART, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    changed = {
        "hidden_size": hidden, "intermediate_size": inner, "num_hidden_layers": layers, "num_attention_heads": heads,
        "num_key_value_heads": kv_heads, "head_dim": hidden // heads, "tie_word_embeddings": True, "dtype": "float32",
        "max_position_embeddings": 2048,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config | changed), encoding="utf-8")
    return str(folder)


def prepared(model: str, rows: Path, count: int, folder: Path) -> str:
    """Write the first `count` rows as both sides read them, and the model in the type of both where it is another."""
    lines = rows.read_text(encoding="utf-8").splitlines()[:count]
    assert len(lines) == count, f"{rows} has {len(lines)} rows"
    assert count % BATCH == 0, f"rows must be a multiple of {BATCH}: mlx-lm leaves the rest out"
    with (folder / "train.jsonl").open("w", encoding="utf-8") as file:
        for row in map(json.loads, lines):
            pair = {
                "prompt": row.get("question") or row["prompt"],
                "completion": row.get("answer") or row["completion"],
            }
            file.write(json.dumps(pair) + "\n")
    if model in RANDOM:
        return random_model(model, folder / "model")
    if PRECISION != "float32":
        return model
    command = [sys.executable, "-m", "mlx_lm", "convert", "--hf-path", model, "--dtype", "float32"]
    target = str(folder / "model")
    subprocess.run([*command, "--mlx-path", target], stdout=subprocess.DEVNULL, check=True)
    return target


def compare(model: str, rows: Path, count: int) -> None:
    """Print each side's figures for one model and their ratios."""
    figures: dict[str, list[dict[str, float]]] = {"localtune": [], "mlx-lm": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ready = prepared(model, rows, count, folder)
        for _ in range(REPEATS):
            figures["localtune"].append(ours(ready, folder, count))
            figures["mlx-lm"].append(theirs(ready, folder, count))
    print(f"{model}, {PRECISION}, {count} rows")
    for key in figures["localtune"][0]:
        mine, other = (statistics.median(run[key] for run in figures[side]) for side in ("localtune", "mlx-lm"))
        print(f"{key:<12}localtune {mine:>10,.5g}   mlx-lm {other:>10,.5g}   ratio {mine / other:.3f}", flush=True)


def main() -> None:
    """Compare on the models asked for."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("data", type=Path)
    arguments.add_argument("--model", help="small, wide, a folder or a hub id; default: small, then wide")
    arguments.add_argument("--rows", type=int, default=64)
    arguments.add_argument("--child", action="store_true")
    given = arguments.parse_args()
    if given.child:
        child(given.model, given.data, given.rows)
        return
    for model in [given.model] if given.model else RANDOM:
        compare(model, given.data, given.rows)


if __name__ == "__main__":
    main()
