"""How far a GGUF of each family and type is from the weights it was made of: a small trained model per family.

    python tests/bench/fidelity.py OUT [--families llama,qwen3] [--types F32,Q4_K_M] [--steps 200] [--model FOLDER]

Each model has the family's own computation in a width that every type divides, is trained for some steps on the
quickstart's conversations (so that its distributions are not flat), exported, and compared at the built-in passages of
the proof. Printed: mean and largest divergence in nats, and the share of positions with the same likeliest token.
`--model` compares a model folder instead. Needs torch and transformers.
"""

import argparse
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from localtune.data.tokenizer import Tokenizer
from localtune.export.encodings import ENCODINGS
from localtune.products import RECORD
from localtune.products.gguf import export
from localtune.products.source import of_folder

QUICKSTART = Path(__file__).resolve().parents[2] / "recipes" / "quickstart"
LENGTH, ROWS = 128, 16
SHAPE: dict[str, Any] = {
    **{"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 4, "num_attention_heads": 4},
    **{"num_key_value_heads": 2, "head_dim": 64, "max_position_embeddings": 512, "initializer_range": 0.05},
}
_MOE: dict[str, Any] = {"num_experts_per_tok": 2, "output_router_logits": False}
_LLAMA3 = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {"rope_parameters": {**_LLAMA3, "original_max_position_embeddings": 128}}),
    "mistral": ("Mistral", {"sliding_window": None}),
    "qwen2": ("Qwen2", {"tie_word_embeddings": True}),
    "qwen3": ("Qwen3", {"tie_word_embeddings": True}),
    "gemma2": ("Gemma2", {"sliding_window": 64, "query_pre_attn_scalar": 64}),
    "gemma3": ("Gemma3", {"sliding_window": 64, "query_pre_attn_scalar": 64}),
    "phi3": ("Phi3", {}),
    "smollm3": ("SmolLM3", {}),
    "qwen3moe": ("Qwen3Moe", {**_MOE, "num_experts": 8, "moe_intermediate_size": 256, "norm_topk_prob": True}),
    "mixtral": ("Mixtral", {**_MOE, "num_local_experts": 8, "intermediate_size": 256, "sliding_window": None}),
}
"""Name -> transformers' prefix, and what differs from `SHAPE`."""


def main() -> None:
    """Print one line per model and type."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("out", type=Path)
    asked.add_argument("--families", default=",".join(FAMILIES))
    asked.add_argument("--types", default=",".join(ENCODINGS))
    asked.add_argument("--steps", type=int, default=200)
    asked.add_argument("--model", type=Path)
    args = asked.parse_args()
    print(
        "| model | type | KL mean | KL max | top-1 | tokens | template | proof s |\n|---|---|---|---|---|---|---|---|"
    )
    names = [args.model.name] if args.model else args.families.split(",")
    for name in names:
        folder = args.model or trained(name, args.out / name, args.steps)
        for row in measured(folder, args.out / f"{name}-gguf", args.types.split(",")):
            print(f"| {name} | " + " | ".join(row) + " |", flush=True)


def trained(name: str, folder: Path, steps: int) -> Path:
    """The folder of a model of that family; one that is there is kept."""
    if (folder / "config.json").is_file():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(QUICKSTART / "model", folder, ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
    tokenizer = Tokenizer(folder)
    prefix, more = FAMILIES[name]
    torch.manual_seed(1)
    special = {"bos_token_id": None, "eos_token_id": tokenizer.eos_id, "pad_token_id": None}
    text = "TextConfig" if name == "gemma3" else "Config"
    config = getattr(transformers, f"{prefix}{text}")(
        **(SHAPE | {"vocab_size": tokenizer.vocabulary} | special | more), attn_implementation="eager"
    )
    model = getattr(transformers, f"{prefix}ForCausalLM")(config)
    _train(model, tokenizer, steps)
    model.generation_config = transformers.GenerationConfig(eos_token_id=tokenizer.eos_id)
    model.save_pretrained(folder)
    return folder


def _train(model: Any, tokenizer: Tokenizer, steps: int) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    batches = _batches(tokenizer)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * min(1.0, (step + 1) / 20) * (1 - step / steps)
        ids = next(batches)
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    print(f"<!-- {type(model).__name__}: {steps} updates, loss {loss.item():.3f} -->", flush=True)


def _batches(tokenizer: Tokenizer) -> Iterator[torch.Tensor]:
    """Random windows of the quickstart's rows as text."""
    lines = (QUICKSTART / "train.jsonl").read_text(encoding="utf-8").splitlines()
    turns = [turn["content"] for line in lines for turn in json.loads(line)["messages"]]
    ids = np.array(tokenizer.encode("\n".join(turns), special=False))
    draw = np.random.default_rng(1)
    while True:
        starts = draw.integers(0, len(ids) - LENGTH, ROWS)
        yield torch.from_numpy(np.stack([ids[start : start + LENGTH] for start in starts]))


def measured(folder: Path, out: Path, types: list[str]) -> Iterator[list[str]]:
    """What the proof of each type says."""
    shutil.rmtree(out, ignore_errors=True)
    found = of_folder(str(folder), out)
    try:
        while True:
            next(found)
    except StopIteration as stop:
        source = stop.value
    for kind in types:
        try:
            list(export(replace(source, folder=out / kind), [kind]))
        except Exception as error:
            yield [kind, f"{type(error).__name__}: {error}".splitlines()[0]]
        if (out / kind / RECORD).is_file():
            for name, entry in json.loads((out / kind / RECORD).read_text(encoding="utf-8"))["files"].items():
                yield [kind + (" FAILED" if "failed" in name else ""), *_figures(entry)]


def _figures(entry: dict[str, Any]) -> list[str]:
    checks = {check["name"]: check for check in entry["checks"]}
    file = checks.get("file", {}).get("figures") or {"mean": np.nan, "max": np.nan, "top1": np.nan}
    words = [str(checks[name]["passed"]) if name in checks else "-" for name in ("tokens", "template")]
    numbers = [f"{file['mean']:.1e}", f"{file['max']:.1e}", f"{file['top1']:.3f}"]
    return [*numbers, *words, f"{entry['seconds']:.1f}"]


if __name__ == "__main__":
    main()
