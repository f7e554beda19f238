"""Memory of a run by item, before anything is loaded.

Weights, gradients and optimizer state are exact (from the safetensors headers and the adapter's shapes). Libraries,
activations, attention and the loss are estimates; a run compares the whole with its measured peak. Everything is in
bytes; GB (10^9) appears only where a person reads it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from localtune.adapter import Full, Lora, Nothing, Trainable
from localtune.backend import Device, Precision
from localtune.model import ModelFiles, TensorInfo
from localtune.sizes import readable

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
FLOATING = ("F32", "BF16", "F16")
"""Types in a header that are cast to the compute type when a model is opened."""
LIBRARIES = {
    ("torch", "cpu"): (500 * 10**6, "torch and its kernels, before a model"),
    ("torch", "cuda"): (600 * 10**6, "context and workspaces"),
    ("mlx", "cpu"): (300 * 10**6, "MLX and mlx-lm, before a model"),
    ("mlx", "cuda"): (600 * 10**6, "context and workspaces; not measured yet"),
    ("mlx", "metal"): (300 * 10**6, "MLX, mlx-lm and Metal's kernels, before a model; not measured yet"),
}
"""What a process holds before a model: resident libraries, or the context of a card. Measured on Linux but for the
last two, which are guesses until somebody measures them."""
NF4_SHARE = 0.5 + (1 + 4 / 256) / 64
"""Bytes per weight: half a byte, one for the scale of each 64, a float32 for 256 scales (Dettmers et al. 2023)."""
FP_SHARES = {"mxfp4": 0.5 + 1 / 32, "nvfp4": 0.5 + 1 / 16, "mxfp8": 1 + 1 / 32}
"""Bytes per weight: 4 or 8 bits, and one byte for the scale of each 32, with nvfp4 of each 16."""
SCORES_ABOVE = 2
"""Matrices of attention scores that MLX holds while one is formed, beside one for each block that is kept."""
MLX_COPIES, MLX_RECOMPUTED = 0.75, 0.1
"""What MLX keeps of the values below, and what it still keeps of each block that is recomputed; measured on Linux with
5 blocks (the latter with 4 and 24) and 256 to 1,024 tokens, where the whole came out 4 to 15 % over."""
HIDDEN_COPIES, FEED_FORWARD_COPIES = 18, 6
"""Values kept per token and block for the backward pass: so many times the hidden and the feed-forward width."""
LOSS_COPIES = 4
"""Logits of a chunk, their exponentials, the gradient, and one more while it is formed; float32."""
LOSS_QUEUED = 11
"""Such copies at most on MLX, which takes memory for work that is still queued: with 1, 2, 3, 4 and 8 chunks 4, 8, 11,
11 and 11 were measured on a processor."""
LOSS_BUDGET = 512 * 10**6
"""Bytes that logits may take with their copies."""


@dataclass(frozen=True)
class Item:
    """One part of the memory."""

    name: str
    size: int
    """Bytes."""
    why: str
    """The arithmetic in words."""


@dataclass(frozen=True)
class Load:
    """What a micro-batch puts on the device."""

    rows: int
    tokens: int
    """Length of a row."""
    loss_chunk: int
    checkpointing: bool


def loss_chunk(model: ModelFiles, device: Device) -> int:
    """Targets whose logits are computed together: as many as the budget allows, 64 to 4,096."""
    copies = LOSS_QUEUED if device.backend == "mlx" else LOSS_COPIES
    return max(64, min(4096, LOSS_BUDGET // (4 * copies * model.config.vocabulary)))


def adapted(model: ModelFiles, lora: Lora) -> list[TensorInfo]:
    """The weights of the model that get an adapter."""
    return [t for t in model.weights if _module(t.name) in lora.targets and len(t.shape) == 2]


def trainable_count(model: ModelFiles, trainable: Trainable) -> int:
    """Number of weights that train."""
    return sum(math.prod(shape) for shape in trained_shapes(model, trainable))


def trained_shapes(model: ModelFiles, trainable: Trainable) -> list[tuple[int, ...]]:
    """The shape of every tensor that trains: those of the model, or A, B and DoRA's magnitude of each adapted one."""
    match trainable:
        case Full():
            return [tensor.shape for tensor in model.weights]
        case Lora(rank=rank, dora=dora):
            shapes = [tensor.shape for tensor in adapted(model, trainable)]
            return [part for out, inputs in shapes for part in ((rank, inputs), (out, rank), *[(out,)] * dora)]
        case Nothing():
            return []


def memory_items(
    model: ModelFiles,
    trainable: Trainable,
    precision: Precision,
    device: Device,
    load: Load,
    optimizer: str = "adamw",
) -> list[Item]:
    """Every part of the peak; `optimizer` is the name of an `OptimizerSpec`."""
    size, why = LIBRARIES.get((device.backend, device.kind), (0, "not known"))
    return [
        Item("libraries", size, why),
        _weights(model, trainable, precision),
        _trained(trained_shapes(model, trainable), optimizer),
        _activations(model, precision, device, load),
        _attention(model, device, load),
        _loss(model, device, load),
    ]


def state_size(shapes: Sequence[tuple[int, ...]], optimizer: str) -> int:
    """Bytes of the optimizer's state for tensors of `shapes`, all float32.

    AdamW keeps two moments, Lion one; Adafactor a row and a column of a matrix, and a moment of anything else.
    """
    if optimizer == "adafactor":
        return sum(4 * (sum(shape) if len(shape) == 2 else math.prod(shape)) for shape in shapes)
    return (4 if optimizer == "lion" else 8) * sum(map(math.prod, shapes))


def _trained(shapes: Sequence[tuple[int, ...]], optimizer: str) -> Item:
    count, state = sum(map(math.prod, shapes)), state_size(shapes, optimizer)
    name = {"adamw": "AdamW", "lion": "Lion", "adafactor": "Adafactor"}[optimizer]
    if optimizer == "adafactor":
        why = f"{count:,} weights x (4 weight + 4 gradient) bytes + {readable(state)} for rows and columns ({name})"
    else:
        why = f"{count:,} weights x (4 weight + 4 gradient + {4 if optimizer == 'lion' else 8} {name}) bytes"
    return Item("what trains", 8 * count + state, why)


def _weights(model: ModelFiles, trainable: Trainable, precision: Precision) -> Item:
    if isinstance(trainable, Full):
        size = 2 * model.parameters * BYTES[precision.compute] if precision.compute != "float32" else 0
        return Item("base weights", size, f"{precision.compute} copies of the weights that train and their gradients")
    if precision.storage == "checkpoint":
        return _as_packed(model, precision)
    if precision.storage in (*BYTES, "int8"):
        each = BYTES.get(precision.storage, 1)
        return Item("base weights", model.parameters * each, f"{model.parameters:,} weights x {each} bytes")
    inside = [tensor for tensor in model.weights if _quantised(tensor)]
    quantised = sum(math.prod(tensor.shape) for tensor in inside)
    packed = math.fsum(math.prod(tensor.shape) * share(precision, tensor.shape[1]) for tensor in inside)
    rest = model.parameters - quantised
    mean = packed / max(1, quantised)
    why = f"{quantised:,} weights x {mean:.3f} bytes ({precision.storage}) + {rest:,} kept in {precision.compute}"
    return Item("base weights", round(packed) + rest * BYTES[precision.compute], why)


def _as_packed(model: ModelFiles, precision: Precision) -> Item:
    """A base quantised in its files: packed words and byte scales stay, floating tensors take the compute type."""
    floats = [tensor for tensor in model.tensors if tensor.dtype in FLOATING]
    count = sum(math.prod(tensor.shape) for tensor in floats)
    packed = model.size - sum(tensor.size for tensor in floats)
    each = BYTES[precision.compute]
    why = f"{readable(packed)} as packed in the files + {count:,} scales and weights x {each} bytes"
    return Item("base weights", packed + count * each, why)


def share(precision: Precision, width: int) -> float:
    """Bytes per weight of a quantised matrix of `width` columns, its scales included."""
    if precision.storage == "nf4":
        return NF4_SHARE
    if precision.storage in FP_SHARES:
        return FP_SHARES[precision.storage]
    bits = int(precision.storage.removeprefix("affine"))
    return bits / 8 + 2 * BYTES[precision.compute] / (64 if width % 64 == 0 else 32)


def _activations(model: ModelFiles, precision: Precision, device: Device, load: Load) -> Item:
    config, tokens, each = model.config, load.rows * load.tokens, BYTES[precision.compute]
    values, kept = HIDDEN_COPIES * config.hidden + FEED_FORWARD_COPIES * config.feed_forward, config.hidden
    if device.backend == "mlx":
        values, kept = round(MLX_COPIES * values), kept + round(MLX_RECOMPUTED * values)
    shown = f"{load.rows} x {load.tokens:,} tokens"
    if load.checkpointing:
        size = tokens * each * (values + config.layers * kept)
        why = f"{shown} x ({values:,} of one block + {config.layers} blocks x {kept:,} kept) x {each} bytes"
    else:
        size = tokens * each * values * config.layers
        why = f"{shown} x {config.layers} blocks x {values:,} values x {each} bytes"
    return Item("activations", size, why)


def _attention(model: ModelFiles, device: Device, load: Load) -> Item:
    square = load.rows * load.tokens**2
    if device.backend == "mlx":  # no backward pass of MLX's attention is fused
        kept = SCORES_ABOVE + (1 if load.checkpointing else model.config.layers)
        why = f"{load.rows} x {load.tokens:,}² x ({model.config.heads} heads x {kept} scores x 4 + 1) bytes"
        return Item("attention", square * (1 + 4 * model.config.heads * kept), why)
    if model.config.model_type.startswith("gemma2"):  # soft-capped scores are kept: no fused kernel computes them
        blocks = 1 if load.checkpointing else model.config.layers
        size = square * (1 + 12 * model.config.heads * blocks)
        return Item("attention", size, f"{load.rows} x {load.tokens:,}² x {model.config.heads} heads x {blocks} blocks")
    return Item("attention", square * 5, f"masks: {load.rows} x {load.tokens:,}² x (1 + 4) bytes")


def _loss(model: ModelFiles, device: Device, load: Load) -> Item:
    targets, vocabulary = load.rows * load.tokens, model.config.vocabulary
    chunk, copies = min(load.loss_chunk, targets), LOSS_COPIES
    if device.backend == "mlx":
        copies = min(LOSS_QUEUED, LOSS_COPIES * -(-targets // chunk))
    why = f"{chunk:,} targets x {vocabulary:,} vocabulary x {4 * copies} bytes"
    return Item("loss", chunk * vocabulary * 4 * copies, why)


def _module(name: str) -> str:
    return name.removesuffix(".weight").rsplit(".", 1)[-1]


def _quantised(tensor: TensorInfo) -> bool:
    return len(tensor.shape) == 2 and ".layers." in tensor.name


def largest(items: Sequence[Item]) -> Item:
    """The item that dominates."""
    return max(items, key=lambda item: item.size)
