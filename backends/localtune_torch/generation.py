"""Answers to many prompts at once with a KV cache.

Prompts are sorted by length and run in blocks, left-padded inside a block; rows that ended leave the block, so that it
gets faster. Greedy takes the lowest id among equally likely tokens. A sampled token is the inverse CDF, over
probabilities in order of token id, of one uniform keyed by (seed, row, position in the sequence); `top_p` first keeps
the smallest set of most likely tokens that reaches it, ties by lower id. Probabilities are float64. So what a row says
depends on no other row, up to the rounding of the logits.

A block's cache is freed when its rows have ended or the generator is closed.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from localtune.backend import Sampling
from localtune.prompt_blocks import Room, blocks

Forward = Callable[..., Any]
"""A transformers forward without a gradient; returns logits and cache."""


def generate(
    forward: Forward, device: torch.device, prompts: Sequence[Sequence[int]], sampling: Sampling, room: Room
) -> Iterator[tuple[int, int]]:
    """(row, token) as they are drawn. Raises `ValueError` for an empty prompt."""
    if any(len(prompt) == 0 for prompt in prompts):
        raise ValueError("a prompt needs at least one token")
    if sampling.max_tokens < 1:
        return
    lengths = [len(prompt) for prompt in prompts]
    for rows in blocks(lengths, sampling.max_tokens + room.per_row, room.tokens):
        yield from _block(forward, device, [prompts[row] for row in rows], rows, sampling)


def draw(logits: torch.Tensor, uniforms: Sequence[float], sampling: Sampling) -> torch.Tensor:
    """Token ids int64 [R] from logits [R, V], one uniform per row; greedy needs none."""
    if sampling.temperature == 0:
        return logits.argmax(dim=-1)
    probabilities = torch.softmax(logits.double() / sampling.temperature, dim=-1)
    if sampling.top_p < 1:
        probabilities = _nucleus(probabilities, sampling.top_p)
    cumulative = probabilities.cumsum(dim=-1)
    points = torch.tensor(uniforms, dtype=torch.float64, device=logits.device)[:, None] * cumulative[:, -1:]
    return torch.searchsorted(cumulative, points, right=True)[:, 0].clamp(max=logits.shape[-1] - 1)


def _nucleus(probabilities: torch.Tensor, top_p: float) -> torch.Tensor:
    ordered, ids = torch.sort(probabilities, dim=-1, descending=True, stable=True)
    kept = ordered.cumsum(dim=-1) - ordered < top_p  # the most likely token is always kept
    return torch.zeros_like(probabilities).scatter(-1, ids, ordered * kept)


def _block(
    forward: Forward, device: torch.device, prompts: list[Sequence[int]], rows: list[int], sampling: Sampling
) -> Iterator[tuple[int, int]]:
    tokens, mask, places = _left_padded(prompts, device)
    ends = [len(prompt) for prompt in prompts]
    cache = None
    for count in range(1, sampling.max_tokens + 1):
        result = forward(tokens, mask, places, cache)
        cache = result.past_key_values
        uniforms = [sampling.uniform(row, end) for row, end in zip(rows, ends, strict=True)]
        drawn = draw(result.logits[:, -1], uniforms, sampling)
        ids = drawn.tolist()
        yield from zip(rows, ids, strict=True)
        alive = [place for place, token in enumerate(ids) if token not in sampling.stop]
        if not alive or count == sampling.max_tokens:
            return
        ends = [ends[place] + 1 for place in alive]
        if len(alive) < len(rows):
            rows = [rows[place] for place in alive]
            index = torch.tensor(alive, device=device)
            cache.batch_select_indices(index)
            drawn, mask = drawn[index], mask[index]
        tokens = drawn[:, None]
        mask = torch.cat([mask, mask.new_ones(len(alive), 1)], dim=1)
        places = torch.tensor(ends, device=device)[:, None] - 1


def _left_padded(prompts: list[Sequence[int]], device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    width = max(len(prompt) for prompt in prompts)
    tokens, mask = np.zeros((len(prompts), width), np.int64), np.zeros((len(prompts), width), np.int64)
    for line, prompt in enumerate(prompts):
        tokens[line, width - len(prompt) :] = prompt
        mask[line, width - len(prompt) :] = 1
    places = np.maximum(mask.cumsum(axis=1) - 1, 0)
    return tuple(torch.from_numpy(array).to(device) for array in (tokens, mask, places))  # type: ignore[return-value]
