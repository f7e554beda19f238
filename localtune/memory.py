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

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
LIBRARIES = {"cpu": 500 * 10**6, "cuda": 600 * 10**6, "metal": 0, "none": 0}
"""What a process holds before a model: libraries (CPU, resident), or the context and workspaces of CUDA."""
NF4_SHARE = 0.5 + (1 + 4 / 256) / 64
"""Bytes per weight: half a byte, one for the scale of each 64, a float32 for 256 scales (Dettmers et al. 2023)."""
HIDDEN_COPIES, FEED_FORWARD_COPIES = 18, 6
"""Values kept per token and block for the backward pass: so many times the hidden and the feed-forward width."""
LOSS_COPIES = 4
"""Logits of a chunk, their exponentials, the gradient, and one more while it is formed; float32."""


LOSS_BUDGET = 512 * 10**6
"""Bytes that the logits of a chunk may take with their copies."""


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


def loss_chunk(model: ModelFiles) -> int:
    """Targets whose logits exist at once: as many as the budget allows, 64 to 4,096."""
    return max(64, min(4096, LOSS_BUDGET // (4 * LOSS_COPIES * model.config.vocabulary)))


def adapted(model: ModelFiles, lora: Lora) -> list[TensorInfo]:
    """The weights of the model that get an adapter."""
    return [t for t in model.tensors if _module(t.name) in lora.targets and len(t.shape) == 2]


def trainable_count(model: ModelFiles, trainable: Trainable) -> int:
    """Number of weights that train."""
    match trainable:
        case Full():
            return model.parameters
        case Lora(rank=rank, dora=dora):
            shapes = [tensor.shape for tensor in adapted(model, trainable)]
            return sum(rank * (out + inputs) + dora * out for out, inputs in shapes)
        case Nothing():
            return 0


def memory_items(
    model: ModelFiles, trainable: Trainable, precision: Precision, device: Device, load: Load
) -> list[Item]:
    """Every part of the peak."""
    count = trainable_count(model, trainable)
    libraries = "torch and its kernels, before a model" if device.kind == "cpu" else "context and workspaces"
    return [
        Item("libraries", LIBRARIES[device.kind], libraries),
        _weights(model, trainable, precision),
        Item("what trains", 16 * count, f"{count:,} weights x (4 weight + 4 gradient + 8 AdamW) bytes"),
        _activations(model, precision, load),
        _attention(model, load),
        _loss(model, load),
    ]


def _weights(model: ModelFiles, trainable: Trainable, precision: Precision) -> Item:
    if isinstance(trainable, Full):
        size = 2 * model.parameters * BYTES[precision.compute] if precision.compute != "float32" else 0
        return Item("base weights", size, f"{precision.compute} copies of the weights that train and their gradients")
    if precision.storage != "nf4":
        each = BYTES.get(precision.storage, 1)
        return Item("base weights", model.parameters * each, f"{model.parameters:,} weights x {each} bytes")
    quantised = sum(math.prod(t.shape) for t in model.tensors if _quantised(t))
    rest = (model.parameters - quantised) * BYTES[precision.compute]
    why = (
        f"{quantised:,} weights x {NF4_SHARE:.3f} bytes + {model.parameters - quantised:,} kept in {precision.compute}"
    )
    return Item("base weights", round(quantised * NF4_SHARE) + rest, why)


def _activations(model: ModelFiles, precision: Precision, load: Load) -> Item:
    config, tokens, each = model.config, load.rows * load.tokens, BYTES[precision.compute]
    values = HIDDEN_COPIES * config.hidden + FEED_FORWARD_COPIES * config.feed_forward
    shown = f"{load.rows} x {load.tokens:,} tokens"
    if load.checkpointing:
        size = tokens * each * (values + config.layers * config.hidden)
        why = f"{shown} x ({values:,} of one block + {config.layers} block inputs of {config.hidden:,}) x {each} bytes"
    else:
        size = tokens * each * values * config.layers
        why = f"{shown} x {config.layers} blocks x {values:,} values x {each} bytes"
    return Item("activations", size, why)


def _attention(model: ModelFiles, load: Load) -> Item:
    square = load.rows * load.tokens**2
    if model.config.model_type.startswith("gemma2"):  # soft-capped scores are kept: no fused kernel computes them
        blocks = 1 if load.checkpointing else model.config.layers
        size = square * (1 + 12 * model.config.heads * blocks)
        return Item("attention", size, f"{load.rows} x {load.tokens:,}² x {model.config.heads} heads x {blocks} blocks")
    return Item("attention", square * 5, f"masks: {load.rows} x {load.tokens:,}² x (1 + 4) bytes")


def _loss(model: ModelFiles, load: Load) -> Item:
    chunk = min(load.loss_chunk, load.rows * load.tokens)
    size = chunk * model.config.vocabulary * 4 * LOSS_COPIES
    return Item("loss", size, f"{chunk:,} targets x {model.config.vocabulary:,} vocabulary x {4 * LOSS_COPIES} bytes")


def _module(name: str) -> str:
    return name.removesuffix(".weight").rsplit(".", 1)[-1]


def _quantised(tensor: TensorInfo) -> bool:
    return len(tensor.shape) == 2 and ".layers." in tensor.name


def readable(size: float) -> str:
    """`size` for a person."""
    for limit, text in ((1e7, f"{size / 1e6:.1f} MB"), (1e9, f"{size / 1e6:.0f} MB"), (1e10, f"{size / 1e9:.2f} GB")):
        if size < limit:
            return text
    return f"{size / 1e9:.1f} GB"


def largest(items: Sequence[Item]) -> Item:
    """The item that dominates."""
    return max(items, key=lambda item: item.size)
