"""What would train a different model here than elsewhere: refused by name.

Decided from the model's configuration and the settings; no weight is read.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from localtune.adapter import Full
from localtune.backend import Precision, Refusal, Settings
from localtune.model import ModelFiles
from localtune_mlx.families import CHANGING, FAMILIES, Family, longest, raw_config, rotary_share, sliding_pattern
from localtune_mlx.quantising import GRIDS, group_for

OPTIMIZERS = ("adamw", "adafactor", "lion")
OTHER = "--backend torch"
PRECISIONS = {("float32", "float32"), ("bfloat16", "bfloat16"), ("float16", "float16")}
"""Storage and compute types of a base in 16 or 32 bits."""


def refusals(model: ModelFiles, settings: Settings) -> list[Refusal]:
    """Everything that is refused; empty = nothing."""
    family = FAMILIES.get(model.config.model_type)
    if family is None:
        known = ", ".join(FAMILIES)
        reason = f"{model.config.architecture} has not been compared with PyTorch here; compared: {known}"
        return [Refusal("model", reason, OTHER), *_precision(model, settings)]
    found = [*_family(model, family), *_rotary(model, family), *_window(model, settings)]
    return found + list(_precision(model, settings))


def _family(model: ModelFiles, family: Family) -> Iterator[Refusal]:
    """What mlx-lm's code of the family cannot be told."""
    config = raw_config(model)
    activation = config.get("hidden_activation") or config.get("hidden_act") or family.activation
    if activation != family.activation:
        yield Refusal("model", f"mlx-lm computes {family.activation} where the model has {activation}", OTHER)
    for key, harmless in CHANGING.items():
        if key not in family.reads and config.get(key) not in (None, *harmless):
            yield Refusal("model", f"mlx-lm ignores {key} ({config[key]}) of this architecture", OTHER)
    if "attn_logit_softcapping" in family.reads and None in (config.get(key, 0) for key in family.reads):
        yield Refusal("model", "mlx-lm caps the logits of every such model, and this one has no caps", OTHER)
    if family.tied and not model.config.tied:
        yield Refusal("model", "mlx-lm takes the embedding for the head, and this model has a head of its own", OTHER)
    if model.config.model_type == "qwen2" and model.config.head_dim * model.config.heads != model.config.hidden:
        yield Refusal("model", f"mlx-lm ignores head_dim ({model.config.head_dim}) of this architecture", OTHER)
    if family.windows == "by layer" and sliding_pattern(config, model.config.layers) is None:
        yield Refusal("model", "its sliding layers follow no pattern that mlx-lm can be told", OTHER)
    if others := {str(kind) for kind in config.get("layer_types") or ()} - {"full_attention", "sliding_attention"}:
        yield Refusal("model", f"it has {', '.join(sorted(others))} layers", OTHER)


def _rotary(model: ModelFiles, family: Family) -> Iterator[Refusal]:
    scaling = model.config.rope_scaling or {}
    kind = scaling.get("rope_type")
    if kind == "longrope":
        reason = "mlx-lm ignores the short factors of longrope, which hold up to the original context"
        yield Refusal("model", reason, OTHER)
    elif kind is not None and (kind not in family.scalings or _yarn_differs(scaling)):
        yield Refusal("model", f"this {kind} rotary scaling gives other numbers in mlx-lm than in PyTorch", OTHER)
    if kind in ("linear", "llama3", "yarn") and not isinstance(scaling.get("factor"), int | float):
        fix = "get a fresh copy of the model's files"
        yield Refusal("model", f"its {kind} rotary scaling has no factor", fix)
    try:
        share = rotary_share(raw_config(model))
    except ValueError as error:
        yield Refusal("model", f"config.json: {error}", "get a fresh copy of the model's files")
    else:
        if share != 1 and family.module != "phi3":
            yield Refusal("model", f"only {share:g} of each head rotates, which mlx-lm ignores", OTHER)


def _yarn_differs(scaling: Mapping[str, Any]) -> bool:
    """mlx-lm reads neither a factor of the attention nor `truncate`, and takes a missing mscale for another value."""
    one_alone = (scaling.get("mscale") is None) != (scaling.get("mscale_all_dim") is None)
    stated = scaling.get("attention_factor") is not None or scaling.get("truncate") is False
    return scaling["rope_type"] == "yarn" and (stated or one_alone)


def _window(model: ModelFiles, settings: Settings) -> Iterator[Refusal]:
    window = longest(model)
    if window is not None and settings.max_tokens > window:
        reason = f"mlx-lm ignores this model's sliding window of {window:,} tokens, so longer texts would differ"
        yield Refusal("data.max_tokens", reason, f"--set data.max_tokens={window}")


def _precision(model: ModelFiles, settings: Settings) -> Iterator[Refusal]:
    precision, full = settings.precision, isinstance(settings.trainable, Full)
    quantised = model.config.quantized
    if settings.optimizer is not None and settings.optimizer.name not in OPTIMIZERS:
        fix = f"--set train.optimizer={OPTIMIZERS[0]}"
        yield Refusal("train.optimizer", f"MLX here has no {settings.optimizer.name}", fix)
    if precision.compute == "float16":
        yield Refusal("train.precision", "float16 needs loss scaling, which is not done", "--set train.precision=auto")
    if quantised not in (None, "mlx"):
        reason = f"the checkpoint is quantised for another library ({quantised})"
        yield Refusal("model", reason, "name the original 16-bit model; train.method=qlora quantises it here")
    elif quantised == "mlx" and full:
        reason = "a quantised base has no weights to train"
        yield Refusal("train.method", reason, "--set train.method=lora   or name the original 16-bit model")
    elif quantised == "mlx" and precision.storage != "checkpoint":
        yield Refusal("train.quantize", "the base is already quantised in its files", "--set train.quantize=auto")
    else:
        yield from _storage(model, precision, full)


def _storage(model: ModelFiles, precision: Precision, full: bool) -> Iterator[Refusal]:
    storage, compute = precision.storage, precision.compute
    if full and storage != "float32":
        yield Refusal("train.method", f"full fine-tuning trains float32 weights, not {storage}")
    elif storage in GRIDS:
        yield from _widths(model, storage)
    elif storage in ("nf4", "int8"):
        yield Refusal("train.quantize", f"MLX has no {storage}; it has {', '.join(GRIDS)}", "--set train.quantize=auto")
    elif storage == "checkpoint":
        if model.config.quantized is None:
            yield Refusal("train.quantize", "the base is not quantised in its files", "--set train.quantize=auto")
    elif not full and (storage, compute) not in PRECISIONS:
        yield Refusal("train.precision", f"a {storage} base does not compute in {compute} here")


def _widths(model: ModelFiles, storage: str) -> Iterator[Refusal]:
    config = model.config
    widths: dict[str, Any] = {
        "hidden_size": config.hidden,
        "intermediate_size": config.feed_forward,
        "num_attention_heads x head_dim": config.heads * config.head_dim,
    }
    for name, width in widths.items():
        try:
            group_for(GRIDS[storage], width)
        except ValueError as error:
            yield Refusal("train.quantize", f"{name}: {error}", "--set train.method=lora")
            return
