"""What would train a different model here than elsewhere, or leak between packed examples: refused by name.

Decided from the model's configuration and the settings; no weight is read.
"""

import importlib.util
import inspect
from collections.abc import Iterator
from typing import Any

import torch

from localtune.adapter import Full, Lora
from localtune.backend import Precision, Refusal, Settings
from localtune.model import ModelFiles
from localtune.model.own_code import NATIVE
from localtune_torch import libraries
from localtune_torch.nf4_kernel import misread

PACKABLE_LAYERS = {"full_attention", "sliding_attention"}
"""Layer types whose mask transformers restarts with the positions. Convolution and recurrence carry state across."""
RECURRENT_MODELS = {
    "bamba", "falcon_h1", "falcon_mamba", "granitemoehybrid", "jamba", "kimi_linear", "lfm2", "lfm2_moe", "mamba",
    "mamba2", "minimax", "nemotron_h", "olmo_hybrid", "qwen3_next", "recurrent_gemma", "rwkv", "xlstm", "zamba",
    "zamba2",
}  # fmt: skip
"""Models with such layers, by `model_type`, for configurations that do not list their layers."""
LENGTH_DEPENDENT_ROPE = ("dynamic", "longrope")
"""Scalings that look at the longest position of a whole batch."""
PRECISIONS = {
    ("float32", "float32"), ("float32", "bfloat16"), ("bfloat16", "bfloat16"), ("nf4", "float32"), ("nf4", "bfloat16")
}  # fmt: skip
"""Storage and compute types that are supported together."""

COMMON = NATIVE
"""Models that are known to keep a cache and to take position ids, so that transformers, whose import takes seconds,
need not be asked before a run begins; a test asks it."""
UNPACK = "--set train.pack=false"


def refusals(model: ModelFiles, settings: Settings) -> list[Refusal]:
    """Everything that is refused; empty = nothing."""
    found = list(_model(model))
    if not found:
        found += _attention(model, settings)
    found += _precision(settings.precision, settings)
    missing = list(_missing(settings.precision))
    return found + (missing or list(_misread(model, settings.precision)))


def _model(model: ModelFiles) -> Iterator[Refusal]:
    config = model.config
    if not _is_common(model):
        yield from _uncommon(config.model_type, config.architecture)
    if config.quantized:
        reason = f"the checkpoint is already quantised ({config.quantized})"
        mlx = "--backend mlx   or " if config.quantized == "mlx" else ""
        yield Refusal("model", reason, f"{mlx}name the original 16-bit model; train.method=qlora quantises it here")


def _is_common(model: ModelFiles) -> bool:
    return COMMON.get(model.config.model_type) == model.config.architecture


def _uncommon(model_type: str, architecture: str) -> Iterator[Refusal]:
    if causal_models().get(model_type) != architecture:
        known = "is no text-only causal language model of the installed transformers"
        yield Refusal("model", f"{architecture} (model_type {model_type}) {known}")
    elif "past_key_values" not in forward_parameters(architecture):
        yield Refusal("model", f"{architecture} keeps no key-value cache, which answering here needs")


def _attention(model: ModelFiles, settings: Settings) -> Iterator[Refusal]:
    config = model.config
    scaling = (config.rope_scaling or {}).get("rope_type")
    if scaling in LENGTH_DEPENDENT_ROPE:
        if settings.packed:
            yield Refusal("train.pack", f"{scaling} rotary scaling depends on the length of the whole row", UNPACK)
        original = (config.rope_scaling or {}).get("original_max_position_embeddings")
        if original and settings.max_tokens > original:
            reason = f"{scaling} rotary scaling beyond {original} tokens changes with the longest row of a batch"
            yield Refusal("data.max_tokens", reason, f"--set data.max_tokens={original}")
    if settings.packed and (reason := _unpackable(model)):
        yield Refusal("train.pack", reason, UNPACK)


def _unpackable(model: ModelFiles) -> str:
    if _is_common(model):
        return ""
    transformers = libraries.transformers()
    config: Any = transformers.AutoConfig.from_pretrained(model.folder, local_files_only=True, trust_remote_code=False)
    others = sorted(set(getattr(config, "layer_types", None) or ()) - PACKABLE_LAYERS)
    if others or model.config.model_type in RECURRENT_MODELS:
        kind = ", ".join(others) or "recurrent"
        return f"{model.config.architecture} has {kind} layers, which carry state from one packed example to the next"
    if "position_ids" not in forward_parameters(model.config.architecture):
        return f"{model.config.architecture} takes no position ids, so packed examples would see each other"
    return ""


def _precision(precision: Precision, settings: Settings) -> Iterator[Refusal]:
    storage, compute = precision.storage, precision.compute
    if storage == "int8":
        yield Refusal("train.method", "int8 in bitsandbytes also rounds the activations, unlike any other backend")
    elif compute == "float16":
        yield Refusal("train.precision", "float16 needs loss scaling, which is not done", "--set train.precision=auto")
    elif storage in ("affine2", "affine3", "affine4", "affine6", "affine8", "mxfp4", "nvfp4", "mxfp8"):
        yield Refusal("train.quantize", f"{storage} is MLX's; PyTorch has nf4", "--set train.quantize=auto")
    elif storage != "checkpoint" and (storage, compute) not in PRECISIONS:
        yield Refusal("train.precision", f"a {storage} base does not compute in {compute} here")
    if isinstance(settings.trainable, Full) and storage != "float32":
        yield Refusal("train.method", f"full fine-tuning trains float32 weights, not {storage}")
    if compute == "bfloat16" and torch.cuda.is_available() and torch.cuda.get_device_capability()[0] < 8:
        reason = f"{torch.cuda.get_device_name()} has no bfloat16"
        yield Refusal("train.precision", reason, "--set train.precision=float32")
    lora = settings.trainable
    if isinstance(lora, Lora) and lora.dora and storage == "nf4" and compute == "bfloat16":
        reason = "DoRA over NF4 takes its norms in bfloat16 in peft, so it would not start from the base model"
        yield Refusal("lora.dora", reason, "--set train.precision=float32")


def _missing(precision: Precision) -> Iterator[Refusal]:
    if precision.storage == "nf4" and importlib.util.find_spec("bitsandbytes") is None:
        yield Refusal("train.method", "NF4 needs bitsandbytes, which is not installed", "pip install bitsandbytes")


def _misread(model: ModelFiles, precision: Precision) -> Iterator[Refusal]:
    if precision.storage != "nf4" or torch.cuda.is_available():
        return
    widths = misread(tensor.shape[-1] for tensor in model.weights if len(tensor.shape) == 2)
    if widths:
        shown = ", ".join(map(str, widths[:3]))
        reason = f"bitsandbytes on this processor reads NF4 rows of {shown} values wrongly"
        yield Refusal("train.method", reason, "--set train.method=lora   or   --backend mlx")


def forward_parameters(architecture: str) -> set[str]:
    """Names of what `forward` of that class of transformers takes."""
    return set(inspect.signature(getattr(libraries.transformers(), architecture).forward).parameters)


def causal_models() -> dict[str, str]:
    """`model_type` -> class of every causal language model of the installed transformers."""
    libraries.transformers()
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return dict(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
