"""A GGUF file of a few hundred kilobytes with random weights, written in code."""

from pathlib import Path

import gguf
import numpy as np

CONTROL = ("<|im_start|>", "<|im_end|>")
PIECES = [*(f"<0x{i:02X}>" for i in range(256)), "▁", *map(chr, range(33, 127)), "▁a", "▁b"]
TOKENS = ["<unk>", "<s>", "</s>", *PIECES, *CONTROL]
EOS = 2
END = TOKENS.index("<|im_end|>")
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def write_gguf(
    path: Path, *, template: str | None = CHATML, context: int = 512, hidden: int = 64, base: str | None = None
) -> Path:
    """A Llama of one layer with a SentencePiece vocabulary; it seldom ends an answer by itself.

    `base` is what it says of what it was made of, as an adapter may.
    """
    writer = gguf.GGUFWriter(path, "llama")
    if base is not None:
        writer.add_string("localtune.base.sha256", base)
    writer.add_context_length(context)
    writer.add_embedding_length(hidden)
    writer.add_block_count(1)
    writer.add_feed_forward_length(2 * hidden)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(hidden // 4)
    _vocabulary(writer)
    if template is not None:
        writer.add_chat_template(template)
    for name, shape in _shapes(hidden).items():
        writer.add_tensor(name, _weights(name, shape))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_lora(
    path: Path, seed: int = 1, *, hidden: int = 64, kind: str = "lora", alpha: float = 64.0, base: str | None = None
) -> Path:
    """A LoRA of rank 2 on the layer's values, so strong that greedy answers differ."""
    keys: dict[str, str | float] = {"general.type": "adapter", "adapter.type": kind, "adapter.lora.alpha": alpha}
    keys |= {} if base is None else {"localtune.base.sha256": base, "general.base_model.0.name": f"model {base}"}
    writer, generator = gguf.GGUFWriter(path, "llama"), np.random.default_rng(seed)
    for key, value in keys.items():
        writer.add_string(key, value) if isinstance(value, str) else writer.add_float32(key, value)
    for part, shape in (("a", (2, hidden)), ("b", (hidden // 2, 2))):
        writer.add_tensor(f"blk.0.attn_v.weight.lora_{part}", generator.normal(0, 1, shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _vocabulary(writer: gguf.GGUFWriter) -> None:
    kinds = gguf.TokenType
    types = [kinds.UNKNOWN, *[kinds.CONTROL] * 2, *[kinds.BYTE] * 256]
    types += [kinds.NORMAL] * (len(PIECES) - 256) + [kinds.CONTROL] * len(CONTROL)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(TOKENS)
    writer.add_token_scores([-float(i) for i in range(len(TOKENS))])
    writer.add_token_types([int(kind) for kind in types])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(EOS)
    writer.add_eot_token_id(END)
    writer.add_add_bos_token(True)


def _shapes(hidden: int) -> dict[str, tuple[int, ...]]:
    half, wide = hidden // 2, 2 * hidden
    block = {
        "attn_norm": (hidden,), "ffn_norm": (hidden,), "attn_q": (hidden, hidden), "attn_k": (half, hidden),
        "attn_v": (half, hidden), "attn_output": (hidden, hidden), "ffn_gate": (wide, hidden),
        "ffn_up": (wide, hidden), "ffn_down": (hidden, wide),
    }  # fmt: skip
    ends = {"token_embd": (len(TOKENS), hidden), "output": (len(TOKENS), hidden), "output_norm": (hidden,)}
    return {f"{name}.weight": shape for name, shape in ends.items()} | {
        f"blk.0.{name}.weight": shape for name, shape in block.items()
    }


def _weights(name: str, shape: tuple[int, ...]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    if "norm" in name:
        return np.ones(shape, np.float32)
    weights = np.random.default_rng(len(name)).normal(0, 0.2, shape).astype(np.float32)
    if name == "output.weight":
        weights[[0, 1, EOS, *range(3, 259), END, END - 1]] = 0.0  # letters are likelier than ends and bytes
    return weights
