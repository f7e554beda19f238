"""Log-probabilities of targets through the model's own head, a chunk of targets at a time.

The head is the model's own forward with only its decoder exchanged: a shallow copy of the model object, sharing every
weight, whose decoder hands back the hidden states it is given. Whatever a family does around `lm_head` (Gemma 2 caps,
Granite and Cohere scale) happens because it is that family's code that runs. Logits [chunk, V] exist for one chunk at
a time; a [T, V] tensor never exists. The logarithm of the sum is taken in float32, or in float64 for a float64 model.

A log-probability depends on one hidden state. So where the head is frozen (LoRA), its derivative by that state, [N, H],
is taken while the logits exist and multiplied by whatever the objective asks for later: exact, and a third less work
than computing the logits again in the backward pass, which is what happens where the head trains.
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

Head = Callable[[torch.Tensor], torch.Tensor]
"""Hidden states [N, H] to logits [N, V] in float32 or wider."""


class _Given:
    """Stands for a decoder and every part of it that is called: its last hidden state is what it is given to embed."""

    def __init__(self, decoder: torch.nn.Module) -> None:
        self._decoder = decoder

    def __call__(self, *_: object, inputs_embeds: torch.Tensor, **__: object) -> "_Output":
        return _Output(inputs_embeds)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._decoder, name)
        return self if isinstance(value, torch.nn.Module) else value


class _Output:
    """A decoder's output that has nothing but its last hidden state; other fields read as None."""

    def __init__(self, hidden: torch.Tensor) -> None:
        self.last_hidden_state = hidden

    def __getitem__(self, index: int) -> torch.Tensor:
        return (self.last_hidden_state,)[index]

    def __getattr__(self, name: str) -> None:
        return None


def own_head(model: Any) -> Head:
    """The head of a transformers causal language model as a function of hidden states."""
    shell = copy.copy(model)
    shell.__dict__["_modules"] = {**model._modules, model.base_model_prefix: _Given(model.base_model)}

    def head(hidden: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = shell(inputs_embeds=hidden[None], use_cache=False).logits[0]
        return logits.to(torch.promote_types(logits.dtype, torch.float32))

    return head


def head_trains(model: Any) -> bool:
    """Whether a weight outside the decoder has a gradient (with tied weights, the embedding's)."""
    outside = [module for name, module in model._modules.items() if name != model.base_model_prefix]
    return any(weight.requires_grad for module in outside for weight in module.parameters())


def target_logprobs(
    head: Head, hidden: torch.Tensor, tokens: torch.Tensor, chunk: int, *, trains: bool
) -> torch.Tensor:
    """Log-probability of `tokens` [N] given the hidden states [N, H] before them; float32 [N].

    At most `chunk` rows of logits exist at once. `trains`: the head has gradients of its own.
    """
    parts = [hidden.new_zeros(0, dtype=torch.float32)]
    for start in range(0, len(tokens), chunk):
        states, ids = hidden[start : start + chunk], tokens[start : start + chunk]
        if trains:
            parts.append(checkpoint(_logprobs, head, states, ids, use_reentrant=False, preserve_rng_state=False))
        else:
            parts.append(_Slopes.apply(states, ids, head))  # type: ignore[no-untyped-call]
    return torch.cat(parts)


def _logprobs(head: Head, states: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    logits = head(states)
    return logits.gather(1, ids[:, None])[:, 0] - torch.logsumexp(logits, dim=1)


class _Slopes(torch.autograd.Function):
    """Log-probabilities whose gradient is taken at once, while their logits exist; what is kept is [chunk, H]."""

    @staticmethod
    def forward(ctx: Any, states: torch.Tensor, ids: torch.Tensor, head: Head) -> torch.Tensor:
        with torch.enable_grad():
            leaf = states.detach().requires_grad_()
            logprobs = _logprobs(head, leaf, ids)
            (slopes,) = torch.autograd.grad(logprobs.sum(), leaf)
        ctx.save_for_backward(slopes)
        return logprobs.detach()

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (slopes,) = ctx.saved_tensors
        return (upstream[0][:, None] * slopes).to(slopes.dtype), None, None


def judged(head: Head, hidden: torch.Tensor, tokens: torch.Tensor, chunk: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability of `tokens` [N], and whether each was the most likely token (bool [N])."""
    logprobs, hits = [hidden.new_zeros(0, dtype=torch.float32)], [hidden.new_zeros(0, dtype=torch.bool)]
    for start in range(0, len(tokens), chunk):
        logits, ids = head(hidden[start : start + chunk]), tokens[start : start + chunk]
        logprobs.append(logits.gather(1, ids[:, None])[:, 0] - torch.logsumexp(logits, dim=1))
        hits.append(logits.argmax(dim=1) == ids)
    return torch.cat(logprobs), torch.cat(hits)
