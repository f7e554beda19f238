"""LoRA, DoRA and rsLoRA on a loaded model through peft's layers, and their tensors by the names of the file.

The start is drawn by `localtune.adapter.initial_a` (A) and zero (B), so that every backend starts alike; DoRA's
magnitudes start at the norms of the base's rows in float32 (peft rounds them to a 16-bit base's type, and such a DoRA
does not start from the base model). Everything that trains is float32.
"""

from typing import Any

import torch

from localtune.adapter import PREFIX, Lora, adapted_names, initial_a
from localtune.errors import InputError, Problem
from localtune_torch import libraries

ADAPTER = "default"
"""Peft's name of the one adapter a session has."""


def adapted_modules(model: Any, lora: Lora) -> list[str]:
    """Names of the linear modules that `lora` adapts; never the head. Raises `InputError` if it names none."""
    head = model.get_output_embeddings()
    names = [n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and m is not head]
    return adapted_names(names, lora)


def attach(model: Any, lora: Lora, seed: int, *, autocast: bool) -> Any:
    """A `peft.PeftModel` around `model`, whose linear modules are replaced in place; the adapter is at its start."""
    chosen = adapted_modules(model, lora)
    config = libraries.peft().LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=chosen,
        use_dora=lora.dora,
        use_rslora=lora.rslora,
        bias="none",
        task_type="CAUSAL_LM",
    )
    with libraries.quietly():
        adapted = libraries.peft().get_peft_model(model, config)
    layers = _lora_layers(adapted)
    _only_what_was_chosen(layers, chosen)
    for name, module in layers.items():
        # Under autocast the two small products run in the compute type; a float32 copy of their input is not needed.
        module.cast_input_dtype_enabled = not autocast or lora.dora
        _start(module, name, lora.rank, seed)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return adapted


def adapter_tensors(adapted: Any) -> dict[str, torch.nn.Parameter]:
    """The parameters of the adapter by their names in `adapter_model.safetensors`."""
    named = {}
    for name, parameter in adapted.named_parameters():
        if f".{ADAPTER}" in name and ".lora_" in name:
            plain = name.replace(f".{ADAPTER}.", ".")
            named[plain.removesuffix(".weight") if "lora_magnitude_vector" in plain else plain] = parameter
    return named


def _lora_layers(adapted: Any) -> dict[str, Any]:
    return {
        name.removeprefix(PREFIX): module
        for name, module in adapted.named_modules()
        if isinstance(getattr(module, "lora_A", None), torch.nn.ModuleDict) and len(module.lora_A)
    }


def _only_what_was_chosen(layers: dict[str, Any], chosen: list[str]) -> None:
    """In models of fused experts peft rewrites feed-forward names to the experts themselves, at other ranks."""
    if set(layers) != set(chosen):
        what = "peft would adapt other modules than the ones named: " + ", ".join(sorted(set(layers) ^ set(chosen))[:3])
        raise InputError(Problem("lora.targets", what, fix="--set lora.targets=attention"))


def _start(module: Any, name: str, rank: int, seed: int) -> None:
    a, b = module.lora_A[ADAPTER].weight, module.lora_B[ADAPTER].weight
    with torch.no_grad():
        a.copy_(torch.from_numpy(initial_a(seed, name, rank, a.shape[1])))
        b.zero_()
        for magnitude in module.lora_magnitude_vector.values():
            magnitude.weight.data = torch.linalg.norm(_weight(module).float(), dim=1)


def _weight(module: Any) -> torch.Tensor:
    from peft.utils.integrations import dequantize_module_weight

    weight: torch.Tensor = dequantize_module_weight(module.get_base_layer())
    return weight
