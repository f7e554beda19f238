"""Keys of `config.json` by which a program would run the model's own code, or fetch kernels: refused by name.

`auto_map` names files with the model's code, which transformers runs only where it is told to trust them. Here it is
always told not to, and mlx-lm does not know the key. So it is passed over where transformers brings the architecture
itself (`NATIVE`); any other such model could only be opened by its own code, and is refused.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from localtune.errors import InputError, Problem

NATIVE = {
    "gemma2": "Gemma2ForCausalLM",
    "gemma3_text": "Gemma3ForCausalLM",
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "mixtral": "MixtralForCausalLM",
    "phi3": "Phi3ForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "qwen3_moe": "Qwen3MoeForCausalLM",
    "smollm3": "SmolLM3ForCausalLM",
}
"""`model_type` -> class in transformers, of every family that is exported."""
_KEYS = ("auto_map", "model_file", "trust_remote_code", "custom_generate")


def refuse_own_code(config: Mapping[str, Any], where: str) -> None:
    """Raise `InputError` (code model.code) where `config`, the content of the file `where`, asks for code."""
    for key in _found({name: value for name, value in config.items() if name != "auto_map" or not _unused(config)}):
        what = f"{key}: this model wants to run its own code, which localtune never does"
        fix = "choose a model that transformers knows; if it knows this one, make a copy without that key"
        raise InputError(Problem("model.code", what, where, fix=fix))


def _unused(config: Mapping[str, Any]) -> bool:
    """Whether the `auto_map` of `config` is one that transformers passes over."""
    named = config["auto_map"]
    native = NATIVE.get(str(config.get("model_type")))
    known = native is not None and config.get("architectures") == [native]
    return known and isinstance(named, dict) and all(isinstance(name, str) for name in named.values())


def _found(value: Any) -> Iterator[str]:
    """Such keys, in nested groups too."""
    if isinstance(value, list):
        for item in value:
            yield from _found(item)
    if not isinstance(value, dict):
        return
    for key, inner in value.items():
        named = key in _KEYS or key.endswith("_internal")
        kernel = key.endswith(("_implementation", "use_kernels")) and "/" in str(inner)
        if (named and inner) or kernel:
            yield key if key.isidentifier() else repr(key[:80])
        yield from _found(inner)
