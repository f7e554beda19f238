"""Tokenised examples and the arrays a backend trains on. Numpy only; both backends see the very same batches.

A segment is one tokenised example. Segments lie packed in rows, and a row never lets one segment see another: the
`segments` array says which positions belong together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Segment:
    """One tokenised example."""

    tokens: Ints
    """int32 [n]."""
    weights: Floats
    """float32 [n]: the weight of predicting `tokens[i]` from `tokens[:i]`; 0 = not a target. `weights[0]` is 0."""
    source: int
    """Row id in the data set, for messages."""

    @property
    def targets(self) -> int:
        """How many tokens are learned."""
        return int(np.count_nonzero(self.weights))


@dataclass(frozen=True, eq=False)
class Batch:
    """Padded rows of packed segments. B rows, T positions, S segments in row-major order."""

    tokens: Ints
    """int32 [B, T], right-padded with 0."""
    segments: Ints
    """int32 [B, T]: 1, 2, … per segment of a row, 0 = padding."""
    weights: Floats
    """float32 [B, T]: weight of predicting `tokens[b, t]` from what precedes it in its own segment; 0 = no target."""
    sources: tuple[tuple[int, ...], ...]
    """Row ids of the segments of each row."""
    per_token: Mapping[str, Floats] = field(default_factory=dict)
    """Constants an objective needs, float32 [B, T] each (reference log-probabilities, advantages)."""
    per_segment: Mapping[str, Floats] = field(default_factory=dict)
    """Constants an objective needs, float32 [S] each (labels, rewards)."""

    @property
    def count(self) -> int:
        """S: the number of segments."""
        return sum(len(row) for row in self.sources)

    @property
    def real_tokens(self) -> int:
        """Tokens that are not padding."""
        return int(np.count_nonzero(self.segments))

    @property
    def targets(self) -> int:
        """How many tokens are learned."""
        return int(np.count_nonzero(self.weights))

    @property
    def weight(self) -> float:
        """Sum of the weights: this batch's share of an update's denominator."""
        return float(self.weights.sum(dtype=np.float64))


def collate(rows: Sequence[Sequence[Segment]], *, multiple: int = 8) -> Batch:
    """One batch of the packed `rows`; T is the longest row rounded up to `multiple`."""
    longest = max(sum(len(segment.tokens) for segment in row) for row in rows)
    shape = (len(rows), -(-longest // multiple) * multiple)
    tokens, segments = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    weights = np.zeros(shape, np.float32)
    for b, row in enumerate(rows):
        start = 0
        for number, segment in enumerate(row, start=1):
            end = start + len(segment.tokens)
            tokens[b, start:end] = segment.tokens
            segments[b, start:end] = number
            weights[b, start:end] = segment.weights
            weights[b, start] = 0.0  # nothing precedes the first token of a segment
            start = end
    return Batch(tokens, segments, weights, tuple(tuple(s.source for s in row) for row in rows))
