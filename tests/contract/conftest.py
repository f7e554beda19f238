"""Tiny models, made once per test session from a seed, and sessions over them; every backend takes the same tests."""

import importlib.util
import json
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from localtune.adapter import Lora, Nothing, Trainable
from localtune.backend import Backend, MemorySpec, OptimizerSpec, Precision, Session, load_backend
from localtune.batch import Batch, Segment, collate
from localtune.model import ModelConfig, ModelFiles, TensorInfo
from localtune.objectives import SFT, Objective

VOCABULARY = 96
FLOAT32 = Precision("float32", "float32")
BFLOAT16 = Precision("bfloat16", "bfloat16")
NF4 = Precision("nf4", "float32")
PLAIN = OptimizerSpec()
ROOMY = MemorySpec(limit=0)

SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 48,
    "intermediate_size": 172,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.1,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
WINDOW = {"sliding_window": 6}
LAYERS = {"layer_types": ["sliding_attention", "full_attention"]}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaForCausalLM", {}),
    "llama-tied": ("LlamaForCausalLM", {"tie_word_embeddings": True}),
    "mistral": ("MistralForCausalLM", {**WINDOW, "head_dim": 12}),
    "qwen2": ("Qwen2ForCausalLM", {}),
    "qwen2-window": ("Qwen2ForCausalLM", {**WINDOW, **LAYERS, "use_sliding_window": True}),
    "qwen3": ("Qwen3ForCausalLM", {"head_dim": 16}),
    "gemma2": ("Gemma2ForCausalLM", {**WINDOW, **LAYERS, "head_dim": 16, "attn_logit_softcapping": 5.0,
                                     "final_logit_softcapping": 3.0, "query_pre_attn_scalar": 16}),
    "gemma3": ("Gemma3ForCausalLM", {**WINDOW, **LAYERS, "head_dim": 16, "query_pre_attn_scalar": 16}),
    "phi3": ("Phi3ForCausalLM", WINDOW),
    "granite": ("GraniteForCausalLM", {"logits_scaling": 4.0, "residual_multiplier": 0.5}),
    "cohere": ("CohereForCausalLM", {"logit_scale": 0.25}),
}  # fmt: skip
"""Name -> transformers class and what its configuration adds to SHAPE."""
LATENT = {
    "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 12,
    "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "n_group": 2, "topk_group": 1,
    "num_key_value_heads": 4, "first_k_dense_replace": 1,
}  # fmt: skip
OTHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama-even": ("LlamaForCausalLM", {"hidden_size": 64, "intermediate_size": 192, "num_key_value_heads": 4}),
    "qwen3-moe": ("Qwen3MoeForCausalLM", {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}),
    "deepseek-v3": ("DeepseekV3ForCausalLM", LATENT),
    "gpt-oss": ("GptOssForCausalLM", {**WINDOW, "num_local_experts": 4, "head_dim": 16}),
}
"""Models for one test each."""


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Tiny models are slower on several threads, by a hundred times where cores are shared."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session", params=["torch"])
def backend(request: pytest.FixtureRequest) -> Backend:
    """Every backend in turn."""
    pytest.importorskip({"torch": "transformers"}[request.param])
    return load_backend(request.param)


Models = Callable[[str], ModelFiles]


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    """A function from the name of a family to its files; a model is made at its first use."""
    made: dict[str, ModelFiles] = {}
    root = tmp_path_factory.mktemp("models")

    def model(name: str) -> ModelFiles:
        if name not in made:
            made[name] = files_of(make_model(name, root / name))
        return made[name]

    return model


def make_model(name: str, folder: Path) -> Path:
    """A random model of the family `name` in `folder`, the same at every call."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
    kind, extra = {**FAMILIES, **OTHERS}[name]
    with torch.random.fork_rng([]):
        torch.manual_seed(11)
        config = getattr(transformers, kind).config_class(**{**SHAPE, **extra})
        model = getattr(transformers, kind)(config)
        for parameter in model.parameters():  # biases and norms off their constant starts, or nothing would test them
            if parameter.ndim == 1:
                parameter.data += 0.05 * torch.randn_like(parameter)
        model.get_output_embeddings().weight.data *= 3  # so that frozen weights can state a token with certainty
        model.save_pretrained(folder)
    return folder


def files_of(folder: Path) -> ModelFiles:
    """The files of a model folder with one shard."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = rope.get("rope_type", "default")
    return ModelFiles(
        name=folder.name,
        folder=folder,
        revision=None,
        config=ModelConfig(
            architecture=config["architectures"][0],
            model_type=config["model_type"],
            layers=config["num_hidden_layers"],
            hidden=config["hidden_size"],
            feed_forward=config["intermediate_size"],
            heads=config["num_attention_heads"],
            kv_heads=config.get("num_key_value_heads", config["num_attention_heads"]),
            head_dim=config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"],
            vocabulary=config["vocab_size"],
            context=config["max_position_embeddings"],
            tied=bool(config.get("tie_word_embeddings")),
            rope_theta=rope.get("rope_theta"),
            rope_scaling=None if kind == "default" else rope,
            sliding_window=config.get("sliding_window"),
            dtype=config.get("dtype", "float32"),
            quantized=None,
        ),
        tensors=tuple(_tensors(folder / "model.safetensors")),
        stop_ids=(2,),
    )


def _tensors(path: Path) -> list[TensorInfo]:
    content = path.read_bytes()
    header = json.loads(content[8 : 8 + struct.unpack("<Q", content[:8])[0]])
    header.pop("__metadata__", None)
    found = []
    for name, entry in header.items():
        start, end = entry["data_offsets"]
        found.append(TensorInfo(name, tuple(entry["shape"]), entry["dtype"], end - start, path.name))
    return found


Opener = Callable[..., Session]


@pytest.fixture
def open_session(backend: Backend, models: Models) -> Opener:
    """`open_session("llama", Lora(...), precision=…)` with everything else plain."""

    def opened(
        model: str | ModelFiles,
        trainable: Trainable | None = None,
        start: Path | None = None,
        *,
        precision: Precision = FLOAT32,
        objective: Objective | None = SFT,
        optimizer: OptimizerSpec | None = PLAIN,
        memory: MemorySpec = ROOMY,
        seed: int = 7,
    ) -> Session:
        needs(precision)
        files = models(model) if isinstance(model, str) else model
        chosen = Nothing() if trainable is None else trainable
        return backend.open(
            files,
            chosen,
            start,
            precision=precision,
            objective=objective,
            optimizer=optimizer,
            memory=memory,
            seed=seed,
        )

    return opened


def needs(precision: Precision) -> None:
    """Skip the test where `precision` is not installed: there is no bitsandbytes for a Mac."""
    if precision.storage == "nf4" and importlib.util.find_spec("bitsandbytes") is None:
        pytest.skip("NF4 needs bitsandbytes, which is not installed here")


LORA = Lora(rank=4, alpha=8.0)


def segment(length: int, seed: int = 0, *, learned: float = 0.7) -> Segment:
    """A random example; each token but the first is a target with probability `learned`."""
    generator = np.random.default_rng([seed, length])
    tokens = generator.integers(3, VOCABULARY, length).astype(np.int32)
    weights = (generator.random(length) < learned).astype(np.float32)
    weights[0] = 0
    weights[-1] = 1
    return Segment(tokens, weights, seed)


def rows_of(*rows: Sequence[Segment], multiple: int = 8) -> Batch:
    """A batch of packed rows."""
    return collate(rows, multiple=multiple)


def weights_in(folder: Path) -> dict[str, np.ndarray[Any, np.dtype[Any]]]:
    """The adapter's tensors by name."""
    from safetensors.numpy import load_file

    return load_file(folder / "adapter_model.safetensors")


def saved(session: Session, folder: Path, *, state: bool = False) -> dict[str, np.ndarray[Any, np.dtype[Any]]]:
    """The adapter of `session`, through its files."""
    folder.mkdir(parents=True, exist_ok=True)
    session.save(folder, state=state)
    return weights_in(folder)
