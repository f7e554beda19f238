"""Tiny models, made once per test session from a seed, and sessions over them; every backend takes the same tests."""

import importlib.util
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from localtune.adapter import Lora, Nothing, Trainable
from localtune.backend import Backend, MemorySpec, OptimizerSpec, Precision, Session, Settings, load_backend
from localtune.batch import Batch, Floats, Segment, collate
from localtune.model import ModelFiles, resolve
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
WIDE = {"sliding_window": 64}
"""A window that no text of these tests reaches beyond."""
LONGEST = 64
"""Tokens of the longest text of these tests."""
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
    "mistral-inside": ("MistralForCausalLM", {**WIDE, "head_dim": 12}),
    "gemma2-inside": ("Gemma2ForCausalLM", {**WIDE, **LAYERS, "head_dim": 16, "attn_logit_softcapping": 5.0,
                                            "final_logit_softcapping": 3.0, "query_pre_attn_scalar": 16}),
    "phi3-inside": ("Phi3ForCausalLM", WIDE),
    "granite": ("GraniteForCausalLM", {"logits_scaling": 4.0, "residual_multiplier": 0.5}),
    "cohere": ("CohereForCausalLM", {"logit_scale": 0.25}),
    "smollm3": ("SmolLM3ForCausalLM", {"no_rope_layer_interval": 2}),
}  # fmt: skip
"""Name -> transformers class and what its configuration adds to SHAPE."""
PARITY = ["llama", "llama-tied", "mistral-inside", "qwen2", "qwen3", "gemma2-inside", "gemma3", "phi3-inside"]
MORE = ["granite", "cohere", "smollm3", "mistral", "phi3"]
"""Families whose numbers are compared between the backends."""
LATENT = {
    "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 12,
    "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "n_group": 2, "topk_group": 1,
    "num_key_value_heads": 4, "first_k_dense_replace": 1,
}  # fmt: skip
EVEN = {"hidden_size": 64, "intermediate_size": 192, "num_key_value_heads": 4}
"""Widths that every quantiser's group size divides."""
OTHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama-even": ("LlamaForCausalLM", EVEN),
    "qwen3-moe": ("Qwen3MoeForCausalLM", {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}),
    "deepseek-v3": ("DeepseekV3ForCausalLM", LATENT),
    "gpt-oss": ("GptOssForCausalLM", {**WINDOW, "num_local_experts": 4, "head_dim": 16}),
    "llama-long": ("LlamaForCausalLM", {"max_position_embeddings": 16_384}),
    "gemma3-long": ("Gemma3ForCausalLM", {"sliding_window": 100, **LAYERS, "head_dim": 16, "query_pre_attn_scalar": 16,
                                          "max_position_embeddings": 16_384}),
    "llama-words": ("LlamaForCausalLM", {"hidden_size": 32, "intermediate_size": 64, "vocab_size": 32_000,
                                         "max_position_embeddings": 1024}),
    "llama-deep": ("LlamaForCausalLM", {"num_hidden_layers": 8, "max_position_embeddings": 1024}),
}  # fmt: skip
"""Models for one test each."""


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Tiny models are slower on several threads, by a hundred times where cores are shared."""
    torch.set_num_threads(1)


PACKAGES = {"torch": "transformers", "mlx": "mlx_lm"}


def installed(name: str) -> Backend:
    """The backend `name`; skips the test where it is not installed."""
    pytest.importorskip(PACKAGES[name])
    return load_backend(name)


@pytest.fixture(scope="session", params=PACKAGES)
def backend(request: pytest.FixtureRequest) -> Backend:
    """Every backend in turn."""
    return installed(request.param)


@pytest.fixture(scope="session")
def backends() -> tuple[Backend, Backend]:
    """PyTorch and MLX, for what is compared between them."""
    return installed("torch"), installed("mlx")


def precision_of(backend: Backend, name: str) -> Precision:
    """The precision called `name`: a type, or "quantised" and "quantised-bfloat16", which differ by backend."""
    storage = {"torch": "nf4", "mlx": "affine4"}[backend.probe().backend]
    return {
        "float32": FLOAT32,
        "bfloat16": BFLOAT16,
        "float32-bfloat16": Precision("float32", "bfloat16"),
        "quantised": Precision(storage, "float32"),  # type: ignore[arg-type]
        "quantised-bfloat16": Precision(storage, "bfloat16"),  # type: ignore[arg-type]
    }[name]


Models = Callable[[str], ModelFiles]


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    """A function from the name of a family to its files; a model is made at its first use."""
    made: dict[str, ModelFiles] = {}
    root = tmp_path_factory.mktemp("models")

    def model(name: str) -> ModelFiles:
        if name not in made:
            made[name] = files_of(make_model({**FAMILIES, **OTHERS}[name], root / name))
        return made[name]

    return model


def make_model(shape: tuple[str, dict[str, Any]], folder: Path) -> Path:
    """A random model of the class and configuration `shape` in `folder`, the same at every call."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
    kind, extra = shape
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
    """The files of a model folder, as a run finds them."""
    return resolve(str(folder), folder, offline=True)


def with_config(files: ModelFiles, folder: Path, changes: Mapping[str, Any]) -> ModelFiles:
    """A copy of the model in `folder` whose config.json has `changes`; None takes a key away."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in files.folder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    config = {**json.loads((folder / "config.json").read_text(encoding="utf-8")), **changes}
    kept = {key: value for key, value in config.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(kept), encoding="utf-8")
    return files_of(folder)


Opener = Callable[..., Session]


@pytest.fixture
def open_session(backend: Backend, models: Models) -> Opener:
    """`open_session("llama", Lora(...), precision=…)` with everything else plain."""

    def opened(model: str | ModelFiles, trainable: Trainable | None = None, *args: Any, **changed: Any) -> Session:
        files = models(model) if isinstance(model, str) else model
        return open_on(backend, files, trainable, *args, **changed)

    return opened


def open_on(
    backend: Backend,
    files: ModelFiles,
    trainable: Trainable | None = None,
    start: Path | None = None,
    *,
    precision: Precision | str = FLOAT32,
    objective: Objective | None = SFT,
    optimizer: OptimizerSpec | None = PLAIN,
    memory: MemorySpec = ROOMY,
    seed: int = 7,
    longest: int = LONGEST,
) -> Session:
    """A session on `backend`. Skips the test where the backend refuses: what it refuses is a test of its own."""
    chosen = Nothing() if trainable is None else trainable
    asked = precision_of(backend, precision) if isinstance(precision, str) else precision
    settings = Settings(chosen, asked, objective, optimizer, memory, longest, packed=True)
    if refusals := backend.supports(files, settings):
        pytest.skip(f"{backend.probe().backend} refuses: {refusals[0].reason}")
    return backend.open(
        files, chosen, start, precision=asked, objective=objective, optimizer=optimizer, memory=memory, seed=seed
    )


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


def logits_apart(ours: Floats, theirs: Floats) -> float:
    """The largest difference, in units of the largest logit where that is above 1."""
    assert ours.shape == theirs.shape
    return float(np.max(np.abs(ours - theirs)) / max(1.0, float(np.max(np.abs(theirs)))))


Tensors = dict[str, np.ndarray[Any, np.dtype[Any]]]


def weights_in(folder: Path) -> Tensors:
    """The tensors of an adapter, or of a full model, by name."""
    from safetensors.numpy import load_file

    path = folder / "adapter_model.safetensors"
    return load_file(path if path.exists() else folder / "model.safetensors")


def saved(session: Session, folder: Path, *, state: bool = False) -> Tensors:
    """What trains in `session`, through its files."""
    folder.mkdir(parents=True, exist_ok=True)
    session.save(folder, state=state)
    return weights_in(folder)
