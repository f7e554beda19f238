"""Attacks by what a model, an adapter, a GGUF say of themselves: every class that others had an advisory for.

Elsewhere: that training runs no code beside a known architecture (tests/contract/test_own_code.py), GGUF headers of
every kind (tests/unit/export/test_read.py), templates that loop or take all memory (tests/unit/data/test_sandbox.py).
"""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.faults.corpus.case import Case, Cases, config, pickled, safetensors, with_files
from tests.faults.fuzz import seeds

Build = Callable[[Path, Path], None]
AUTO_MAP = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}
NATIVE_MAP = {"AutoModelForCausalLM": "modeling_llama.LlamaForCausalLM"}
OWN_CODE: Cases = {
    "model_file of mlx-lm": Case("model", "model.code", config(model_file="evil.py"), "model_file"),
    "auto_map of an unknown family": Case(
        "model", "model.code", config(auto_map=AUTO_MAP, model_type="evil"), "auto_map"
    ),
    "auto_map beside a known family": Case("model", "", config(auto_map=NATIVE_MAP)),
    "auto_map that is no map": Case("model", "model.code", config(auto_map=["evil.Model"]), "auto_map"),
    "auto_map in a group": Case("model", "model.code", config(text={"a": [{"auto_map": AUTO_MAP}]}), "auto_map"),
    "_attn_implementation_internal": Case("model", "model.code", config(_attn_implementation_internal="evil/kernel")),
    "another key of that kind": Case("model", "model.code", config(_experts_implementation_internal="x")),
    "trust_remote_code": Case("model", "model.code", config(trust_remote_code=True), "trust_remote_code"),
    "nested trust_remote_code": Case("model", "model.code", config(vision={"x": [{"trust_remote_code": True}]})),
    "a kernel's repository": Case(
        "model", "model.code", config(attn_implementation="evil/flash"), "attn_implementation"
    ),
    "a kernel's repository in a group": Case("model", "model.code", config(x={"_attn_implementation": {"": "a/b:c"}})),
    "kernels to use": Case("model", "model.code", config(use_kernels="evil/kernels")),
    "custom_generate": Case("model", "model.code", config(custom_generate="evil"), "custom_generate"),
    "a tokenizer with code": Case(
        "model",
        "",
        with_files(
            tokenizer_config__json='{"auto_map": {"AutoTokenizer": ["evil.T", null]}, "tokenizer_class": "evil.T"}',
            evil__py="open('CANARY', 'w').close()",
        ),
    ),
}


MOST = 2**31 - 1
_STATED = (
    *(
        {"num_hidden_layers": MOST},
        {"hidden_size": MOST - 1},
        {"intermediate_size": MOST},
        {"num_hidden_layers": 10**40},
    ),
    *({"num_attention_heads": 0}, {"num_attention_heads": 3}, {"hidden_size": 4.0}, {"hidden_size": "4"}),
    *({"hidden_size": True}, {"vocab_size": -1}, {"max_position_embeddings": 1e999}, {"rope_theta": 1e300}),
    *({"rope_scaling": {"rope_type": "yarn", "factor": float("nan")}}, {"rope_scaling": {"type": "x", "f": [1e30]}}),
    *({"rope_scaling": [1]}, {"rope_scaling": {"type": "a", "rope_type": "b"}}, {"eos_token_id": 2**40}),
    *({"eos_token_id": [{"a": 1}]}, {"architectures": "LlamaForCausalLM"}, {"model_type": ["llama"]}),
    *({"tie_word_embeddings": "yes"}, {"sliding_window": -5, "layer_types": ["sliding_attention"]}),
    *({"quantization": {"bits": 10**9, "group_size": 64}}, {"quantization": {"bits": 4, "group_size": 0}}),
)
VALUES: Cases = {
    **{
        f"config.json with {json.dumps(stated)[:60]}": Case("model", "model.config", config(**stated))
        for stated in _STATED
    },
    "a configuration nested deeply": Case("model", "model.json", with_files(config__json='{"a":' * 100_000)),
    "a configuration of 33 levels": Case("model", "model.json", with_files(config__json='{"a":' * 33 + "1" + "}" * 33)),
    "a configuration of megabytes": Case("model", "model.json", with_files(config__json=b" " * 2_000_000)),
    "a configuration with a key twice": Case("model", "model.json", with_files(config__json='{"a": 1, "a": 2}')),
    "a configuration of 5,000 digits": Case(
        "model", "model.json", with_files(config__json='{"a": ' + "9" * 5000 + "}")
    ),
}


def _tokenizer(**changes: Any) -> Build:
    return with_files(tokenizer__json=json.dumps(json.loads(seeds.tokenizer_states()[0]) | changes))


def _split(pattern: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


BROKEN = "tokenizer.broken"
_MAP = {"type": "Precompiled", "precompiled_charsmap": "!"}
_UNKNOWN = {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "x", "type_id": 0}}], "pair": [],
            "special_tokens": {}}  # fmt: skip
_WRONG = {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "x", "type_id": 0}},
          {"Sequence": {"id": "A", "type_id": 0}}], "pair": [],
          "special_tokens": {"x": {"id": "x", "ids": [99999], "tokens": ["x"]}}}  # fmt: skip
TOKENIZERS: Cases = {
    "a prefix of no token": Case("encode", BROKEN, _tokenizer(post_processor=_WRONG), "has no such tokens"),
    "a tokenizer nested deeply": Case("model", BROKEN, with_files(tokenizer__json='{"a":' * 100_000)),
    "a tokenizer of lists": Case("model", BROKEN, with_files(tokenizer__json=b'{"a":[' + b"[]," * 3_000_000 + b"[]]}")),
    "a tokenizer of 65 MB": Case("model", BROKEN, with_files(tokenizer__json=b" " * 65_000_000), "larger"),
    "a tokenizer with a key twice": Case("model", BROKEN, with_files(tokenizer__json='{"a": 1, "a": 2}')),
    "a table of characters that is none": Case("model", BROKEN, _tokenizer(normalizer=_MAP)),
    "a post-processor without its token": Case("encode", BROKEN, _tokenizer(post_processor=_UNKNOWN)),
    "a pattern without end": Case("encode", BROKEN, _tokenizer(pre_tokenizer=_split("(a+)+$")), "retry-limit"),
    "a pattern nested deeply": Case(
        "model", BROKEN, _tokenizer(pre_tokenizer=_split("(" * 50_000 + "a" + ")" * 50_000))
    ),
    "a pattern that counts far": Case("model", "", _tokenizer(pre_tokenizer=_split("(?:a{1,99999}){1,99999}"))),
    "an id beyond all": Case(
        "model", BROKEN, _tokenizer(added_tokens=[{"id": 2**40, "content": "x", "special": True}])
    ),
    "added tokens that are none": Case("model", BROKEN, _tokenizer(added_tokens=["x"])),
    "templates under names that are none": Case(
        "model", "", with_files(tokenizer_config__json='{"chat_template": [{"name": ["x"], "template": {}}, 5]}')
    ),
    "a template of two megabytes": Case("model", BROKEN, with_files(chat_template__jinja="x" * 2_000_000), "larger"),
    "a template that is no text": Case("model", BROKEN, with_files(chat_template__jinja=b"\xff\xfe")),
}


def _gguf(*parts: bytes, keys: int = 1, tensors: int = 0) -> Build:
    content = b"GGUF" + struct.pack("<IQQ", 3, tensors, keys) + b"".join(parts)
    return with_files(x__gguf=content)


def _key(kind: int, value: bytes) -> bytes:
    return struct.pack("<Q", 1) + b"k" + struct.pack("<I", kind) + value


GGUFS: Cases = {
    "a GGUF of 49 bytes with an endless list": Case(
        "gguf", "gguf.damaged", _gguf(_key(9, struct.pack("<IQ", 4, 2**62)))
    ),
    "a GGUF of lists in lists": Case("gguf", "gguf.damaged", _gguf(_key(9, struct.pack("<IQ", 9, 2**20) * 9))),
    "a GGUF with 2^64 - 1 keys": Case("gguf", "gguf.damaged", _gguf(keys=2**64 - 1)),
    "a GGUF with 2^64 - 1 tensors": Case("gguf", "gguf.damaged", _gguf(tensors=2**64 - 1, keys=0)),
    "a GGUF with an endless text": Case("gguf", "gguf.damaged", _gguf(_key(8, struct.pack("<Q", 2**63)))),
    "a GGUF with empty texts only": Case(
        "gguf", "gguf.truncated", _gguf(_key(9, struct.pack("<IQ", 8, 2**22)) + bytes(9))
    ),
    "a GGUF with a tensor of any size": Case(
        "gguf",
        "gguf.damaged",
        _gguf(struct.pack("<Q", 1) + b"t" + struct.pack("<IQQQQIQ", 4, *[2**63] * 4, 0, 0), keys=0, tensors=1),
    ),
    "a GGUF with an alignment of 0": Case(
        "gguf", "gguf.damaged", _gguf(struct.pack("<Q", 17) + b"general.alignment" + struct.pack("<II", 4, 0))
    ),
}


def _adapter(shapes: dict[str, list[int]] | None = None, **changes: Any) -> Build:
    """Rank 8 unless `shapes` of A and B say otherwise."""

    def build(folder: Path, canary: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "adapter_config.json").write_text(json.dumps(seeds.PEFT | changes))
        (folder / "adapter_model.bin").write_bytes(pickled(canary))
        header, at = {}, 0
        for part, shape in (shapes or {"lora_A": [8, 4], "lora_B": [4, 8]}).items():
            size = 4 * shape[0] * shape[1]
            name = f"base_model.model.model.layers.0.self_attn.q_proj.{part}.weight"
            header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + size]}
            at += size
        (folder / "adapter_model.safetensors").write_bytes(safetensors(header, bytes(at)))

    return build


ADAPTERS: Cases = {
    "a sound adapter with a pickle beside": Case("adapter", "", _adapter()),
    "a rank beyond all": Case("adapter", "adapter.unreadable", _adapter(r=10**9)),
    "a rank that is NaN": Case("adapter", "adapter.unreadable", _adapter(lora_alpha=float("nan"))),
    "targets by a pattern without end": Case("adapter", "adapter.unsupported", _adapter(target_modules="(a+)+$")),
    "code in an adapter": Case("adapter", "adapter.unsupported", _adapter(lora_weight_init="evil.f")),
    "small factors of a change of terabytes": Case(
        "merge", "merge.memory", _adapter({"lora_A": [1, 10**6], "lora_B": [10**6, 1]}, r=1)
    ),
    "factors of nothing": Case("merge", "merge.shape", _adapter({"lora_A": [8, 0], "lora_B": [0, 8]})),
}
MODELS: Cases = OWN_CODE | VALUES | TOKENIZERS | GGUFS | ADAPTERS
