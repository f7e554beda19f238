"""Weights on disk to a model of mlx-lm: from the folder alone, safetensors only, no code of the model's own.

Exact: every tensor of the checkpoint lands in the model, or the folder is refused. Only linear layers inside the blocks
are quantised here; embeddings, head, norms and biases stay in the compute type. A checkpoint in the mlx-community
layout keeps the quantisation it has. Arrays are read as they are needed and one block at a time, so that a quantised
base never lies in memory in 16 bits.
"""

import math
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from localtune.adapter import CONFIG_FILE
from localtune.backend import Precision
from localtune.errors import InputError, Problem
from localtune.model import ModelFiles
from localtune_mlx import libraries
from localtune_mlx.families import FAMILIES, arguments, raw_config
from localtune_mlx.memory import tells_of_memory
from localtune_mlx.packing import Rotary
from localtune_mlx.quantising import GRIDS, group_for

DTYPES = {"float32": mx.float32, "bfloat16": mx.bfloat16, "float16": mx.float16}
HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"


def load(model: ModelFiles, precision: Precision) -> Any:
    """The model, frozen. Raises `InputError` for weights that do not fit the configuration."""
    if (model.folder / CONFIG_FILE).exists():
        raise _does_not_fit(model, "this folder is an adapter, whose own base would be loaded instead")
    module = libraries.models(FAMILIES[model.config.model_type].module)
    try:
        loaded = module.Model(module.ModelArgs.from_dict(arguments(model)))
        weights = loaded.sanitize(_read(model)) if hasattr(loaded, "sanitize") else _read(model)
        if precision.storage == "checkpoint":
            _quantise_as_stored(loaded, model, weights)
        loaded.load_weights(list(weights.items()), strict=True)
        weights.clear()  # what is quantised below must not stay in 16 bits
        _settle(loaded, model, precision)
    except (ValueError, KeyError, TypeError, RuntimeError, OSError) as error:
        if tells_of_memory(str(error)):
            raise
        raise _does_not_fit(model, str(error)) from None
    return loaded


def linear_layers(model: Any) -> dict[str, nn.Module]:
    """Every linear layer inside the blocks by its name in the checkpoint, quantised or not."""
    kinds = (nn.Linear, nn.QuantizedLinear)
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, kinds) and ".layers." in name}


def replace(model: Any, name: str, layer: nn.Module) -> None:
    """Put `layer` where the module `name` is."""
    parent, _, last = name.rpartition(".")
    setattr(at(model, parent), last, layer)


def at(model: Any, name: str) -> Any:
    """The module called `name`, such as "model.layers.0.self_attn"."""
    for part in name.split(".") if name else ():
        model = model[int(part)] if part.isdigit() else getattr(model, part)
    return model


def _read(model: ModelFiles) -> dict[str, mx.array]:
    weights: dict[str, mx.array] = {}
    for shard in sorted({tensor.shard for tensor in model.tensors}):
        weights |= mx.load(str(model.folder / shard))  # type: ignore[arg-type]
    if model.config.tied and EMBEDDING not in weights and HEAD in weights:
        weights[EMBEDDING] = weights.pop(HEAD)
    if model.config.tied:
        weights.pop(HEAD, None)
    return weights


def _quantise_as_stored(loaded: Any, model: ModelFiles, weights: dict[str, mx.array]) -> None:
    """Give each layer whose scales are in the file the quantisation that `config.json` states for it."""
    stated = raw_config(model)["quantization"]
    common = {key: stated[key] for key in ("group_size", "bits", "mode") if key in stated}

    def parameters(name: str, layer: nn.Module) -> Any:
        if f"{name}.scales" not in weights or not hasattr(layer, "to_quantized"):
            return False
        own = stated.get(name)
        return own if isinstance(own, dict) else common

    nn.quantize(loaded, class_predicate=parameters)


def _settle(loaded: Any, model: ModelFiles, precision: Precision) -> None:
    """Types, quantisation, rotary positions; block by block, so that one block at most lies in memory twice."""
    dtype = DTYPES[precision.storage if precision.storage in DTYPES else precision.compute]
    for block in loaded.layers:
        _cast(block, dtype)
        if precision.storage in GRIDS:
            _quantise(block, precision.storage)
        mx.eval(block.parameters())
    _cast(loaded, dtype)
    mx.eval(loaded.parameters())
    if model.config.model_type == "gemma3_text" and dtype == mx.float32:
        _scale_exactly(loaded.model.embed_tokens, model.config.hidden)
    for name, layer in list(loaded.named_modules()):
        if name.endswith(".rope"):
            replace(loaded, name, Rotary(layer))
    loaded.freeze()
    loaded.eval()


def _scale_exactly(embedding: Any, hidden: int) -> None:
    """mlx-lm multiplies Gemma 3's embeddings by sqrt(hidden) rounded to bfloat16 whatever they compute in."""
    kind, exact = type(embedding), math.sqrt(hidden)
    rounded = float(mx.array(exact, mx.bfloat16))

    def call(self: Any, tokens: mx.array) -> mx.array:
        looked_up: mx.array = kind.__call__(self, tokens)
        return looked_up * (exact / rounded)

    embedding.__class__ = type(kind.__name__, (kind,), {"__call__": call})


def _cast(block: nn.Module, dtype: mx.Dtype) -> None:
    """Floating arrays to `dtype`; the packed words and byte scales of a quantised layer are no floats."""
    block.apply(lambda array: array.astype(dtype) if mx.issubdtype(array.dtype, mx.floating) else array)


def _quantise(block: nn.Module, storage: str) -> None:
    """Layer by layer: what quantising needs in between is many times what comes out."""
    grid = GRIDS[storage]
    for name, layer in list(block.named_modules()):
        if isinstance(layer, nn.Linear):
            group = group_for(grid, layer.weight.shape[-1])
            replace(block, name, layer.to_quantized(group_size=group, bits=grid.bits, mode=grid.mode))
            mx.eval(at(block, name).parameters())


def _does_not_fit(model: ModelFiles, reason: str) -> InputError:
    line = " ".join(reason.split())[:300] or "unknown"
    what = f"the weights do not fit the configuration: {line}"
    fix = "download the model again, or correct its config.json"
    return InputError(Problem("model.weights", what, where=str(model.folder), fix=fix))
