"""Prompts that are answered together: blocks of similar length, within a share of the memory."""

from dataclasses import replace

import numpy as np

from localtune.prompt_blocks import BLOCK_ROWS, blocks, room
from tests.contract.conftest import Models


def test_blocks_of_prompts_are_bounded_and_of_similar_length() -> None:
    lengths = [int(n) for n in np.random.default_rng(0).integers(1, 4000, 300)]
    for budget in (4100, 17_435, 10**6):
        found = blocks(lengths, 100, budget)
        assert sorted(row for block in found for row in block) == list(range(300))
        for block in found:
            assert len(block) <= BLOCK_ROWS
            assert len(block) * (max(lengths[row] for row in block) + 100) <= budget
    assert max(len(block) for block in blocks(lengths, 100, 10**6)) == BLOCK_ROWS


def test_a_prompt_longer_than_the_budget_is_a_block_of_its_own() -> None:
    assert blocks([50, 3, 3, 900], 10, 40) == [[1, 2], [0], [3]]
    assert blocks([5, 5], 10, 0) == [[0], [1]]


def test_a_block_takes_a_quarter_of_the_limit_and_two_gigabytes_at_most(models: Models) -> None:
    wide = replace(models("llama").config, layers=28, kv_heads=8, head_dim=128, vocabulary=151_936)
    token = 2 * 28 * 8 * 128 * 2
    for limit, budget in ((0, 2 * 10**9), (8 * 10**9, 2 * 10**9), (80 * 10**9, 2 * 10**9), (10**9, 250 * 10**6)):
        found = room(wide, 2, limit)
        assert found.tokens == budget // token
        assert 0 <= found.per_row * token - 48 * 151_936 < token
    assert room(wide, 2, 1000).tokens == 0
