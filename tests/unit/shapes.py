"""A model of 1.7 B weights without its weights, rows without a file, a recipe over both: what plans are made of."""

from pathlib import Path

import numpy as np

from localtune.batch import Segment
from localtune.data.prepared import Prepared
from localtune.data.report import Losses, Part, Report
from localtune.model import ModelConfig, ModelFiles, TensorInfo
from localtune.settings import Recipe

GB = 10**9
LAYERS, HIDDEN, WIDE, VOCABULARY = 28, 2048, 6144, 151_936


def big_model() -> ModelFiles:
    """The shapes of a 1.7 B model, without its weights."""
    square, up, down = (HIDDEN, HIDDEN), (WIDE, HIDDEN), (HIDDEN, WIDE)
    shapes = {"q_proj": square, "k_proj": square, "v_proj": square, "o_proj": square,
              "gate_proj": up, "up_proj": up, "down_proj": down}  # fmt: skip
    names = {f"model.layers.{i}.x.{name}.weight": shape for i in range(LAYERS) for name, shape in shapes.items()}
    names["model.embed_tokens.weight"] = (VOCABULARY, HIDDEN)
    tensors = [TensorInfo(n, s, "BF16", 2 * s[0] * s[1], "model.safetensors") for n, s in names.items()]
    config = ModelConfig(
        architecture="LlamaForCausalLM", model_type="llama", layers=LAYERS, hidden=HIDDEN, feed_forward=WIDE, heads=16,
        kv_heads=16, head_dim=128, vocabulary=VOCABULARY, context=32768, tied=True, rope_theta=1e6, rope_scaling=None,
        sliding_window=None, dtype="bfloat16", quantized=None,
    )  # fmt: skip
    return ModelFiles("big", Path("big"), None, config, tuple(tensors), (1,))


def prepared(count: int = 100, length: int = 900) -> Prepared:
    """`count` rows of `length` tokens."""
    tokens, weights = np.ones(length, np.int32), np.ones(length, np.float32)
    train = tuple(Segment(tokens, weights, i) for i in range(count))
    part = Part(
        "rows.jsonl", count, count, count * length, count * length, 0, 0, (), length, length, length, "rows.jsonl:1"
    )
    losses = (Losses("rows.jsonl", 0, (), 0, ()),)
    report = Report("messages", "because", "<|im_end|>", "", part, part, part, losses, ())
    return Prepared(train, (), (), (), report)


def recipe(**train: object) -> Recipe:
    """A recipe with these settings of `train`."""
    return Recipe.model_validate({"model": "big", "data": {"train": "rows.jsonl"}, "train": train})
