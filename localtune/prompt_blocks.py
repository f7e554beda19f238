"""How many prompts are answered at once: blocks of prompts of similar length that fit in memory.

Blocks are sized by what a token of cache costs, exact for plain attention, and an estimate of what drawing costs; what
the prompts' own pass computes lives for one layer at a time and is not counted.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from localtune.backend import Precision
from localtune.model import ModelConfig

BLOCK_ROWS = 64
BLOCK_BYTES = 2 * 10**9
"""What a block may take where no memory limit says less."""
LIMIT_PARTS = 4
"""A block may take one part in so many of a memory limit."""
DRAWING_BYTES = 6 * 8
"""Per entry of the vocabulary and row: the float64 arrays that exist while a token is sampled."""


@dataclass(frozen=True)
class Room:
    """What a block may hold, counted in tokens of cache."""

    tokens: int
    per_row: int
    """What drawing takes for each row."""


def room(config: ModelConfig, number_bytes: int, limit: int) -> Room:
    """The room in a memory `limit` (bytes, 0 = none), with `number_bytes` for each number in the cache."""
    token_bytes = 2 * config.layers * config.kv_heads * config.head_dim * number_bytes
    budget = min(BLOCK_BYTES, limit // LIMIT_PARTS) if limit else BLOCK_BYTES
    return Room(budget // token_bytes, -(-DRAWING_BYTES * config.vocabulary // token_bytes))


def cached_bytes(precision: Precision) -> int:
    """Bytes of a number in the cache, which is in the wider of both types: rotary positions are not in autocast."""
    return 4 if "float32" in (precision.compute, precision.storage) else 2


def blocks(lengths: Sequence[int], answer: int, budget_tokens: int) -> list[list[int]]:
    """Row numbers in blocks of similar length, each of at most BLOCK_ROWS rows.

    A block's rows, all as wide as its longest with `answer` more, stay within `budget_tokens`; one row always fits.
    """
    found: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda row: lengths[row]):
        wide = lengths[row] + answer
        if found and len(found[-1]) < BLOCK_ROWS and (len(found[-1]) + 1) * wide <= budget_tokens:
            found[-1].append(row)
        else:
            found.append([row])
    return found
