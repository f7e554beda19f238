"""Blocks that recompute their activations going back instead of keeping them.

Each block object gets a class of its own, made from its class; no class of the process is changed, and names and
attributes stay. Arrays that train are handed to MLX's checkpoint explicitly: it gives captured arrays zero gradients.
"""

from collections.abc import Mapping
from typing import Any

import mlx.core as mx

from localtune_mlx.lora import Place


def recompute_blocks(model: Any, places: Mapping[str, Place]) -> None:
    """Recompute every block of `model`; `places` say where what trains lies."""
    for block in model.layers:
        inside = {id(module) for _, module in block.named_modules()}
        _recompute(block, [place for place in places.values() if id(place[0]) in inside])


def _recompute(block: Any, places: list[Place]) -> None:
    kind = type(block)

    def call(self: Any, x: mx.array, *others: Any, **named: Any) -> Any:
        def computed(weights: list[mx.array], x: mx.array) -> Any:
            for (module, name), array in zip(places, weights, strict=True):
                module[name] = array
            return kind.__call__(self, x, *others, **named)

        before = [module[name] for module, name in places]
        result = mx.checkpoint(computed)(before, x)
        for (module, name), array in zip(places, before, strict=True):
            module[name] = array
        return result

    block.__class__ = type(kind.__name__, (kind,), {"__call__": call})
