"""`config.json` and `generation_config.json` by known keys only, in the forms of transformers 4 and 5.

Whatever would make a program run the model's own code is refused by name (`own_code`). Where config and tensors tell of
the same thing, the tensors decide (`vocabulary`) or a contradiction is an error (`tied`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from localtune.errors import InputError, Problem
from localtune.model.json_object import read_object
from localtune.model.own_code import refuse_own_code
from localtune.model.quantized import Quantization, quantization
from localtune.model.tensors import TensorInfo

CONFIG = "config.json"
GENERATION = "generation_config.json"


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
    """The head is the embedding: by `tie_word_embeddings`, else by the family's default in transformers."""
    rope_theta: float | None
    """None = the family's default. Where layer types differ, that of full attention."""
    rope_scaling: dict[str, Any] | None
    """rope_type and its parameters, from `rope_scaling` or transformers 5's `rope_parameters`; None = default."""
    sliding_window: int | None
    dtype: str
    """float32, bfloat16 or float16."""
    quantized: str | None
    """Method of a checkpoint that is already quantised; "mlx" for mlx-lm's own layout."""
    quantization: Quantization | None = None
    """How the weights of one in mlx-lm's layout are packed."""


def read_config(folder: Path) -> dict[str, Any]:
    """The object in `config.json`, once it is known to ask for no code. Raises `InputError`."""
    path = folder / CONFIG
    if not path.is_file():
        what = f"has no {CONFIG}, so it is not a model's folder"
        raise InputError(Problem("model.no-config", what, folder.name, fix="pass the folder that holds config.json"))
    config = read_object(path)
    refuse_own_code(config, CONFIG)
    return config


def model_config(config: Mapping[str, Any], tensors: Sequence[TensorInfo]) -> ModelConfig:
    """The known keys of `config`, completed by what the tensors say. Raises `InputError` (code model.config)."""
    architecture = _architecture(config)
    model_type = _text(config, "model_type")
    hidden, heads = _count(config, "hidden_size"), _count(config, "num_attention_heads")
    if config.get("head_dim") is None and hidden % heads:
        _refuse("head_dim", f"is missing, and hidden_size {hidden} is no multiple of num_attention_heads {heads}")
    theta, scaling = _rope(config)
    quantized = _quantized(config)
    _check_sizes(config, tensors)
    return ModelConfig(
        architecture=architecture,
        model_type=model_type,
        layers=_count(config, "num_hidden_layers"),
        hidden=hidden,
        feed_forward=_count(config, "intermediate_size"),
        heads=heads,
        kv_heads=_count(config, "num_key_value_heads", heads),
        head_dim=_count(config, "head_dim", hidden // heads),
        vocabulary=_vocabulary(_count(config, "vocab_size"), tensors),
        context=_count(config, "max_position_embeddings"),
        tied=_tied(config, model_type, tensors),
        rope_theta=theta,
        rope_scaling=scaling,
        sliding_window=_sliding_window(config, model_type),
        dtype=_dtype(config, tensors),
        quantized=quantized,
        quantization=_packed(config) if quantized == "mlx" else None,
    )


def stop_ids(folder: Path, config: Mapping[str, Any]) -> tuple[int, ...]:
    """Every eos id of `generation_config.json`, then of `config.json`; each once. Raises `InputError`."""
    path = folder / GENERATION
    generation = read_object(path) if path.is_file() else {}
    found: list[int] = []
    for file, values in ((GENERATION, generation), (CONFIG, config)):
        ids = values.get("eos_token_id")
        for one in ids if isinstance(ids, list) else [] if ids is None else [ids]:
            if type(one) is not int or not 0 <= one < 2**31:
                _refuse("eos_token_id", f"is {_shown(ids)}; expected a token id or a list of them", file)
            found.append(one)
    return tuple(dict.fromkeys(found))


_LAYERS = 1000
"""So many cost nothing, whatever the weights hold."""


def _check_sizes(config: Mapping[str, Any], tensors: Sequence[TensorInfo]) -> None:
    """Nothing is larger than the weights have room for: what follows counts by these numbers."""
    bits = 8 * sum(tensor.size for tensor in tensors)
    layers = max(len(tensors), _LAYERS)
    for key, most in (("num_hidden_layers", layers), ("hidden_size", bits), ("intermediate_size", bits)):
        if _count(config, key) > most:
            _refuse(key, f"is {config[key]:,}; {len(tensors):,} tensors of {bits // 8:,} bytes have no room for that")


def _architecture(config: Mapping[str, Any]) -> str:
    names = config.get("architectures")
    if not isinstance(names, list) or len(names) != 1 or not isinstance(names[0], str):
        _refuse("architectures", f"is {_shown(names)}; expected a list of one name, such as LlamaForCausalLM")
    fix = "choose a text model, whose architecture ends in ForCausalLM"
    if isinstance(config.get("text_config"), dict):
        what = f"{names[0]} reads more than text; localtune trains text models"
        fix = "save its text part as a …ForCausalLM model of its own, or " + fix
        raise InputError(Problem("model.multimodal", what, CONFIG, fix=fix))
    if config.get("is_encoder_decoder") or not names[0].endswith(("ForCausalLM", "LMHeadModel")):
        what = f"{names[0]} does not continue text, so there is nothing to chat with"
        raise InputError(Problem("model.architecture", what, CONFIG, fix=fix))
    return str(names[0])


def _count(config: Mapping[str, Any], key: str, default: int | None = None) -> int:
    value = config.get(key)
    if value is None and default is not None:
        return default
    if type(value) is not int or not 0 < value < 2**31:
        expected = "expected a whole number above 0"
        _refuse(key, f"is missing; {expected}" if value is None else f"is {_shown(value)}; {expected}")
    return value


def _text(config: Mapping[str, Any], key: str) -> str:
    value = config.get(key)
    if not isinstance(value, str) or not value:
        _refuse(key, "is missing" if value is None else f"is {_shown(value)}; expected text")
    return value


def _group(config: Mapping[str, Any], key: str) -> dict[str, Any] | None:
    value = config.get(key)
    if value is not None and not isinstance(value, dict):
        _refuse(key, f"is {_shown(value)}; expected an object or null")
    return value or None


EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "embed_in.weight", "word_embeddings.weight")
HEADS = ("lm_head.weight", "embed_out.weight")


def _vocabulary(stated: int, tensors: Sequence[TensorInfo]) -> int:
    rows = [tensor.shape[0] for tensor in tensors if tensor.name.endswith(EMBEDDINGS) and len(tensor.shape) == 2]
    return rows[0] if len(rows) == 1 and rows[0] > 0 else stated


TIED_FAMILIES = frozenset(
    {
        *("bloom", "cohere", "cohere2", "cohere2_moe", "ernie4_5", "ernie4_5_moe", "falcon", "gemma", "gemma2"),
        *("gemma3_text", "gemma3n_text", "gemma4_text", "gpt2", "gpt_bigcode", "gpt_neo", "granite_swa", "jetmoe"),
        *("lfm2", "lfm2_moe", "lfm3", "minicpm3", "mpt", "opt", "recurrent_gemma", "smollm3", "starcoder2"),
        *("vaultgemma", "xglm", "zamba", "zamba2"),
    }
)
"""Families whose configuration class in transformers 5 has `tie_word_embeddings = True` where a file is silent."""


def _tied(config: Mapping[str, Any], model_type: str, tensors: Sequence[TensorInfo]) -> bool:
    """As transformers has it; an untied model without a head of its own would get a random one, so it is refused."""
    stated = config.get("tie_word_embeddings")
    if stated is not None and not isinstance(stated, bool):
        _refuse("tie_word_embeddings", f"is {_shown(stated)}; expected true or false")
    tied = model_type in TIED_FAMILIES if stated is None else stated
    if not tied and not any(tensor.name.endswith(HEADS) for tensor in tensors):
        what = (
            f"tie_word_embeddings is {'missing' if stated is None else 'false'}, and the weights hold no lm_head.weight"
        )
        fix = 'if the head is the embedding, write "tie_word_embeddings": true into a copy of config.json'
        raise InputError(Problem("model.no-head", what, CONFIG, fix=fix))
    return tied


def _rope(config: Mapping[str, Any]) -> tuple[float | None, dict[str, Any] | None]:
    """theta and scaling, from the top level (transformers 4) or `rope_parameters` (5); both must agree."""
    new = _group(config, "rope_parameters") or {}
    layered = [value for value in new.values() if isinstance(value, dict)]
    if layered:
        new = new.get("full_attention") or layered[0]
    old_theta, new_theta = _theta(config), _theta(new)
    if None not in (old_theta, new_theta) and old_theta != new_theta:
        _refuse("rope_theta", f"is {old_theta:g}, but rope_parameters says {new_theta:g}")
    old_scaling, new_scaling = _scaling(_group(config, "rope_scaling")), _scaling(new)
    if old_scaling and new and old_scaling != new_scaling:
        _refuse("rope_scaling", "and rope_parameters say different things")
    return old_theta if new_theta is None else new_theta, new_scaling or old_scaling


def _theta(group: Mapping[str, Any]) -> float | None:
    value = group.get("rope_theta")
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e18):
        _refuse("rope_theta", f"is {_shown(value)}; expected a number above 0")
    return None if value is None else float(value)


def _scaling(group: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The parameters with `rope_type` by its present name; None for the default, which scales nothing."""
    if not group:
        return None
    kinds = {group[key] for key in ("rope_type", "type") if isinstance(group.get(key), str)}
    if len(kinds) > 1:
        _refuse("rope_scaling", f"has two types: {' and '.join(sorted(kinds))}")
    kind = kinds.pop() if kinds else "default"
    if kind == "default":
        return None
    rest = {key: value for key, value in group.items() if key not in ("type", "rope_type", "rope_theta")}
    for key, value in rest.items():
        if not all(map(_usable, value if isinstance(value, list) else [value])):
            _refuse("rope_scaling", f"has {_shown(key)[1:-1]} {_shown(value)}; expected finite numbers")
    return {"rope_type": "longrope" if kind == "su" else kind, **rest}


def _usable(value: Any) -> bool:
    """Text, null, truth values, and numbers that a float holds."""
    return value is None or isinstance(value, str) or (isinstance(value, int | float) and abs(value) < 1e18)


WINDOWS = {
    **{"afmoe": 1024, "beam": 512, "cwm": 8192, "dots3_note_text": 512, "flint": 513, "gemma3n_text": 512},
    **{"gemma4_text": 512, "gemma4_unified_text": 1024, "gpt_oss": 128, "granite_swa": 128, "granitemoe_swa": 128},
    **{"kolibri1": 513, "lfm3": 256, "mimo_v2_flash": 129, "recurrent_gemma": 2048},
    **dict.fromkeys(("cohere2", "cohere2_moe", "exaone4", "exaone_moe", "gemma2", "gemma3_text", "ministral"), 4096),
    **dict.fromkeys(("mistral", "olmo3", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "vaultgemma"), 4096),
}
"""The sliding window of transformers 5 where a file is silent; null in a file means none."""
SWITCHED = ("qwen", "smollm3")
"""How families begin that use a window only where `use_sliding_window` is true."""


def _sliding_window(config: Mapping[str, Any], model_type: str) -> int | None:
    """None where no layer uses one."""
    used = config.get("use_sliding_window", not model_type.startswith(SWITCHED))
    kinds, window = config.get("layer_types"), config.get("sliding_window", WINDOWS.get(model_type))
    if window is None or used is False:
        return None
    if isinstance(kinds, list) and kinds and "sliding_attention" not in kinds:
        return None
    return _count({"sliding_window": window}, "sliding_window")


_DTYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}


def _dtype(config: Mapping[str, Any], tensors: Sequence[TensorInfo]) -> str:
    """As stated under either name; else the floating type of most bytes."""
    stated = {str(config[key]).removeprefix("torch.") for key in ("dtype", "torch_dtype") if config.get(key)}
    if len(stated) > 1:
        _refuse("dtype", f"and torch_dtype differ: {' and '.join(sorted(stated))}")
    if stated & set(_DTYPES.values()):
        return stated.pop()
    sizes = {name: sum(t.size for t in tensors if t.dtype == header) for header, name in _DTYPES.items()}
    most = max(sizes, key=lambda name: sizes[name])
    if not sizes[most]:
        _refuse("dtype", "is not stated, and no tensor is float32, bfloat16 or float16")
    return most


def _quantized(config: Mapping[str, Any]) -> str | None:
    """`quant_method`; mlx-lm's own form (bits and group_size only) is "mlx"."""
    group = next(filter(None, (_group(config, key) for key in ("quantization_config", "compression_config"))), None)
    if group is None:
        return "mlx" if _group(config, "quantization") else None
    return str(group.get("quant_method") or ("mlx" if "group_size" in group else "unknown"))[:60]


def _packed(config: Mapping[str, Any]) -> Quantization:
    group = _group(config, "quantization") or _group(config, "quantization_config")
    return quantization(group or _group(config, "compression_config") or {})


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"


def _refuse(key: str, what: str, file: str = CONFIG) -> NoReturn:
    raise InputError(Problem("model.config", f"{key} {what}", file, fix="get a fresh copy of the model's files"))
