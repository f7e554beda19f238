"""AdamW, Adafactor and Lion as closed forms, after clipping by the global norm: pure functions of float32 arrays.

With g the gradient times min(1, clip / (norm + 1e-6)), t the number of the update, lr its learning rate, d the decay:

adamw      m = b1 m + (1 - b1) g, v = b2 v + (1 - b2) g^2,
           p = p (1 - lr d) - lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)  (Loshchilov & Hutter 2019, alg. 2).
lion       c = b1 m + (1 - b1) g, p = p (1 - lr d) - lr sign(c), m = b2 m + (1 - b2) g  (Chen et al. 2023, alg. 2).
adafactor  with s = t^-0.8: R = (1 - s) R + s mean_rows(g^2), C likewise over columns, V = R C / max(mean(R), e);
           u = g / max(sqrt(V), e), a = min(lr, 1 / sqrt(t)) max(1e-3, RMS(p)),
           p = p (1 - lr d) - a u / max(1, RMS(u))  (Shazeer & Stern 2018, with the learning rate and the place of e,
           float32's machine epsilon, that `torch.optim.Adafactor` gives them). A vector keeps all of V.

The decay d applies to matrices (LoRA's A and B, projections, embeddings), never to norms, biases and DoRA's magnitudes.
The PyTorch backend computes the same formulas; the two agree up to float32's rounding, not bit by bit. Nothing here
looks at a value, so a caller may compile the whole update; the learning rate and the count are arrays for that reason.
A state is kept under the PyTorch backend's names; the transpose of a matrix swaps its `row_var` and `col_var`.
"""

import math
from collections.abc import Callable, Mapping

import mlx.core as mx

from localtune.backend import OptimizerSpec

Arrays = dict[str, mx.array]
Rule = Callable[
    [OptimizerSpec, mx.array, mx.array, Mapping[str, mx.array], mx.array, mx.array], tuple[mx.array, Arrays]
]
"""(spec, weight, clipped gradient, the weight's state, lr, count) -> weight, state."""

EPSILON = float(mx.finfo(mx.float32).eps)
"""Adafactor's e."""
LEAST_RMS = 1e-3
"""Adafactor's steps are relative to the size of the weights, but to no less than this."""


def initial(spec: OptimizerSpec, weights: Mapping[str, mx.array]) -> Arrays:
    """The state before the first update: zeros, by `<name of the weight>.<part of the state>`."""
    state: Arrays = {}
    for name, weight in weights.items():
        for part, shape in _parts(spec, weight).items():
            state[f"{name}.{part}"] = mx.zeros(shape, mx.float32)
    return state


def updated(
    spec: OptimizerSpec,
    weights: Mapping[str, mx.array],
    gradients: Mapping[str, mx.array],
    state: Mapping[str, mx.array],
    *,
    lr: mx.array,
    count: mx.array,
    norm: mx.array,
) -> tuple[Arrays, Arrays]:
    """Weights and state after one update.

    `lr`, `count` (this is update 1, 2, ...) and `norm` (that of `gradients`) are scalars. The three mappings are read,
    not changed; `gradients` has every name of `weights`.
    """
    rule = _RULES[spec.name]
    factor = mx.minimum(1.0, spec.clip / (norm + 1e-6)) if spec.clip else None
    count, lr = count.astype(mx.float32), lr.astype(mx.float32)
    new_weights: Arrays = {}
    new_state: Arrays = {}
    for name, weight in weights.items():
        gradient = gradients[name] if factor is None else gradients[name] * factor
        before = {part: state[f"{name}.{part}"] for part in _parts(spec, weight)}
        new_weights[name], after = rule(spec, weight, gradient, before, lr, count)
        new_state |= {f"{name}.{part}": value for part, value in after.items()}
    return new_weights, new_state


def gradient_norm(gradients: Mapping[str, mx.array]) -> mx.array:
    """Global L2 norm, a float32 scalar."""
    return mx.sqrt(mx.sum(mx.stack([_sum_of_squares(gradient) for gradient in gradients.values()])))


def _adamw(
    spec: OptimizerSpec,
    weight: mx.array,
    gradient: mx.array,
    state: Mapping[str, mx.array],
    lr: mx.array,
    count: mx.array,
) -> tuple[mx.array, Arrays]:
    mean = _moved(state["exp_avg"], gradient, 1 - spec.beta1)
    square = _moved(state["exp_avg_sq"], mx.square(gradient), 1 - spec.beta2)
    denominator = mx.sqrt(square / _one_minus_power(spec.beta2, count)) + spec.epsilon
    step = lr / _one_minus_power(spec.beta1, count) * mean / denominator
    return _decayed(spec, weight, lr) - step, {"exp_avg": mean, "exp_avg_sq": square}


def _lion(
    spec: OptimizerSpec,
    weight: mx.array,
    gradient: mx.array,
    state: Mapping[str, mx.array],
    lr: mx.array,
    count: mx.array,
) -> tuple[mx.array, Arrays]:
    direction = mx.sign(_moved(state["exp_avg"], gradient, 1 - spec.beta1))
    mean = _moved(state["exp_avg"], gradient, 1 - spec.beta2)
    return _decayed(spec, weight, lr) - lr * direction, {"exp_avg": mean}


def _adafactor(
    spec: OptimizerSpec,
    weight: mx.array,
    gradient: mx.array,
    state: Mapping[str, mx.array],
    lr: mx.array,
    count: mx.array,
) -> tuple[mx.array, Arrays]:
    share = mx.power(count, -0.8)
    square = mx.square(gradient)
    if weight.ndim > 1:
        rows = _moved(state["row_var"], mx.mean(square, axis=-1, keepdims=True), share)
        columns = _moved(state["col_var"], mx.mean(square, axis=-2, keepdims=True), share)
        variance = rows * columns / mx.maximum(mx.mean(rows, axis=-2, keepdims=True), EPSILON)
        after = {"row_var": rows, "col_var": columns}
    else:
        variance = _moved(state["variance"], square, share)
        after = {"variance": variance}
    update = gradient * mx.rsqrt(mx.maximum(variance, EPSILON**2))
    size = mx.minimum(lr, mx.rsqrt(count)) * mx.maximum(_rms(weight), LEAST_RMS)
    return _decayed(spec, weight, lr) - size / mx.maximum(_rms(update), 1.0) * update, after


_RULES: dict[str, Rule] = {"adamw": _adamw, "adafactor": _adafactor, "lion": _lion}


def _parts(spec: OptimizerSpec, weight: mx.array) -> dict[str, tuple[int, ...]]:
    """The shapes of one weight's state."""
    shape = tuple(weight.shape)
    if spec.name == "adafactor" and weight.ndim > 1:
        return {"row_var": (*shape[:-1], 1), "col_var": (*shape[:-2], 1, shape[-1])}
    return dict.fromkeys(_WHOLE[spec.name], shape)


_WHOLE = {"adamw": ("exp_avg", "exp_avg_sq"), "adafactor": ("variance",), "lion": ("exp_avg",)}


def _moved(average: mx.array, value: mx.array, share: float | mx.array) -> mx.array:
    """(1 - share) average + share value, in the form that does not round 1 - share."""
    return average + share * (value - average)


def _one_minus_power(beta: float, count: mx.array) -> mx.array:
    """1 - beta^count without the cancellation: at the first update float32 would keep four digits of 1 - 0.999."""
    return -mx.expm1(count * math.log(beta)) if beta else mx.ones_like(count)


def _decayed(spec: OptimizerSpec, weight: mx.array, lr: mx.array) -> mx.array:
    return weight * (1 - lr * spec.weight_decay) if spec.weight_decay and weight.ndim > 1 else weight


def _rms(array: mx.array) -> mx.array:
    return mx.sqrt(_sum_of_squares(array) / array.size)


def _sum_of_squares(array: mx.array) -> mx.array:
    """Row by row, then over the rows: MLX on a CPU adds 16 million squares in one float32 sum 3 % wrong."""
    square = mx.square(array.astype(mx.float32))
    return mx.sum(mx.sum(square, axis=-1)) if array.ndim > 1 else mx.sum(square)
