"""LoRA, DoRA and rsLoRA beside the linear layers of a model, quantised or not, in PEFT's orientation and words.

y = W x + scale B A dropout(x), with A [rank, in] and B [out, rank] in float32 whatever the base is stored in. DoRA (Liu
et al. 2024) scales each output by m / |W + scale B A|, whose norm is a constant to the gradient; like peft, the scaled
part sees the dropped input. The start is `localtune.adapter.initial_a` (A) and zero (B), so every backend starts alike.
"""

from typing import Any

import mlx.core as mx
import mlx.nn as nn

from localtune.adapter import PREFIX, Lora, adapted_names, initial_a
from localtune_mlx.loading import linear_layers, replace

Place = tuple[Any, str]
"""A module and the name of one of its arrays."""


class LoraLinear(nn.Module):
    """A frozen linear layer with a low-rank update beside it."""

    def __init__(self, base: nn.Module, name: str, lora: Lora, seed: int) -> None:
        super().__init__()
        outputs, inputs = shape_of(base)
        self.base = base
        self.lora_A = mx.array(initial_a(seed, name, lora.rank, inputs))
        self.lora_B = mx.zeros((outputs, lora.rank))
        if lora.dora:
            self.lora_magnitude_vector = mx.linalg.norm(dense(base), axis=1)
        self._scale, self._dropout = lora.scale, lora.dropout
        self._active = True
        self._key: mx.array | None = None

    def __call__(self, x: mx.array) -> mx.array:
        """`x` [..., in] to [..., out] in the type of the base."""
        plain: mx.array = self.base(x)
        if not self._active:
            return plain
        dropped = self._dropped(x)
        update = self._scale * ((dropped @ self.lora_A.T) @ self.lora_B.T)
        if "lora_magnitude_vector" in self:
            update = self._decomposed(plain if dropped is x else self.base(dropped.astype(x.dtype)), update)
        return plain + update.astype(plain.dtype)

    def _decomposed(self, plain: mx.array, update: mx.array) -> mx.array:
        """What DoRA adds to the plain output, given the low-rank update."""
        whole = dense(self.base) + self._scale * (self.lora_B @ self.lora_A)
        share = self.lora_magnitude_vector / mx.stop_gradient(mx.linalg.norm(whole, axis=1))
        weighted = plain - self.base.bias if "bias" in self.base else plain
        added: mx.array = (share - 1) * weighted + share * update
        return added

    def _dropped(self, x: mx.array) -> mx.array:
        if self._key is None:
            return x
        kept = mx.random.bernoulli(1 - self._dropout, x.shape, key=self._key)
        return mx.where(kept, x * (1 / (1 - self._dropout)), 0)


class Adapter:
    """The low-rank layers of one model."""

    def __init__(self, model: Any, lora: Lora, seed: int) -> None:
        """Put a layer beside each that `lora` names; never the head. Raises `InputError` if it names none."""
        self.lora = lora
        linear = linear_layers(model)
        self.layers = {name: LoraLinear(linear[name], name, lora, seed) for name in adapted_names(linear, lora)}
        for name, layer in self.layers.items():
            replace(model, name, layer)

    def places(self) -> dict[str, Place]:
        """Where each tensor of the adapter lies, by its name in `adapter_model.safetensors`."""
        found: dict[str, Place] = {}
        for name, layer in self.layers.items():
            found[f"{PREFIX}{name}.lora_A.weight"] = (layer, "lora_A")
            found[f"{PREFIX}{name}.lora_B.weight"] = (layer, "lora_B")
            if self.lora.dora:
                found[f"{PREFIX}{name}.lora_magnitude_vector"] = (layer, "lora_magnitude_vector")
        return found

    def switch(self, active: bool) -> None:
        """With or without the adapter."""
        for layer in self.layers.values():
            layer._active = active

    def drop(self, keys: mx.array | None) -> None:
        """Drop inputs from now on, keyed by `keys` [layers, 2]; None = no dropout."""
        for index, layer in enumerate(self.layers.values()):
            layer._key = None if keys is None else keys[index]


def shape_of(layer: nn.Module) -> tuple[int, int]:
    """Outputs and inputs of a linear layer."""
    outputs, width = layer.weight.shape
    return outputs, width * 32 // layer.bits if isinstance(layer, nn.QuantizedLinear) else width


def dense(layer: nn.Module) -> mx.array:
    """The weight of a linear layer, float32 [out, in]."""
    if not isinstance(layer, nn.QuantizedLinear):
        plain: mx.array = layer.weight.astype(mx.float32)
        return plain
    parts = (layer.weight, layer.scales, layer.get("biases"))
    weight = mx.dequantize(*parts, group_size=layer.group_size, bits=layer.bits, mode=layer.mode)
    return weight.astype(mx.float32)
