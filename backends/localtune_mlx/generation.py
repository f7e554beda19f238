"""Answers to many prompts at once with a KV cache.

Prompts are sorted by length and run in blocks, left-padded inside a block; rows that ended leave the block. Greedy
takes the lowest id among equally likely tokens. A sampled token is the inverse CDF, over probabilities in order of
token id, of one uniform keyed by (seed, row, position in the sequence); `top_p` first keeps the smallest set of most
likely tokens that reaches it, ties by lower id. Probabilities are float64. So what a row says depends on no other row,
up to the rounding of the logits.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from localtune.backend import Sampling
from localtune.prompt_blocks import Room, blocks
from localtune_mlx.packing import Layout, within

Logits = npt.NDArray[np.float32]
GROWTH = 256
"""Columns that a full cache grows by."""


class Past:
    """The keys and values of a block of left-padded prompts, for every layer, and what the next tokens see."""

    def __init__(self, pads: npt.NDArray[np.int32], layers: int, layout: Layout) -> None:
        """`pads` int32 [B]: padding before each prompt."""
        self.pads, self._layout = pads, layout
        self.length = 0
        self.offset: Any = 0
        """Positions of the tokens of this pass: of the first, or int32 [B, count] where padding differs."""
        self.layers = [_Layer(self) for _ in range(layers)]

    def expect(self, count: int) -> None:
        """The next pass brings `count` tokens."""
        self.offset = self.length
        if self.pads.any():
            columns = np.arange(self.length, self.length + count)
            self.offset = mx.array(np.maximum(columns[None] - self.pads[:, None], 0).astype(np.int32))

    def advance(self, count: int) -> None:
        """Every layer has taken them."""
        self.length += count

    def mask(self, count: int, window: int | None, *, array: bool) -> Any:
        """What the next `count` tokens see of everything so far and of each other."""
        window, whole = window or self._layout.window, self.length + count
        if not array and not self.pads.any() and (window is None or whole <= window):
            return None if count == 1 else "causal"
        queries, keys = mx.arange(self.length, whole)[:, None], mx.arange(whole)[None, :]
        seen = within(queries, keys, window)[None] & (keys[None] >= mx.array(self.pads)[:, None, None])
        return self._layout.with_heads(seen)

    def keep(self, rows: list[int]) -> None:
        """Go on with these rows only."""
        self.pads = self.pads[rows]
        for layer in self.layers:
            layer.keep(mx.array(rows))


class _Layer:
    """One layer's keys and values, in the words of mlx-lm's caches."""

    def __init__(self, past: Past) -> None:
        self._past = past
        self._keys: mx.array | None = None
        self._values: mx.array | None = None

    @property
    def offset(self) -> Any:
        return self._past.offset

    def make_mask(self, length: int, return_array: bool = False, window_size: int | None = None) -> Any:
        return self._past.mask(length, window_size, array=return_array)

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        start, end = self._past.length, self._past.length + keys.shape[2]
        self._keys, self._values = _grown(self._keys, keys, end), _grown(self._values, values, end)
        self._keys[..., start:end, :], self._values[..., start:end, :] = keys, values
        return self._keys[..., :end, :], self._values[..., :end, :]

    def keep(self, rows: mx.array) -> None:
        assert self._keys is not None
        assert self._values is not None
        self._keys, self._values = self._keys[rows], self._values[rows]


Forward = Callable[[mx.array, Past], mx.array]
"""Tokens [B, T] after a past to the logits of the last position [B, V]."""


def generate(
    forward: Forward,
    past: Callable[[npt.NDArray[np.int32]], Past],
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    room: Room,
    longest: int | None = None,
) -> Iterator[tuple[int, int]]:
    """(row, token) as they are drawn; `past` makes an empty one for given paddings.

    Prompt and answer together are at most `longest` tokens. Raises `ValueError` for an empty prompt.
    """
    if any(len(prompt) == 0 for prompt in prompts):
        raise ValueError("a prompt needs at least one token")
    if sampling.max_tokens < 1:
        return
    lengths = [len(prompt) for prompt in prompts]
    for rows in blocks(lengths, sampling.max_tokens + room.per_row, room.tokens):
        width = max(lengths[row] for row in rows)
        tokens = np.zeros((len(rows), width), np.int32)
        for line, row in enumerate(rows):
            tokens[line, width - lengths[row] :] = prompts[row]
        pads = np.array([width - lengths[row] for row in rows], np.int32)
        yield from _block(forward, past(pads), tokens, rows, [lengths[row] for row in rows], sampling, longest)


def draw(logits: Logits, uniforms: Sequence[float], sampling: Sampling) -> list[int]:
    """Token ids of R rows from logits [R, V], one uniform per row; greedy needs none."""
    if sampling.temperature == 0:
        return [int(token) for token in logits.argmax(axis=-1)]
    scaled = logits.astype(np.float64) / sampling.temperature
    probabilities = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    probabilities /= probabilities.sum(axis=-1, keepdims=True)
    if sampling.top_p < 1:
        probabilities = _nucleus(probabilities, sampling.top_p)
    cumulative = probabilities.cumsum(axis=-1)
    points = np.asarray(uniforms) * cumulative[:, -1]
    found = [np.searchsorted(row, point, side="right") for row, point in zip(cumulative, points, strict=True)]
    return [min(int(token), logits.shape[-1] - 1) for token in found]


def _block(
    forward: Forward,
    past: Past,
    tokens: npt.NDArray[np.int32],
    rows: list[int],
    ends: list[int],
    sampling: Sampling,
    longest: int | None,
) -> Iterator[tuple[int, int]]:
    for count in range(1, sampling.max_tokens + 1):
        logits = np.array(forward(mx.array(tokens), past))
        ids = draw(logits, [sampling.uniform(row, end) for row, end in zip(rows, ends, strict=True)], sampling)
        yield from zip(rows, ids, strict=True)
        alive = [
            place
            for place, token in enumerate(ids)
            if token not in sampling.stop and (longest is None or ends[place] + 1 < longest)
        ]
        if not alive or count == sampling.max_tokens:
            return
        if len(alive) < len(rows):
            past.keep(alive)
        rows, ends = [rows[place] for place in alive], [ends[place] + 1 for place in alive]
        tokens = np.array([[ids[place]] for place in alive], np.int32)


def _nucleus(probabilities: npt.NDArray[np.float64], top_p: float) -> npt.NDArray[np.float64]:
    order = np.argsort(-probabilities, axis=-1, kind="stable")
    ordered = np.take_along_axis(probabilities, order, axis=-1)
    kept = ordered.cumsum(axis=-1) - ordered < top_p  # the most likely token is always kept
    chosen = np.zeros_like(probabilities)
    np.put_along_axis(chosen, order, ordered * kept, axis=-1)
    return chosen


def _grown(kept: mx.array | None, new: mx.array, end: int) -> mx.array:
    """A buffer [B, heads, columns, D] with room for `end` columns, holding what `kept` held."""
    if kept is not None and kept.shape[2] >= end:
        return kept
    rows, heads, _, width = new.shape
    columns = -(-end // GROWTH) * GROWTH
    if kept is None:
        return mx.zeros((rows, heads, columns, width), new.dtype)
    more = mx.zeros((rows, heads, columns - kept.shape[2], width), new.dtype)
    return mx.concatenate([kept, more], axis=2)
