"""Valid inputs of our own parsers, small, so that a change of a few bytes reaches far into them."""

import json
import struct
from typing import Any

from localtune import events
from tests.unit.data.builders import CHATML, byte_level, sentencepiece


def dumped(value: Any) -> bytes:
    """JSON as programs write it."""
    return json.dumps(value, ensure_ascii=False).encode()


RECIPE = b"""version: 1
name: tiny
model: org/name@main
data: {train: rows.jsonl, columns: {prompt: q, completion: "a\\u00e9"}}
train:
  epochs: 2
  learning_rate: 1e-4
  memory_limit: 8GB
  warmup: 3%
lora:
  targets: [q_proj, v_proj]
watch: {samples: ["hi", 'there'], stop_if: {val_loss_rises: 3}}
export:
  gguf:
  - Q8_0
"""
FLAGS = (b"train.epochs=1.5", b"lora.targets=[a, b]", b"data.columns={prompt: x}", b'data.system="a: b"', b"name=x")
TURNS: list[dict[str, Any]] = [
    {"role": "user", "content": "hi é"},
    {"role": "assistant", "content": "hello", "weight": 1},
]
CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": [1, 2.5, null]}'}}
ROWS = (
    {"messages": TURNS, "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]},
    {"messages": [TURNS[0], {"role": "assistant", "tool_calls": [CALL]}, {"role": "tool", "content": "3"}, TURNS[1]]},
    {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
    {"prompt": "a", "completion": "b", "group": "g"},
    {"prompt": "a", "chosen": "b", "rejected": "c"},
    {"text": "x\u2028y"},
)
JSONL = (*(dumped(row) + b"\n" for row in ROWS), b"\xef\xbb\xbf" + dumped(ROWS[3]) + b"\r\n" + dumped(ROWS[3]))
LISTS = (dumped([ROWS[4], ROWS[4]]), dumped({"data": [ROWS[3], ROWS[3]]}), dumped(ROWS[0]))
TABLES = (b'prompt,completion\n1,"x ""y"", z"\n\n2,3\n', b"prompt;completion\na;b\n", "text\tn\n안\t반\n".encode())
DOCUMENTS = (b"one\n\ntwo\r\n---\nthree", b"text")
ENCODED = ("a,é\nб,в\n".encode(), "안녕하세요\n".encode("cp949"), "naïve café\n".encode("cp1252"),
           "a\nb\n".encode("utf-16"), "Привет мир\n".encode("cp1251"))  # fmt: skip
HEADER = {
    "__metadata__": {"format": "pt"},
    "a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]},
    "b": {"dtype": "BF16", "shape": [4], "data_offsets": [16, 24]},
}
INDEX = {"metadata": {"total_size": 24}, "weight_map": {"a": "model-00001-of-00002.safetensors"}}
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "num_hidden_layers": 2,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "vocab_size": 512,
    "max_position_embeddings": 256,
    "rope_theta": 10000.0,
    "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "long_factor": [1.0, 2.0]},
    "sliding_window": 128,
    "eos_token_id": [1, 2],
    "torch_dtype": "bfloat16",
    "tie_word_embeddings": True,
}
NEW_FORM = {"rope_parameters": {"full_attention": {"rope_theta": 1e6, "rope_type": "default"}}, "layer_types": ["x"]}
CONFIGS = (
    dumped(CONFIG),
    dumped({k: v for k, v in CONFIG.items() if not k.startswith("rope")} | NEW_FORM),
    dumped(CONFIG | {"quantization": {"group_size": 64, "bits": 4, "lm_head": {"group_size": 32, "bits": 8}}}),
    dumped(CONFIG | {"auto_map": {"AutoModel": "m.M"}, "quantization_config": {"quant_method": "bitsandbytes"}}),
)
STATE = {"quant_type": "nf4", "dtype": "bfloat16", "shape": [8, 8], "blocksize": 64, "nested_blocksize": 256,
         "nested_dtype": "float32", "nested_offset": 0.01}  # fmt: skip
STATUS = {"format": 1, "state": "running", "step": 3, "steps": 9, "launch": "a", "worker": None, "heartbeat": 1.5,
          "supervisor": {"pid": 1, "started": 2.5, "boot": "b"}, "detail": "", "sessions": 1}  # fmt: skip
MANIFEST = {"format": 1, "files": {"adapter_config.json": {"size": 12, "sha256": "00"}, "a/b.jsonl": {"size": 0}}}
PEFT = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "lora_dropout": 0.1, "target_modules": ["q_proj"],
        "bias": "none", "use_dora": False, "use_rslora": True, "base_model_name_or_path": "org/x"}  # fmt: skip
TOKENIZER_CONFIG = {
    "bos_token": "<s>",
    "eos_token": {"content": "</s>"},
    "add_bos_token": True,
    "chat_template": [{"name": "default", "template": CHATML}, {"name": "tool_use", "template": "x"}],
}
TEMPLATES = (
    CHATML,
    "{% set n = namespace(i=0) %}{% for m in messages %}{% if m.role == 'user' and loop.first %}{% set n.i = n.i + 1 %}"
    "{{ m['content'] | trim }}{% elif m.tool_calls %}{{ m.tool_calls | tojson(indent=2) }}{% endif %}{% endfor %}",
    "{% macro say(x, y='a') %}{{ x ~ y }}{% endmacro %}{{ say(bos_token) }}{{ strftime_now('%Y') }}"
    "{% generation %}{{ messages[-1]['content'].split('a')[0] }}{% endgeneration %}{{ '%s' % eos_token }}",
    "{{ raise_exception('no') if not messages else messages | map(attribute='role') | list | join(',') }}",
)
EVENTS = tuple(
    events.to_json(event, when=1.0).encode()
    for event in (
        events.Phase("loading", "x"),
        events.Step(1, 2, 0.5, 1.25, 3.0, 1e-4, float("inf"), True, 10, 5, 1000, 0.1),
        events.Proof("Q8_0", True, [{"name": "a", "passed": True, "text": "b"}], {"tuned": 1.0}, 2.0),
        events.Replies("p", {"base": "x"}),
    )
)


def tokenizer_states() -> tuple[bytes, ...]:
    """`tokenizer.json` of byte-level BPE, of SentencePiece's two forms, and of a model of every other kind."""
    states = [json.loads(one.to_str()) for one in (byte_level([("a", "b")]), *map(sentencepiece, ("prepend", "first")))]
    for state in states:
        state["model"]["vocab"] = dict([*list(state["model"]["vocab"].items())[:8], ("a", 8), ("b", 9), ("ab", 10)])
        state["model"]["merges"], state["model"]["unk_token"] = [["a", "b"]], None
    return (*map(dumped, states), dumped(_UNIGRAM), dumped(_UNIGRAM | {"model": _WORDS, "normalizer": None}))


_UNIGRAM: dict[str, Any] = {
    "version": "1.0",
    "added_tokens": [{"id": 0, "content": "<s>", "special": True, "single_word": False, "lstrip": False,
                      "rstrip": False, "normalized": False}],
    "normalizer": {"type": "Sequence", "normalizers": [
        {"type": "NFKC"}, {"type": "Replace", "pattern": {"Regex": "a+"}, "content": "b"}]},
    "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": "x+"}, "behavior": "Isolated", "invert": False},
        {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}]},
    "post_processor": {"type": "TemplateProcessing", "pair": [], "single": [
        {"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
                       "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}}},
    "decoder": {"type": "Sequence", "decoders": [
        {"type": "ByteFallback"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
    "model": {"type": "Unigram", "unk_id": 0, "byte_fallback": False,
              "vocab": [["<s>", 0.0], ["a", -1.0], ["ab", -2.0], ["▁", -3.0]]},
}  # fmt: skip
_WORDS = {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
          "max_input_chars_per_word": 100, "vocab": {"[UNK]": 0, "a": 1, "##b": 2, "<s>": 3}}  # fmt: skip


def gguf() -> bytes:
    """A header with a key of every kind, one tensor, and its data."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value.encode())) + value.encode()

    keys = [
        text("general.architecture") + struct.pack("<I", 8) + text("llama"),
        text("general.alignment") + struct.pack("<II", 4, 32),
        text("llama.rope") + struct.pack("<If", 6, 1.5),
        text("tokenizer.tokens") + struct.pack("<IIQ", 9, 8, 2) + text("a") + text("b"),
        text("flags") + struct.pack("<IIQ", 9, 7, 2) + b"\1\0",
    ]
    tensor = text("token_embd.weight") + struct.pack("<IQQIQ", 2, 4, 2, 0, 0)
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, len(keys)) + b"".join(keys) + tensor
    return head + bytes(-len(head) % 32) + bytes(32)
