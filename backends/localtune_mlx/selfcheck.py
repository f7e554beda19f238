"""Two promises that depend on a family's code, tried on six tokens when a model is opened.

The head over the decoder must be the model's whole forward, and two packed segments must not see each other. An mlx-lm
that changed one of them would train a different model without an error. The comparison is loose (relative L2 norms, for
bfloat16): a wrong head or a leak is off by the size of the values themselves.
"""

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from localtune.errors import MachineError, Problem
from localtune_mlx.loss import Head

TOLERANCE = 0.05
"""Relative; rounding in bfloat16 stays under a fifth of it."""

Decode = Callable[[mx.array, Any, Any], mx.array]
"""Tokens [B, T], segments and positions [B, T] or None, to hidden states [B, T, H]."""


def check(model: Any, decode: Decode, head: Head, vocabulary: int) -> None:
    """Raise `MachineError` unless head and decoder are the model, and packed segments stay apart."""
    places = np.arange(6, dtype=np.int32)[None]
    tokens = mx.array((places * 7 + 3) % vocabulary)
    if not _close(head(decode(tokens, None, None)[0]), model(tokens)[0]):
        raise _broken(model, "computes its logits in a way this backend does not follow")
    packed = decode(tokens, mx.array(_halves(places)), mx.array(places % 3))[0, 3:]
    if not _close(packed, decode(tokens[:, 3:], None, None)[0]):
        raise _broken(model, "lets packed examples see each other")


def _halves(places: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    return (places // 3 + 1).astype(np.int32)


def _broken(model: Any, how: str) -> MachineError:
    what = f"{type(model).__module__} {how}"
    return MachineError(Problem("mlx.model", what, fix="pip install 'mlx-lm>=0.31.3,<0.33'"))


def _close(a: mx.array, b: mx.array) -> bool:
    one, other = np.array(a.astype(mx.float32)), np.array(b.astype(mx.float32))
    return bool(np.linalg.norm(one - other) <= TOLERANCE * np.linalg.norm(other))
