"""Speed and memory of fuse and export, as ratios of one run: beside a plain copy, and beside llama.cpp's quantiser.

    python tests/bench/export.py [fuse] [Q8_0] [Q4_K_M] ... [--shape 1B|8B|small] [--layers N] [--folder FOLDER]
                                 [--oracle LLAMA_QUANTIZE] [--repeats N] [--numpy]

A model of random bfloat16 weights is written to the folder first, twice its size must be free there. fuse: an adapter
fused into it, beside copying, hashing (SHA-256) and syncing the same bytes. A type: the file written from the model's
folder, beside `llama-quantize` (the one on PATH, or `--oracle`; left out where there is none) from a bfloat16 GGUF.
Both bring their file onto the disk; each runs in a process of its own, in turns, and the median counts. The processor's
time, start of Python and all, says more than that of the clock where the machine has other work. Anonymous
memory is sampled every 20 ms from /proc, and elsewhere is what only that process holds. `--numpy` does without ggml's
kernel.
"""

import argparse
import hashlib
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import psutil

from localtune.adapter import CONFIG_FILE, PREFIX, WEIGHTS_FILE, Lora, peft_config
from localtune.data.tokenizer import Tokenizer
from localtune.export import prepare
from localtune.export.gguf_file import write_gguf
from localtune.export.identity import identify
from localtune.model import resolve
from localtune.model.tensors import INDEX, TensorInfo
from localtune.model.weights import write_shard
from localtune.products.fused import fused_adapter

QUICKSTART = Path(__file__).parents[2] / "recipes/quickstart/model"
SHARD = 4 * 10**9
RANK = 16


@dataclass(frozen=True)
class Shape:
    """Of a Llama."""

    hidden: int
    feed_forward: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int

    def linear(self) -> dict[str, tuple[int, int]]:
        """Modules of a layer."""
        kv = self.hidden // self.heads * self.kv_heads
        hidden, wide = self.hidden, self.feed_forward
        attention = {"q_proj": (hidden, hidden), "k_proj": (kv, hidden), "v_proj": (kv, hidden)}
        mlp = {"gate_proj": (wide, hidden), "up_proj": (wide, hidden), "down_proj": (hidden, wide)}
        named = {f"self_attn.{name}": size for name, size in (attention | {"o_proj": (hidden, hidden)}).items()}
        return named | {f"mlp.{name}": size for name, size in mlp.items()}

    def tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Every weight."""
        yield "model.embed_tokens.weight", (self.vocabulary, self.hidden)
        for i in range(self.layers):
            yield from ((f"model.layers.{i}.{name}.weight", size) for name, size in self.linear().items())
            for norm in ("input_layernorm", "post_attention_layernorm"):
                yield f"model.layers.{i}.{norm}.weight", (self.hidden,)
        yield "model.norm.weight", (self.hidden,)
        yield "lm_head.weight", (self.vocabulary, self.hidden)


SHAPES = {
    "small": Shape(1024, 2816, 8, 16, 4, 32000),
    "1B": Shape(2048, 8192, 8, 32, 8, 64000),
    "8B": Shape(4096, 14336, 32, 32, 8, 128256),
}


def make_model(folder: Path, shape: Shape) -> None:
    """Random weights in shards, with the quickstart's tokenizer."""
    folder.mkdir(parents=True)
    for path in QUICKSTART.iterdir():
        if path.suffix != ".safetensors":
            shutil.copy(path, folder)
    config = {
        **{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16"},
        **{"hidden_size": shape.hidden, "intermediate_size": shape.feed_forward, "num_hidden_layers": shape.layers},
        **{"num_attention_heads": shape.heads, "num_key_value_heads": shape.kv_heads, "rms_norm_eps": 1e-5},
        **{"vocab_size": shape.vocabulary, "max_position_embeddings": 2048, "tie_word_embeddings": False},
        **{"eos_token_id": json.loads((QUICKSTART / "config.json").read_text("utf-8")).get("eos_token_id")},
    }
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    drawn = (np.random.default_rng(1).standard_normal(1 << 24) * 0.02).astype(np.float32).view(np.uint32)
    pool = ((drawn + 0x8000) >> 16).astype(np.uint16)
    infos: list[TensorInfo] = []
    number, filled = 1, 0
    for name, size in shape.tensors():
        infos.append(TensorInfo(name, size, "BF16", 2 * math.prod(size), f"model-{number:05}.safetensors"))
        filled += infos[-1].size
        if filled > SHARD:
            number, filled = number + 1, 0

    def content(tensor: TensorInfo) -> Iterator[npt.NDArray[np.uint16]]:
        left, start = tensor.size // 2, tensor.shape[0] % 1000 * 16
        while left:
            piece = pool[start : start + left]
            yield piece
            left, start = left - len(piece), 0

    for shard in sorted({info.shard for info in infos}):
        write_shard(folder / shard, [info for info in infos if info.shard == shard], content)
    (folder / INDEX).write_text(json.dumps({"weight_map": {info.name: info.shard for info in infos}}), "utf-8")


def make_adapter(folder: Path, shape: Shape) -> None:
    """Random A and B of every linear module."""
    folder.mkdir()
    modules = [f"model.layers.{i}.{name}" for i in range(shape.layers) for name in shape.linear()]
    config = peft_config(Lora(RANK, 32.0), modules, "model", None)
    (folder / CONFIG_FILE).write_text(json.dumps(config), "utf-8")
    infos = []
    for module in modules:
        out, inner = shape.linear()[module.split(".", 3)[3]]
        for part, size in (("A", (RANK, inner)), ("B", (out, RANK))):
            name = f"{PREFIX}{module}.lora_{part}.weight"
            infos.append(TensorInfo(name, size, "F32", 4 * math.prod(size), WEIGHTS_FILE))
    draw = np.random.default_rng(2)
    write_shard(
        folder / WEIGHTS_FILE, infos, lambda info: iter([(draw.standard_normal(info.shape) * 0.02).astype(np.float32)])
    )


def copied(source: Path, target: Path) -> None:
    """Copy a folder's weights, hash them, bring them onto the disk."""
    target.mkdir()
    for path in sorted(source.glob("*.safetensors")):
        shutil.copyfile(path, target / path.name)
        with (target / path.name).open("rb+") as file:
            hashlib.file_digest(file, "sha256")
            os.fsync(file.fileno())


def exported(source: Path, target: Path, encoding: str) -> None:
    """Write a GGUF."""
    model = resolve(str(source), source, offline=True)
    ready = prepare(model, Tokenizer(source), [encoding])
    write_gguf(ready, target, encoding, identify(model, finetune="bench", base=None, revision=None, lineage={}))


def one(step: str, folder: Path) -> None:
    """What a child does; prints its seconds."""
    model, target = folder / "model", folder / "made"
    began = time.perf_counter()
    if step == "fuse":
        files = resolve(str(model), model, offline=True)
        for _ in fused_adapter(folder / "adapter", files, target):
            pass
    elif step == "copy":
        copied(model, target)
    else:
        exported(model, target, step)
    print(time.perf_counter() - began)


def theirs(program: str, source: Path, target: Path, encoding: str) -> float:
    """Seconds of llama-quantize, and of bringing its file onto the disk."""
    began = time.perf_counter()
    threads = os.environ.get("OMP_NUM_THREADS") or str(os.cpu_count())
    subprocess.run([program, str(source), str(target), encoding, threads], check=True, capture_output=True)
    with target.open("rb+") as file:
        os.fsync(file.fileno())
    return time.perf_counter() - began


def anonymous(process: psutil.Process) -> int:
    """Bytes that no file backs."""
    rollup = Path(f"/proc/{process.pid}/smaps_rollup")
    try:
        if not rollup.exists():
            return int(process.memory_full_info().uss)
        return next(int(line.split()[1]) * 1024 for line in rollup.read_text().splitlines() if "Anonymous:" in line)
    except (OSError, psutil.Error, StopIteration):
        return 0


def computing() -> float:
    """Seconds that processors spent on this process's ended children; 0 under Windows."""
    times = os.times()
    return times.children_user + times.children_system


def ours(step: str, folder: Path, *, numpy: bool) -> tuple[float, int]:
    """Seconds of a step in a child, and the most anonymous memory it had."""
    command = [sys.executable, str(Path(__file__)), "--one", step, "--folder", str(folder)]
    peak = 0
    with subprocess.Popen([*command, *["--numpy"] * numpy], stdout=subprocess.PIPE, text=True) as child:
        process = psutil.Process(child.pid)
        while child.poll() is None:
            peak = max(peak, anonymous(process))
            time.sleep(0.02)
        assert child.stdout is not None
        said = child.stdout.read()
    if child.returncode:
        raise SystemExit(f"{step} failed")
    return float(said), peak


def cleared(path: Path) -> None:
    """Nothing there any more."""
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def compared(step: str, folder: Path, oracle: str | None, repeats: int, *, numpy: bool) -> None:
    """Print a line for a step."""
    seconds: dict[str, list[float]] = {"ours": [], "other": []}
    busy: dict[str, list[float]] = {"ours": [], "other": []}
    peaks, made = [0], folder / "made"

    def timed(who: str, act: Callable[[], float]) -> None:
        before = computing()
        seconds[who].append(act())
        busy[who].append(computing() - before)
        cleared(made)

    def measured(what: str) -> float:
        spent, peak = ours(what, folder, numpy=numpy)
        peaks.append(peak if what == step else 0)
        return spent

    for _ in range(repeats):
        timed("ours", lambda: measured(step))
        if step == "fuse":
            timed("other", lambda: measured("copy"))
        elif oracle:
            timed("other", lambda: theirs(oracle, folder / "source.gguf", made, step))
    cells = [f"{step:8}"]
    for found in (seconds, busy):
        mine, other = (statistics.median(found[who] or [math.nan]) for who in ("ours", "other"))
        cells.append(f"{mine:8.1f} {other:8.1f} {mine / other if other else math.nan:6.2f}")
    print(*cells, f"{max(peaks) / 1e6:8.0f}", flush=True)


def main() -> None:
    """Print a line for every step."""
    asked = argparse.ArgumentParser()
    asked.add_argument("steps", nargs="*", default=["fuse", "Q8_0", "Q4_K_M"])
    asked.add_argument("--shape", choices=SHAPES, default="1B")
    asked.add_argument("--layers", type=int)
    asked.add_argument("--folder", type=Path)
    asked.add_argument("--oracle", default=shutil.which("llama-quantize"))
    asked.add_argument("--repeats", type=int, default=3)
    asked.add_argument("--numpy", action="store_true")
    asked.add_argument("--one", help=argparse.SUPPRESS)
    options = asked.parse_args()
    if options.numpy:
        sys.modules["xllamacpp"] = None  # type: ignore[assignment]  # as where it is not installed
    if options.one:
        one(options.one, options.folder)
        return
    shape = SHAPES[options.shape]
    if options.layers:
        shape = Shape(**{**vars(shape), "layers": options.layers})
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        make_model(folder / "model", shape)
        make_adapter(folder / "adapter", shape)
        size = sum(2 * math.prod(size) for _, size in shape.tensors())
        print(f"{size / 1e9:.2f} GB of bfloat16 weights, {os.cpu_count()} cores; load before: {os.getloadavg()[0]:.1f}")
        if options.oracle and set(options.steps) != {"fuse"}:
            exported(folder / "model", folder / "source.gguf", "BF16")
        print("         seconds: ours, other, ratio  of processors: the same  anonymous MB", flush=True)
        for step in options.steps:
            compared(step, folder, options.oracle, options.repeats, numpy=options.numpy)


if __name__ == "__main__":
    main()
