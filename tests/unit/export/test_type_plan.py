"""Every tensor gets the type that llama.cpp would give it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFWriter

from localtune.export.encodings import ENCODINGS
from localtune.export.placed import Conversion, Placed
from localtune.export.type_plan import TypePlan, type_plan
from tests.unit.export.oracle import quantised_by_llama_cpp

K_QUANTS = ("Q6_K", "Q5_K_M", "Q4_K_M", "Q4_K_S")


def conversion(
    layers: int = 16,
    *,
    architecture: str = "llama",
    heads: int = 4,
    kv_heads: int = 2,
    experts: int = 0,
    tied: bool = False,
    fused: bool = False,
    width: int = 256,
    feed_forward: int = 512,
) -> Conversion:
    """A model of that shape, every matrix with two rows."""
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (2, width), "output_norm.weight": (width,)}
    shapes["rope_freqs.weight"] = (8,)
    if not tied:
        shapes["output.weight"] = (2, width)
    for i in range(layers):
        attention = ("attn_qkv",) if fused else ("attn_q", "attn_k", "attn_v")
        shapes |= {f"blk.{i}.{name}.weight": (2, width) for name in (*attention, "attn_output")}
        shapes[f"blk.{i}.attn_norm.weight"] = (width,)
        if not fused:
            shapes |= {f"blk.{i}.attn_v.bias": (2,), f"blk.{i}.attn_q_norm.weight": (8,)}
        stack, ending = ((experts,), "_exps") if experts else ((), "")
        shapes |= {f"blk.{i}.ffn_{part}{ending}.weight": (*stack, 2, width) for part in ("gate", "up")}
        shapes[f"blk.{i}.ffn_down{ending}.weight"] = (*stack, 2, feed_forward)
        if experts:
            shapes[f"blk.{i}.ffn_gate_inp.weight"] = (experts, width)
    numbers = {"block_count": layers, "embedding_length": width, "feed_forward_length": feed_forward}
    numbers |= {"attention.head_count": heads, "attention.head_count_kv": kv_heads, "context_length": 64}
    numbers |= {"rope.dimension_count": width // heads, "vocab_size": 2}
    metadata: dict[str, Any] = {f"{architecture}.{key}": value for key, value in numbers.items()}
    metadata[f"{architecture}.attention.layer_norm_rms_epsilon"] = 1e-5
    if experts:
        metadata |= {f"{architecture}.expert_count": experts, f"{architecture}.expert_used_count": 2}
    return Conversion(architecture, tuple(Placed(name, shape) for name, shape in shapes.items()), metadata)


def plan(encoding: str, **shape: Any) -> TypePlan:
    return type_plan(conversion(**shape), ENCODINGS[encoding])


def layers_with(found: TypePlan, ending: str, kind: str) -> list[int]:
    return [int(name.split(".")[1]) for name, one in found.kinds.items() if name.endswith(ending) and one.name == kind]


def written(made: Conversion, path: Path) -> Path:
    """Random values in the layout of `made`, as an F32 file."""
    writer = GGUFWriter(path, made.architecture)
    for key, value in made.metadata.items():
        writer.add_float32(key, value) if isinstance(value, float) else writer.add_uint32(key, value)
    draw = np.random.default_rng(5)
    for placed in made.tensors:
        writer.add_tensor(placed.name, draw.standard_normal(placed.shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


SHAPES: Mapping[str, dict[str, Any]] = {
    "plain": {},
    "tied": {"tied": True},
    "three layers": {"layers": 3},
    "fused qkv": {"fused": True, "architecture": "phi3"},
    "eight experts": {"experts": 8},
    "four experts": {"experts": 4, "layers": 9},
    "70B": {"layers": 80, "heads": 8, "kv_heads": 1},
    "65B": {"layers": 80, "heads": 8, "kv_heads": 8},
    "72B": {"layers": 80, "heads": 8, "kv_heads": 8, "architecture": "qwen2"},
    "80 layers, another family": {"layers": 80, "heads": 8, "kv_heads": 1, "architecture": "gemma2"},
    "narrow": {"width": 96, "feed_forward": 160},
    "narrow and tied": {"width": 96, "tied": True},
}


@pytest.mark.parametrize("name", SHAPES)
def test_types_are_those_that_llama_cpp_chooses(tmp_path: Path, name: str) -> None:
    made = conversion(**SHAPES[name])
    source = written(made, tmp_path / "m.gguf")
    for encoding in (*K_QUANTS, "Q8_0"):
        theirs = quantised_by_llama_cpp(source, tmp_path / "q.gguf", encoding)
        assert type_plan(made, ENCODINGS[encoding]).kinds == {name: kind for name, (kind, _) in theirs.items()}


def test_q4_k_m_keeps_more_of_the_first_and_last_layers_and_of_every_third() -> None:
    found = plan("Q4_K_M")
    assert layers_with(found, "ffn_down.weight", "Q6_K") == [0, 1, 4, 7, 10, 13, 14, 15]
    assert layers_with(found, "attn_v.weight", "Q6_K") == [0, 1, 4, 7, 10, 13, 14, 15]
    assert layers_with(found, "ffn_up.weight", "Q4_K") == list(range(16))


def test_the_head_is_q6_k_and_a_tied_embedding_is_the_head() -> None:
    apart, tied = plan("Q4_K_S").kinds, plan("Q4_K_S", tied=True).kinds
    assert (apart["output.weight"].name, apart["token_embd.weight"].name) == ("Q6_K", "Q4_K")
    assert tied["token_embd.weight"].name == "Q6_K"


@pytest.mark.parametrize("encoding", list(ENCODINGS))
def test_norms_biases_factors_and_routers_stay_f32(encoding: str) -> None:
    kinds = plan(encoding, experts=8).kinds
    kept = ("norm.weight", ".bias", "rope_freqs.weight", "ffn_gate_inp.weight")
    assert {kind.name for name, kind in kinds.items() if name.endswith(kept)} == {"F32"}


def test_eight_experts_share_an_attention_that_is_kept_better() -> None:
    kinds = plan("Q4_K_M", experts=8).kinds
    assert {kinds[f"blk.3.attn_{part}.weight"].name for part in ("k", "v")} == {"Q8_0"}
    assert kinds["blk.3.attn_output.weight"].name == "Q5_K"
    assert kinds["blk.3.ffn_down_exps.weight"].name == "Q4_K"


def test_values_shared_by_many_heads_are_kept_better_in_a_70b() -> None:
    kinds = plan("Q4_K_M", layers=80, heads=8, kv_heads=1).kinds
    assert kinds["blk.10.attn_v.weight"].name == "Q5_K"
    assert plan("Q4_K_M", layers=40, heads=8, kv_heads=1).kinds["blk.5.attn_v.weight"].name == "Q4_K"


def test_rows_that_no_block_divides_fall_back_and_a_note_says_which_and_why() -> None:
    found = plan("Q4_K_M", layers=2, width=96, feed_forward=100)
    assert found.kinds["blk.0.attn_q.weight"] == GGMLQuantizationType.Q5_0
    assert found.kinds["output.weight"] == GGMLQuantizationType.Q8_0
    assert found.kinds["blk.1.ffn_down.weight"] == GGMLQuantizationType.F16
    assert any(
        note.startswith("token_embd.weight and ") and "Q5_0 and not Q4_K, whose blocks of 256" in note
        for note in found.notes
    )
    assert any("ffn_down" in note and "F16" in note and "rows of 100" in note for note in found.notes)


def test_where_every_block_fits_there_is_nothing_to_note() -> None:
    assert [plan(encoding).notes for encoding in ENCODINGS] == [()] * len(ENCODINGS)


def test_q8_0_of_odd_rows_is_f16_and_said() -> None:
    found = plan("Q8_0", layers=1, feed_forward=100)
    assert found.kinds["blk.0.ffn_down.weight"] == GGMLQuantizationType.F16
    assert len(found.notes) == 1
