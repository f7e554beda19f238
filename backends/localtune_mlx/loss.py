"""Log-probabilities of targets through the model's own head, a chunk of targets at a time.

The head is the model's own code with only its decoder exchanged: a shallow copy of the model object, sharing every
array, whose decoder hands back the hidden states it is given. Whatever a family does around its head (Gemma 2 caps,
Granite and Cohere scale) happens because it is that family's code that runs. A [T, V] array never exists: logits
[chunk, V] are computed for one chunk after another, though MLX takes memory for a few chunks that are still queued. The
logarithm of the sum is float32.

A log-probability depends on one hidden state. So where the head is frozen (LoRA), its derivative by that state, [N, H],
is taken while the logits exist and multiplied by whatever the objective asks for later: exact, and a third less work
than computing the logits again in the backward pass, which is what happens where the head trains.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import mlx.core as mx

Head = Callable[[mx.array], mx.array]
"""Hidden states [N, H] to logits [N, V] in float32."""
Put = Callable[[Any], None]
"""Puts trained arrays where the model reads them."""


class _Given:
    """Stands for a decoder: what it is asked to decode is already decoded."""

    def __init__(self, decoder: Any) -> None:
        self._decoder = decoder

    def __call__(self, hidden: mx.array, *_: object, **__: object) -> mx.array:
        return hidden

    def __getattr__(self, name: str) -> Any:
        return getattr(self._decoder, name)


def own_head(model: Any) -> Head:
    """The head of a causal language model of mlx-lm as a function of hidden states."""
    kind: Any = type(model)
    shell = kind.__new__(kind)
    dict.update(shell, {key: value for key, value in model.items() if key != "model"})
    shell.__dict__.update(model.__dict__, model=_Given(model.model))

    def head(hidden: mx.array) -> mx.array:
        logits: mx.array = shell(hidden[None])[0]
        return logits.astype(mx.float32)

    return head


def target_logprobs(head: Head, hidden: mx.array, tokens: mx.array, chunk: int) -> mx.array:
    """Log-probability of `tokens` [N] given the hidden states [N, H] before them; float32 [N]. The head is frozen."""

    @mx.custom_function
    def logprobs(hidden: mx.array, tokens: mx.array) -> tuple[mx.array, mx.array]:
        parts: list[mx.array] = []
        slopes: list[mx.array] = []
        for states, ids in _chunks(hidden, tokens, chunk):
            found, slope = _with_slope(head, _after(states, [*parts[-1:], *slopes[-1:]]), ids)
            parts.append(found)
            slopes.append(slope.astype(hidden.dtype))
        return mx.concatenate(parts), mx.concatenate(slopes)

    @logprobs.vjp
    def _(primals: Any, cotangents: Any, outputs: Any) -> tuple[mx.array, mx.array]:
        hidden: mx.array = cotangents[0][:, None] * outputs[1]
        return hidden.astype(primals[0].dtype), mx.zeros_like(primals[1])

    found: mx.array = logprobs(hidden, tokens)[0]  # type: ignore[index]
    return found


def trained_logprobs(
    head: Head, put: Put, weights: dict[str, mx.array], hidden: mx.array, tokens: mx.array, chunk: int
) -> mx.array:
    """The same where the head trains: `weights` are what `put` gives it; logits are computed again going back."""

    names = list(weights)

    def chunk_of(ids: mx.array, states: mx.array, *arrays: mx.array) -> mx.array:
        put(dict(zip(names, arrays, strict=True)))
        return _of(head(states), ids)

    def whole(hidden: mx.array, *arrays: mx.array) -> mx.array:
        parts: list[mx.array] = []
        for states, ids in _chunks(hidden, tokens, chunk):
            parts.append(chunk_of(ids, _after(states, parts[-1:]), *arrays))
        return mx.concatenate(parts)

    again: Any = mx.custom_function(whole)

    @again.vjp  # type: ignore[untyped-decorator]
    def _(primals: Any, cotangent: mx.array, output: mx.array) -> Any:
        hidden, *arrays = primals
        totals, slopes = [mx.zeros_like(array) for array in arrays], [cotangent]
        for start, (states, ids) in zip(range(0, len(tokens), chunk), _chunks(hidden, tokens, chunk), strict=True):
            inputs = mx.depends([states, *arrays], [slopes[-1], *totals])
            slope, *found = mx.vjp(partial(chunk_of, ids), inputs, [cotangent[start : start + chunk]])[1]
            totals = [total + one for total, one in zip(totals, found, strict=True)]
            slopes.append(slope)
        return (mx.concatenate(slopes[1:]), *totals)

    found: mx.array = again(hidden, *weights.values())
    put(weights)
    return found


def judged(head: Head, hidden: mx.array, tokens: mx.array, chunk: int) -> tuple[mx.array, mx.array]:
    """Log-probability of `tokens` [N], and whether each was the most likely token (bool [N])."""
    parts, hits = [], []
    for states, ids in _chunks(hidden, tokens, chunk):
        logits = head(states)
        parts.append(_of(logits, ids))
        hits.append(mx.argmax(logits, axis=1) == ids)
        mx.eval(parts[-1], hits[-1])
    return mx.concatenate(parts), mx.concatenate(hits)


def _chunks(hidden: mx.array, tokens: mx.array, chunk: int) -> list[tuple[mx.array, mx.array]]:
    starts = range(0, max(1, tokens.shape[0]), chunk)
    return [(hidden[start : start + chunk], tokens[start : start + chunk]) for start in starts]


def _after(states: mx.array, before: list[mx.array]) -> mx.array:
    """`states`, once what is `before` is computed: otherwise all chunks' logits might exist at once."""
    return mx.depends(states, before) if before else states


def _with_slope(head: Head, states: mx.array, ids: mx.array) -> tuple[mx.array, mx.array]:
    """Log-probabilities of `ids`, and the derivative of each by its hidden state: (one-hot - softmax) through the head.

    The head is not computed twice: going back through a linear map takes its weights alone.
    """
    logits, at = head(states), ids[:, None]
    normaliser = mx.logsumexp(logits, axis=1, keepdims=True)
    chosen = mx.take_along_axis(logits, at, axis=1) - normaliser
    likely = mx.exp(logits - normaliser)
    slope = mx.put_along_axis(-likely, at, 1 - mx.exp(chosen), axis=1)
    return chosen[:, 0], mx.vjp(head, [states], [slope])[1][0]


def _of(logits: mx.array, ids: mx.array) -> mx.array:
    return mx.take_along_axis(logits, ids[:, None], axis=1)[:, 0] - mx.logsumexp(logits, axis=1)
