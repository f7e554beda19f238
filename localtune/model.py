"""A model's files: found or downloaded, checked, and described by known keys. Nothing of a model is ever executed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class TensorInfo:
    """One tensor as the safetensors header states it."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    """As in the header: F32, BF16, F16, I8, …"""
    size: int
    """Bytes."""
    shard: str
    """File name."""


@dataclass(frozen=True)
class ModelConfig:
    """The known keys of `config.json`."""

    architecture: str
    """Such as "LlamaForCausalLM"."""
    model_type: str
    layers: int
    hidden: int
    feed_forward: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    """Rows of the embedding."""
    context: int
    """Longest sequence the model was made for."""
    tied: bool
    rope_theta: float | None
    rope_scaling: dict[str, Any] | None
    """rope_type and its parameters, from `rope_scaling` or transformers 5's `rope_parameters`; None = default."""
    sliding_window: int | None
    dtype: str
    """float32, bfloat16 or float16."""
    quantized: str | None
    """Method of a checkpoint that is already quantised."""


@dataclass(frozen=True)
class ModelFiles:
    """A model on this machine, ready to be opened."""

    name: str
    """What the user asked for: hub id or folder."""
    folder: Path
    revision: str | None
    """Commit of the hub snapshot; None for a folder."""
    config: ModelConfig
    tensors: tuple[TensorInfo, ...]
    stop_ids: tuple[int, ...]
    """Every eos id of `generation_config.json` and `config.json`, in that order."""

    @property
    def parameters(self) -> int:
        """Number of weights."""
        total = 0
        for tensor in self.tensors:
            count = 1
            for extent in tensor.shape:
                count *= extent
            total += count
        return total

    @property
    def size(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.size for tensor in self.tensors)
