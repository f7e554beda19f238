"""Values that are computed again going back instead of being kept: of transformer blocks, of logits.

What trains must be an input of the recomputed function: what it captures gets no gradient. All gradients of a function
are computed together, so that none keeps what the others no longer need; `mx.checkpoint` leaves that to the order in
which MLX happens to evaluate (24 blocks of 512 tokens: 28 MB instead of 87).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import mlx.core as mx

from localtune_mlx.lora import Place

Function = Callable[..., mx.array]
"""Arrays to one array."""


def recomputed(function: Function) -> Function:
    """`function` with the same value and gradients, of which only inputs and output are kept."""
    again: Any = mx.custom_function(function)

    @again.vjp  # type: ignore[untyped-decorator]
    def _(primals: Any, cotangent: mx.array, output: mx.array) -> Any:
        inputs = list(primals) if isinstance(primals, list | tuple) else [primals]
        gradients = mx.vjp(function, inputs, [cotangent])[1]
        return tuple(mx.depends(gradients, gradients))

    found: Function = again
    return found


def recompute_blocks(model: Any, places: Mapping[str, Place]) -> None:
    """Recompute every block of `model`; `places` say where what trains lies.

    Each block object gets a class of its own, made from its class: no class of the process is changed, and names and
    attributes stay.
    """
    for block in model.layers:
        inside = {id(module) for _, module in block.named_modules()}
        _recompute(block, [place for place in places.values() if id(place[0]) in inside])


def _recompute(block: Any, places: list[Place]) -> None:
    kind = type(block)

    def call(self: Any, x: mx.array, *others: Any, **named: Any) -> mx.array:
        def computed(x: mx.array, *weights: mx.array) -> mx.array:
            _put(places, weights)
            found: mx.array = kind.__call__(self, x, *others, **named)
            return found

        before = [module[name] for module, name in places]
        result = recomputed(computed)(x, *before)
        _put(places, before)
        return result

    block.__class__ = type(kind.__name__, (kind,), {"__call__": call})


def _put(places: list[Place], arrays: Sequence[mx.array]) -> None:
    for (module, name), array in zip(places, arrays, strict=True):
        module[name] = array
