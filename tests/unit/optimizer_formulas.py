"""The closed forms of the optimizers in float64, what they are compared at, and formulas that they are not."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from localtune.backend import OptimizerSpec

ADAMW = OptimizerSpec()
LION = OptimizerSpec("lion", beta2=0.99)
ADAFACTOR = OptimizerSpec("adafactor")


def full(spec: OptimizerSpec) -> OptimizerSpec:
    """With decay and tight clipping."""
    return replace(spec, weight_decay=0.1, clip=0.5)


SPECS = {
    "adamw": ADAMW,
    "adamw-full": full(replace(ADAMW, beta2=0.95)),
    "lion": LION,
    "lion-full": full(LION),
    "adafactor": ADAFACTOR,
    "adafactor-full": full(ADAFACTOR),
}

Values = dict[str, np.ndarray[Any, np.dtype[Any]]]
SHAPES = {"a": (6, 5), "b": (9, 6), "norm": (7,)}
UPDATES = 50
LRS = [float(np.float32(1e-2 * (1 - step / 60))) for step in range(UPDATES)]


def material(seed: int = 0, shapes: dict[str, tuple[int, ...]] = SHAPES) -> tuple[Values, list[Values]]:
    """Weights and the gradients of 50 updates, of very different sizes, exact in float32."""
    generator = np.random.default_rng(seed)

    def drawn(size: float) -> Values:
        return {name: (size * generator.normal(size=shape)).astype(np.float32) for name, shape in shapes.items()}

    return drawn(1.0), [drawn(10.0 ** generator.integers(-3, 2)) for _ in range(UPDATES)]


Rule = Callable[[OptimizerSpec, Any, Any, dict[str, Any], float, int], Any]
"""(spec, weight, clipped gradient, state, lr, number) -> weight; changes the state."""


def adamw(spec: OptimizerSpec, p: Any, g: Any, state: dict[str, Any], lr: float, t: int) -> Any:
    m = state["m"] = spec.beta1 * state.get("m", 0) + (1 - spec.beta1) * g
    v = state["v"] = spec.beta2 * state.get("v", 0) + (1 - spec.beta2) * g**2
    decay = spec.weight_decay if p.ndim > 1 else 0.0
    corrected = np.sqrt(v / (1 - spec.beta2**t)) + spec.epsilon
    return p * (1 - lr * decay) - lr * m / (1 - spec.beta1**t) / corrected


def lion(spec: OptimizerSpec, p: Any, g: Any, state: dict[str, Any], lr: float, t: int) -> Any:
    m = state.get("m", np.zeros_like(p))
    state["m"] = spec.beta2 * m + (1 - spec.beta2) * g
    decay = spec.weight_decay if p.ndim > 1 else 0.0
    return p * (1 - lr * decay) - lr * np.sign(spec.beta1 * m + (1 - spec.beta1) * g)


def adafactor(spec: OptimizerSpec, p: Any, g: Any, state: dict[str, Any], lr: float, t: int) -> Any:
    share, eps = t**-0.8, float(np.finfo(np.float32).eps)
    if p.ndim > 1:
        state["r"] = (1 - share) * state.get("r", 0) + share * np.mean(g**2, axis=1)
        state["c"] = (1 - share) * state.get("c", 0) + share * np.mean(g**2, axis=0)
        v = np.outer(state["r"], state["c"]) / max(np.mean(state["r"]), eps)
    else:
        v = state["v"] = (1 - share) * state.get("v", 0) + share * g**2
    u = g / np.maximum(np.sqrt(v), eps)
    size = min(lr, 1 / math.sqrt(t)) * max(1e-3, math.sqrt(np.mean(p**2)))
    decay = spec.weight_decay if p.ndim > 1 else 0.0
    return p * (1 - lr * decay) - size * u / max(1.0, math.sqrt(np.mean(u**2)))


def uncorrected(spec: OptimizerSpec, p: Any, g: Any, state: dict[str, Any], lr: float, t: int) -> Any:
    """AdamW as MLX has it by default: without bias correction."""
    return adamw(spec, p, g, state, lr, 10**6)


def coupled(rule: Rule) -> Rule:
    """The decay as a part of the gradient, as Adam with L2 has it."""

    def changed(spec: OptimizerSpec, p: Any, g: Any, state: dict[str, Any], lr: float, t: int) -> Any:
        decay = spec.weight_decay if p.ndim > 1 else 0.0
        return rule(replace(spec, weight_decay=0.0), p, g + decay * p, state, lr, t)

    return changed


def everywhere(rule: Rule) -> Rule:
    """The decay on vectors too."""

    def changed(spec: OptimizerSpec, p: Any, g: Any, state: dict[str, Any], lr: float, t: int) -> Any:
        after = rule(spec, p, g, state, lr, t)
        return after if p.ndim > 1 else after - lr * spec.weight_decay * p

    return changed


RULES: dict[str, Rule] = {"adamw": adamw, "lion": lion, "adafactor": adafactor}


def reference(spec: OptimizerSpec, start: Values, gradients: list[Values], rule: Rule | None = None) -> Values:
    """The closed form in float64."""
    values = {name: value.astype(np.float64) for name, value in start.items()}
    states: dict[str, dict[str, Any]] = {name: {} for name in values}
    for number, (step, lr) in enumerate(zip(gradients, LRS, strict=True), start=1):
        exact = {name: g.astype(np.float64) for name, g in step.items()}
        norm = math.sqrt(sum(float(np.sum(g**2)) for g in exact.values()))
        factor = min(1.0, spec.clip / (norm + 1e-6)) if spec.clip else 1.0
        for name, g in exact.items():
            chosen = rule or RULES[spec.name]
            values[name] = chosen(spec, values[name], factor * g, states[name], lr, number)
    return values
