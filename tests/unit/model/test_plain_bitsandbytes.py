"""Weights as transformers saves them from bitsandbytes, dequantised: what bitsandbytes gives, bit for bit."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from localtune.errors import InputError
from localtune.model import ModelFiles, resolve
from localtune.model import weights as stored
from localtune.model.plain import plain_tensors, plain_weights

bitsandbytes = pytest.importorskip("bitsandbytes")
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
safe = pytest.importorskip("safetensors.torch")

SHAPE = {"hidden_size": 72, "intermediate_size": 88, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16}
"""Rows of 72 and 88 values: blocks of 64 begin in the middle of a row. No multiples of 16, which bitsandbytes 0.50's
AVX-512 kernel misreads where they are none of 64."""
KINDS: dict[str, dict[str, Any]] = {
    "nf4": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
    "nf4 twice": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True},
    "nf4 in 16 bits": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_quant_storage": "bfloat16"},
    "fp4": {"load_in_4bit": True, "bnb_4bit_quant_type": "fp4"},
    "fp4 twice": {"load_in_4bit": True, "bnb_4bit_quant_type": "fp4", "bnb_4bit_use_double_quant": True},
    "int8": {"load_in_8bit": True},
}


def small(folder: Path, dtype: str = "bfloat16") -> Path:
    """A random Llama in 16 bits."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(vocab_size=64, num_hidden_layers=2, **SHAPE)
    transformers.LlamaForCausalLM(config).to(getattr(torch, dtype)).save_pretrained(folder)
    return folder


def quantised(folder: Path, kind: str, dtype: str = "bfloat16") -> ModelFiles:
    """The same, as transformers saves it once bitsandbytes has quantised it."""
    original = small(folder.with_name(f"{folder.name}-original"), dtype)
    options = transformers.BitsAndBytesConfig(**KINDS[kind])
    loaded = transformers.AutoModelForCausalLM.from_pretrained(
        original, quantization_config=options, dtype=getattr(torch, dtype)
    )
    loaded.save_pretrained(folder)
    return resolve(str(folder), Path(), offline=True)


def expected(tensors: dict[str, Any], name: str) -> Any:
    """bitsandbytes' own values of one weight of a file, in float32."""
    weight = tensors[name]
    module = name.removesuffix(".weight")
    if f"{module}.SCB" in tensors:
        return bitsandbytes.functional.int8_vectorwise_dequant(weight, tensors[f"{module}.SCB"]).float().numpy()
    parts = {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}
    if not parts:
        return weight.float().numpy()
    state = bitsandbytes.functional.QuantState.from_dict(parts, device=torch.device("cpu"))
    state.dtype = torch.float32
    return bitsandbytes.functional.dequantize_4bit(weight, state).numpy()


def is_packed(tensors: dict[str, Any], name: str) -> bool:
    return f"{name}.quant_map" in tensors or f"{name.removesuffix('.weight')}.SCB" in tensors


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_folder_of_transformers_is_read_as_the_plain_model_it_stands_for(
    tmp_path: Path, kind: str, dtype: str
) -> None:
    model = quantised(tmp_path / "model", kind, dtype)
    original = resolve(str(tmp_path / "model-original"), Path(), offline=True)
    assert model.config.quantized == "bitsandbytes"
    assert {(t.name, t.shape, t.dtype, t.size) for t in plain_tensors(model)} == {
        (t.name, t.shape, t.dtype, t.size) for t in original.tensors
    }
    assert model.parameters == original.parameters
    assert model.size < original.size
    weights, tensors = plain_weights(model), safe.load_file(model.folder / "model.safetensors")
    for name in weights:
        values = np.concatenate([rows for _, rows in weights.blocks(name)])
        np.testing.assert_array_equal(values, expected(tensors, name))
        data = b"".join(bytes(piece) for piece in weights.pieces(name))
        assert data == stored.encode(values, weights[name].dtype).tobytes()
    assert sum(is_packed(tensors, name) for name in tensors) == 14


@pytest.mark.parametrize("kind", KINDS)
def test_any_rows_are_those_of_the_whole(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = quantised(tmp_path / "model", kind)
    weights, name = plain_weights(model), "model.layers.1.mlp.down_proj.weight"
    whole = weights.rows(name, 0, 72)
    for start, stop in ((0, 0), (0, 1), (3, 5), (11, 72), (71, 72)):
        np.testing.assert_array_equal(weights.rows(name, start, stop), whole[start:stop])
    monkeypatch.setattr(stored, "BLOCK", 4 * 88 * 5)
    np.testing.assert_array_equal(np.concatenate([rows for _, rows in weights.blocks(name)]), whole)
    with pytest.raises(IndexError):
        weights.rows(name, 0, 73)


def test_more_blocks_than_share_a_nested_scale_are_read(tmp_path: Path) -> None:
    weight = torch.randn(131, 130, generator=torch.Generator().manual_seed(1)) * torch.logspace(-3, 1, 131)[:, None]
    codes, state = bitsandbytes.functional.quantize_4bit(weight, quant_type="nf4", compress_statistics=True)
    tensors = {"x.weight": codes, **{f"x.weight.{key}": value for key, value in state.as_dict(packed=True).items()}}
    model = quantised(tmp_path / "model", "nf4")
    shard = model.folder / "model.safetensors"
    safe.save_file({**safe.load_file(shard), **tensors}, shard)
    found = plain_weights(resolve(str(model.folder), Path(), offline=True))
    assert tensors["x.weight.nested_absmax"].numel() == 2
    np.testing.assert_array_equal(found.rows("x.weight", 0, 131), expected(tensors, "x.weight"))
    np.testing.assert_array_equal(found.rows("x.weight", 127, 130), expected(tensors, "x.weight")[127:130])


Q = "model.layers.0.self_attn.q_proj"


def nibbles_exchanged(tensors: dict[str, Any]) -> None:
    codes = tensors[f"{Q}.weight"]
    tensors[f"{Q}.weight"] = codes << 4 | codes >> 4


def blocks_shifted(tensors: dict[str, Any]) -> None:
    tensors[f"{Q}.weight.absmax"] = tensors[f"{Q}.weight.absmax"].roll(1)


def table_of_fp4(tensors: dict[str, Any]) -> None:
    tensors[f"{Q}.weight.quant_map"] = bitsandbytes.functional.get_4bit_type("fp4", device="cpu")


def offset_forgotten(tensors: dict[str, Any]) -> None:
    name = f"{Q}.weight.quant_state.bitsandbytes__nf4"
    stated = json.loads(bytes(tensors[name].tolist()))
    stated["nested_offset"] = 0.0
    tensors[name] = torch.tensor(list(json.dumps(stated).encode()), dtype=torch.uint8)


MISTAKES = [("nf4", nibbles_exchanged), ("nf4", blocks_shifted), ("nf4", table_of_fp4), ("nf4 twice", offset_forgotten)]


@pytest.mark.parametrize(("kind", "mistake"), MISTAKES, ids=[mistake.__name__ for _, mistake in MISTAKES])
def test_a_wrong_reading_is_noticed(tmp_path: Path, kind: str, mistake: Callable[[dict[str, Any]], None]) -> None:
    model = quantised(tmp_path / "model", kind)
    shard = model.folder / "model.safetensors"
    tensors = safe.load_file(shard)
    right = expected(tensors, f"{Q}.weight")
    mistake(tensors)
    safe.save_file(tensors, shard)
    wrong = plain_weights(resolve(str(model.folder), Path(), offline=True)).rows(f"{Q}.weight", 0, 64)
    assert not np.allclose(wrong, right, atol=1e-4)


def no_table(tensors: dict[str, Any]) -> None:
    del tensors[f"{Q}.weight.quant_map"]


def short_absmax(tensors: dict[str, Any]) -> None:
    tensors[f"{Q}.weight.absmax"] = tensors[f"{Q}.weight.absmax"][1:].clone()


def short_codes(tensors: dict[str, Any]) -> None:
    tensors[f"{Q}.weight"] = tensors[f"{Q}.weight"][1:].clone()


def stated(tensors: dict[str, Any], **changes: Any) -> None:
    name = f"{Q}.weight.quant_state.bitsandbytes__nf4"
    content = {**json.loads(bytes(tensors[name].tolist())), **changes}
    tensors[name] = torch.tensor(list(json.dumps(content).encode()), dtype=torch.uint8)


def wrong_shape(tensors: dict[str, Any]) -> None:
    stated(tensors, shape=[64, -1])


def wrong_block(tensors: dict[str, Any]) -> None:
    stated(tensors, blocksize=0)


def wrong_type(tensors: dict[str, Any]) -> None:
    stated(tensors, dtype="int8")


def no_json(tensors: dict[str, Any]) -> None:
    tensors[f"{Q}.weight.quant_state.bitsandbytes__nf4"] = torch.tensor([1, 2], dtype=torch.uint8)


def short_scales(tensors: dict[str, Any]) -> None:
    tensors[f"{Q}.SCB"] = tensors[f"{Q}.SCB"][1:].clone()


def tiled(tensors: dict[str, Any]) -> None:
    tensors[f"{Q}.weight_format"] = torch.tensor(2, dtype=torch.uint8)


DAMAGES = [
    *[("nf4", damage) for damage in (no_table, short_absmax, short_codes, wrong_shape, wrong_block, wrong_type)],
    *[("nf4", no_json), ("int8", short_scales), ("int8", tiled)],
]


@pytest.mark.parametrize(("kind", "damage"), DAMAGES, ids=[damage.__name__ for _, damage in DAMAGES])
def test_parts_that_do_not_fit_are_refused_by_name_when_the_model_is_opened(
    tmp_path: Path, kind: str, damage: Callable[[dict[str, Any]], None]
) -> None:
    folder = quantised(tmp_path / "model", kind).folder
    tensors = safe.load_file(folder / "model.safetensors")
    damage(tensors)
    safe.save_file(tensors, folder / "model.safetensors")
    with pytest.raises(InputError, match=Q.replace(".", r"\.")) as caught:
        resolve(str(folder), Path(), offline=True)
    problem = caught.value.problems[0]
    assert problem.code in ("model.quantized", "model.json")
    assert problem.fix
