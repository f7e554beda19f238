"""Two promises that depend on a family's code, tried on six tokens when a model is opened.

The head over the decoder must be the model's whole forward, and two packed segments must not see each other. An
architecture that breaks one of them would train a different model without an error. The comparison is loose (relative
L2 norms, for bfloat16): a wrong head or a leak is off by the size of the values themselves.
"""

from collections.abc import Callable
from typing import Any

import torch

from localtune.errors import MachineError, Problem
from localtune_torch.loss import Head

TOLERANCE = 0.05
"""Relative; rounding in bfloat16 stays under a fifth of it."""

Decode = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Tokens [B, T] and positions [B, T] to hidden states [B, T, H]."""


def check_head(model: Any, decode: Decode, head: Head, device: torch.device) -> None:
    """Raise `MachineError` unless head and decoder together are the model."""
    tokens, positions = _six_tokens(model, device)
    whole = model(input_ids=tokens, position_ids=positions, use_cache=False).logits[0]
    if not _close(head(decode(tokens, positions)[0]), whole):
        what = f"{type(model).__name__} computes its logits in a way this backend does not follow"
        raise MachineError(Problem("torch.head", what, fix="pip install -U transformers, or choose another model"))


def keeps_segments_apart(model: Any, decode: Decode, device: torch.device) -> bool:
    """Whether the second of two packed segments has the hidden states it has alone."""
    tokens, positions = _six_tokens(model, device)
    packed = decode(tokens, positions % 3)[0, 3:]
    return _close(packed, decode(tokens[:, 3:], positions[:, :3])[0])


def _six_tokens(model: Any, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    places = torch.arange(6, device=device)[None]
    return (places * 7 + 3) % model.config.vocab_size, places


def _close(a: torch.Tensor, b: torch.Tensor) -> bool:
    return bool((a.float() - b.float()).norm() <= TOLERANCE * b.float().norm())
