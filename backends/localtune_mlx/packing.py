"""Packed rows through mlx-lm's own models: what a layer asks of its cache is answered by the rows' borders.

A model of mlx-lm asks the cache for a mask (`make_mask`), for the offset of its rotary positions (`offset`), and to
take keys and values (`update_and_fetch`). `Sight` answers with a mask of segment, causality and window, with positions
that restart in every segment, and keeps nothing. So a packed example is computed as it would be alone, at any length.

Positions that differ by token go through `Rotary`, put around each attention's rotary embedding: a token becomes a row
of its own, since MLX takes one offset per row. Rows of one segment need neither: they take MLX's causal path.
"""

from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from localtune.model import ModelFiles
from localtune_mlx.families import window_everywhere


class Rotary(nn.Module):
    """A rotary embedding that also takes a position for every token."""

    def __init__(self, plain: nn.Module) -> None:
        super().__init__()
        self._plain = plain

    def __call__(self, x: mx.array, offset: Any = 0) -> mx.array:
        """`x` [B, heads, T, D] rotated by `offset`: one number, one per row [B], or one per token [B, T]."""
        if not isinstance(offset, mx.array) or offset.ndim < 2:
            whole: mx.array = self._plain(x, offset=offset)
            return whole
        rows, heads, length, width = x.shape
        tokens = x.transpose(0, 2, 1, 3).reshape(rows * length, heads, 1, width)
        rotated: mx.array = self._plain(tokens, offset=offset.reshape(-1))
        return rotated.reshape(rows, length, heads, width).transpose(0, 2, 1, 3)


class Sight:
    """What each token sees of its own row, in the words of mlx-lm's caches."""

    def __init__(self, segments: mx.array | None, places: mx.array | None, layout: "Layout") -> None:
        """`segments` and `places` int32 [B, T], or None where every row is one segment."""
        self.offset: Any = 0 if places is None else places
        self._segments, self._layout = segments, layout
        self._masks: dict[int | None, mx.array] = {}

    def make_mask(self, length: int, return_array: bool = False, window_size: int | None = None) -> Any:
        """The word "causal", or a bool array [B or 1, 1, T, T]: which token (last axis) each token may see."""
        window_size = window_size or self._layout.window
        if self._segments is None and not return_array and (window_size is None or window_size >= length):
            return "causal"
        if window_size not in self._masks:
            self._masks[window_size] = self._mask(length, window_size)
        return self._masks[window_size]

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Keys and values as they are: a row is computed at once."""
        return keys, values

    def _mask(self, length: int, window: int | None) -> mx.array:
        seen = within(mx.arange(length)[:, None], mx.arange(length)[None, :], window)[None]
        if self._segments is not None:
            seen = seen & (self._segments[:, :, None] == self._segments[:, None, :])
        return self._layout.with_heads(seen)


def within(queries: mx.array, keys: mx.array, window: int | None) -> mx.array:
    """Whether a token at a key's place is visible from a query's: not after it, and inside the window."""
    seen = keys <= queries
    return seen if window is None else seen & (queries - keys < window)


@dataclass(frozen=True)
class Layout:
    """What a family's attention wants of a mask."""

    window: int | None
    """The sliding window of every layer, where mlx-lm does not ask for it."""
    axes: int
    """4: [B, heads, T, S]. 5 where grouped heads are split in two: Gemma 2, whose cap is written out, in groups."""

    def with_heads(self, mask: mx.array) -> mx.array:
        """`mask` [B, T, S] with axes of length 1 for the heads."""
        return mx.expand_dims(mask, tuple(range(1, self.axes - 2)))


def layout_of(model: ModelFiles) -> Layout:
    """The layout of `model`."""
    config = model.config
    grouped = config.model_type == "gemma2" and config.heads > config.kv_heads
    return Layout(window_everywhere(model), 5 if grouped else 4)
