"""Which base an adapter belongs to, and which base a GGUF was made of: a key in both, compared before they are used.

The key is a SHA-256 over values that no LoRA changes: every tensor of one dimension (norms, biases) and some rows of
the token embedding, in float32, as they are once dequantised. So it is the same of a base, of the base with a LoRA
fused into it, in whatever type it is written, and of a copy in 8 or 4 bits by bitsandbytes; and another of any model of
the same shape whose every weight was trained. It cannot tell a base from what was fused from it. Where the embedding
itself is quantised (MLX) its values are not the original's, and there is no key.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from localtune.export.placed import Conversion
from localtune.export.values import unreadable
from localtune.model import ModelFiles
from localtune.model.plain import PlainWeights, plain_weights

KEY = "localtune.base.sha256"
ROWS = 64
"""Of the embedding, evenly spaced: rare tokens' rows are often those of another fine-tune of the same origin."""
_EMBEDDING = "token_embd.weight"


def base_key(model: ModelFiles, conversion: Conversion) -> dict[str, str]:
    """`KEY` for a GGUF of `model`, or of an adapter trained on it; empty where the embedding is quantised.

    Raises `InputError` for weights that cannot be read.
    """
    weights = plain_weights(model)
    embeddings = [placed.sources[0] for placed in conversion.tensors if placed.name == _EMBEDDING and placed.sources]
    if not embeddings or weights.is_packed(embeddings[0]):
        return {}
    try:
        return {KEY: _digest(weights, conversion, embeddings[0])}
    except OSError as error:
        raise unreadable(error, weights[embeddings[0]].shard) from None


def same_base(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool | None:
    """Whether the keys of two GGUF files say the same base; None where one does not say."""
    if not (isinstance(one.get(KEY), str) and isinstance(other.get(KEY), str)):
        return None
    return bool(one[KEY] == other[KEY])


def _digest(weights: PlainWeights, conversion: Conversion, embedding: str) -> str:
    digest = hashlib.sha256()
    for placed in sorted(conversion.tensors, key=lambda placed: placed.name):
        if len(placed.shape) == 1 and len(placed.sources) == 1:
            _add(digest, placed.name, weights.rows(placed.sources[0], 0, placed.shape[0]))
    count = weights[embedding].shape[0]
    for row in sorted({i * count // ROWS for i in range(ROWS)}):
        _add(digest, f"{_EMBEDDING} {row}", weights.rows(embedding, row, row + 1))
    return digest.hexdigest()


def _add(digest: "hashlib._Hash", name: str, values: np.ndarray[Any, Any]) -> None:
    digest.update(name.encode() + b"\0" + np.ascontiguousarray(values, "<f4").tobytes())
