"""Weights on disk to a transformers model on the device: from the folder alone, safetensors only, no remote code.

Exact: every tensor of the checkpoint lands in the model or the folder is refused; nothing is drawn at random. The
base's own dropout is set to 0, so that only the adapter's dropout is random. NF4 is bitsandbytes' with double
quantisation (Dettmers et al. 2023); the head and the embeddings stay in the compute type, as do norms and biases.
Attention is PyTorch's fused one, which computes the same function; models that cap attention scores (Gemma 2) take
the eager one, since the fused kernels have no cap.
"""

from typing import Any

import torch
from safetensors import SafetensorError

from localtune.adapter import CONFIG_FILE
from localtune.backend import Precision
from localtune.errors import InputError, Problem
from localtune.model import ModelFiles
from localtune_torch import libraries

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load(model: ModelFiles, precision: Precision, device: torch.device) -> Any:
    """The model in evaluation mode with gradients off. Raises `InputError` for weights that do not fit."""
    if (model.folder / CONFIG_FILE).exists():
        raise _does_not_fit(model, "this folder is an adapter, whose own base would be loaded instead")
    transformers = libraries.transformers()
    config = transformers.AutoConfig.from_pretrained(model.folder, local_files_only=True, trust_remote_code=False)
    _no_dropout_in(config)
    kind = getattr(transformers, model.config.architecture)
    quantised = precision.storage == "nf4"
    try:
        loaded, report = kind.from_pretrained(
            model.folder,
            config=config,
            dtype=DTYPES[precision.compute if quantised else precision.storage],
            attn_implementation=attention(kind, config),
            quantization_config=_nf4(precision) if quantised else None,
            device_map={"": device},
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise _does_not_fit(model, str(error)) from None
    except RuntimeError as error:
        if "size mismatch" not in str(error) and "mismatch" not in str(error):
            raise
        raise _does_not_fit(model, str(error)) from None
    wrong = sorted(report["missing_keys"]) + sorted(str(entry) for entry in report["mismatched_keys"])
    if wrong:
        raise _does_not_fit(model, "not in the checkpoint, or of another shape: " + ", ".join(wrong[:5]))
    _settle(loaded)
    return loaded


def attention(kind: Any, config: Any) -> str:
    """The attention implementation that computes what the model defines: "sdpa" or "eager"."""
    capped = getattr(config, "attn_logit_softcapping", None) is not None
    return "eager" if capped or not getattr(kind, "_supports_sdpa", False) else "sdpa"


def _nf4(precision: Precision) -> Any:
    libraries.bitsandbytes()
    return libraries.transformers().BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=DTYPES[precision.compute],
    )


def _no_dropout_in(config: Any) -> None:
    for name, value in list(vars(config).items()):
        if ("dropout" in name or name.endswith("pdrop")) and isinstance(value, float):
            setattr(config, name, 0.0)


def _settle(model: Any) -> None:
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if hasattr(module, "support_avx512bf16_for_cpu"):
            # bitsandbytes would repack the weight at the first evaluation; gradients after that are silently wrong.
            module.support_avx512bf16_for_cpu = False
    model.requires_grad_(False)
    model.eval()


def _does_not_fit(model: ModelFiles, reason: str) -> InputError:
    what = (
        f"the weights do not fit the configuration: {reason.strip().splitlines()[0] if reason.strip() else 'unknown'}"
    )
    fix = "download the model again, or correct its config.json"
    return InputError(Problem("model.weights", what, where=str(model.folder), fix=fix))
