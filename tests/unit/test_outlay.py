"""What products cost is told before they are made, and is about what they then take."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from localtune.adapter import Full
from localtune.export.encodings import ENCODINGS, size_of
from localtune.export.families import convert
from localtune.export.type_plan import type_plan
from localtune.model import ModelConfig, ModelFiles
from localtune.model.config import model_config
from localtune.model.tensors import TensorInfo
from localtune.outlay import exact_size, gguf_size, product_items, writing_seconds

LLAMA_8B = {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32}
LLAMA_8B |= {"num_key_value_heads": 8, "vocab_size": 128256}
SMALL = {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9}
SMALL |= {"num_key_value_heads": 3, "vocab_size": 49152}


def model(folder: Path, shape: dict[str, Any], *, tied: bool = False) -> ModelFiles:
    """A model's description without its weights."""
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16", **shape}
    config |= {"max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "tie_word_embeddings": tied}
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    tensors = tuple(
        TensorInfo(name, size, "BF16", 2 * math.prod(size), "model.safetensors") for name, size in _shapes(shape, tied)
    )
    known: ModelConfig = model_config(config, tensors)
    return ModelFiles(str(folder), folder, None, known, tensors, (2,))


def _shapes(shape: dict[str, Any], tied: bool) -> list[tuple[str, tuple[int, ...]]]:
    hidden, wide = shape["hidden_size"], shape["intermediate_size"]
    kv = hidden // shape["num_attention_heads"] * shape["num_key_value_heads"]
    layer = {"self_attn.q_proj": (hidden, hidden), "self_attn.k_proj": (kv, hidden), "self_attn.v_proj": (kv, hidden)}
    layer |= {"self_attn.o_proj": (hidden, hidden), "mlp.gate_proj": (wide, hidden), "mlp.up_proj": (wide, hidden)}
    layer |= {"mlp.down_proj": (hidden, wide)}
    norms = ("input_layernorm", "post_attention_layernorm")
    found: list[tuple[str, tuple[int, ...]]] = [("model.embed_tokens.weight", (shape["vocab_size"], hidden))]
    for i in range(shape["num_hidden_layers"]):
        found += [(f"model.layers.{i}.{name}.weight", size) for name, size in layer.items()]
        found += [(f"model.layers.{i}.{norm}.weight", (hidden,)) for norm in norms]
    found.append(("model.norm.weight", (hidden,)))
    return found if tied else [*found, ("lm_head.weight", (shape["vocab_size"], hidden))]


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("shape", [LLAMA_8B, SMALL], ids=["8B", "rows that no block divides"])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_size_told_is_that_of_the_planned_types(
    tmp_path: Path, encoding: str, shape: dict[str, Any], tied: bool
) -> None:
    files = model(tmp_path, shape, tied=tied)
    conversion = convert(files)
    kinds = type_plan(conversion, ENCODINGS[encoding]).kinds
    planned = sum(size_of(placed.shape, kinds[placed.name]) for placed in conversion.tensors)
    assert gguf_size(files, encoding) == pytest.approx(planned, rel=0.01)


def test_better_types_are_larger(tmp_path: Path) -> None:
    files = model(tmp_path, LLAMA_8B)
    sizes = [gguf_size(files, encoding) for encoding in ENCODINGS]
    assert sizes == sorted(sizes, reverse=True)


def test_every_file_asked_for_is_told(tmp_path: Path) -> None:
    files = model(tmp_path, LLAMA_8B)
    items = {item.name: item.size for item in product_items(files, Full(), list(ENCODINGS))}
    assert items == {encoding: gguf_size(files, encoding) for encoding in ENCODINGS}


@pytest.mark.parametrize(("asked", "extra"), [([], 0), (["F16"], 0), (["Q4_K_M", "F32"], 0), (["Q4_K_M"], 1)])
def test_only_rounded_files_need_an_exact_one_beside_them(tmp_path: Path, asked: list[str], extra: int) -> None:
    files = model(tmp_path, LLAMA_8B)
    assert exact_size(files, asked) == extra * gguf_size(files, "F16")


def test_k_quants_take_longer_than_q8_0_and_more_files_longer_than_one(tmp_path: Path) -> None:
    files = model(tmp_path, LLAMA_8B)
    assert writing_seconds(files, []) == 0
    assert writing_seconds(files, ["Q4_K_M"]) > 2 * writing_seconds(files, ["Q8_0"])
    assert writing_seconds(files, ["Q8_0", "Q4_K_M"]) > writing_seconds(files, ["Q4_K_M"])


def test_more_cores_write_faster_until_the_disk_is_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = model(tmp_path, LLAMA_8B)
    seconds = []
    for cores in (1, 2, 1000):
        monkeypatch.setattr("os.cpu_count", lambda cores=cores: cores)
        seconds.append(writing_seconds(files, ["Q4_K_M"]))
    assert seconds[0] == pytest.approx(2 * seconds[1])
    assert seconds[2] == pytest.approx((gguf_size(files, "Q4_K_M") + gguf_size(files, "F16")) / 5e8)
