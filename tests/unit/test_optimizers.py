"""Each optimizer is its closed form, on both backends, and the state of one continues on the other."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localtune.backend import OptimizerSpec
from localtune.errors import InputError
from tests.unit.optimizer_formulas import (
    ADAMW,
    LION,
    LRS,
    SHAPES,
    SPECS,
    Rule,
    Values,
    adafactor,
    adamw,
    coupled,
    everywhere,
    lion,
    material,
    reference,
    uncorrected,
)

each_spec = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())


class OnTorch:
    """Updates with the PyTorch backend's optimizer."""

    def __init__(self, spec: OptimizerSpec, start: Values) -> None:
        self.torch = pytest.importorskip("torch")
        from localtune_torch import optimizer

        self.rules, self.spec = optimizer, spec
        self.named = {n: self.torch.nn.Parameter(self.torch.from_numpy(v.copy())) for n, v in start.items()}
        self.optimizer = optimizer.optimizer_of(spec, self.named.values(), self.torch.device("cpu"))

    def update(self, gradients: Values, lr: float) -> None:
        for name, parameter in self.named.items():
            parameter.grad = self.torch.from_numpy(gradients[name].copy())
        norm = float(self.rules.gradient_norm(self.named.values()))
        self.rules.update(self.optimizer, lr=lr, norm=norm, clip=self.spec.clip)

    @property
    def weights(self) -> Values:
        return {name: parameter.detach().numpy().copy() for name, parameter in self.named.items()}

    @property
    def state(self) -> tuple[Values, int]:
        tensors, steps = self.rules.state_tensors(self.optimizer, self.named)
        return {name: tensor.numpy().copy() for name, tensor in tensors.items()}, max(steps.values())

    @state.setter
    def state(self, given: tuple[Values, int]) -> None:
        tensors = {name: self.torch.from_numpy(value) for name, value in given[0].items()}
        self.rules.load_state(self.optimizer, self.named, tensors, dict.fromkeys(self.named, given[1]))


class OnMlx:
    """Updates with the MLX backend's functions, compiled."""

    def __init__(self, spec: OptimizerSpec, start: Values) -> None:
        self.mx: Any = pytest.importorskip("mlx.core")
        from localtune_mlx import optimizer

        self.rules, self.count = optimizer, 0
        self.arrays = {name: self.mx.array(value) for name, value in start.items()}
        self.kept = optimizer.initial(spec, self.arrays)
        self.traced = 0

        def step(weights: Any, gradients: Any, state: Any, lr: Any, count: Any) -> Any:
            self.traced += 1
            norm = optimizer.gradient_norm(gradients)
            return optimizer.updated(spec, weights, gradients, state, lr=lr, count=count, norm=norm)

        self.step = self.mx.compile(step)

    def update(self, gradients: Values, lr: float) -> None:
        self.count += 1
        given = {name: self.mx.array(value) for name, value in gradients.items()}
        lr_, count = self.mx.array(lr, self.mx.float32), self.mx.array(self.count)
        self.arrays, self.kept = self.step(self.arrays, given, self.kept, lr_, count)
        self.mx.eval(self.arrays, self.kept)

    @property
    def weights(self) -> Values:
        return {name: np.array(value) for name, value in self.arrays.items()}

    @property
    def state(self) -> tuple[Values, int]:
        return {name: np.array(value) for name, value in self.kept.items()}, self.count

    @state.setter
    def state(self, given: tuple[Values, int]) -> None:
        self.kept, self.count = {name: self.mx.array(value) for name, value in given[0].items()}, given[1]


BACKENDS = {"torch": OnTorch, "mlx": OnMlx}
each_backend = pytest.mark.parametrize("backend", BACKENDS.values(), ids=BACKENDS.keys())


def trained(optimizer: OnTorch | OnMlx, gradients: list[Values], lrs: list[float] = LRS) -> Values:
    for step, lr in zip(gradients, lrs, strict=True):
        optimizer.update(step, lr)
    return optimizer.weights


def apart(a: Values, b: Values) -> float:
    """Largest difference, relative to the largest weight of its tensor."""
    return max(float(np.max(np.abs(a[name] - b[name])) / np.max(np.abs(b[name]))) for name in b)


@each_backend
@each_spec
def test_fifty_updates_are_the_closed_form(backend: Any, spec: OptimizerSpec) -> None:
    start, gradients = material()
    assert apart(trained(backend(spec, start), gradients), reference(spec, start, gradients)) <= 1e-6


@each_spec
def test_the_backends_say_the_same(spec: OptimizerSpec) -> None:
    start, gradients = material(1)
    assert apart(trained(OnMlx(spec, start), gradients), trained(OnTorch(spec, start), gradients)) <= 1e-6


CONTROLS = {
    "no bias correction": ("adamw", uncorrected),
    "decay coupled to AdamW": ("adamw-full", coupled(adamw)),
    "decay coupled to Lion": ("lion-full", coupled(lion)),
    "decay coupled to Adafactor": ("adafactor-full", coupled(adafactor)),
    "decay of vectors": ("adamw-full", everywhere(adamw)),
    "momentum before the sign": ("lion", lambda spec, *rest: lion(replace(spec, beta1=spec.beta2), *rest)),
}


@each_backend
@pytest.mark.parametrize("control", CONTROLS.values(), ids=CONTROLS.keys())
def test_another_formula_is_told_apart(backend: Any, control: tuple[str, Rule]) -> None:
    spec, (start, gradients) = SPECS[control[0]], material()
    assert apart(trained(backend(spec, start), gradients), reference(spec, start, gradients, control[1])) > 1e-4


@each_backend
@pytest.mark.parametrize("name", ["adamw-full", "lion-full", "adafactor-full"])
def test_without_clipping_it_would_be_another_path(backend: Any, name: str) -> None:
    spec, (start, gradients) = SPECS[name], material()
    assert apart(trained(backend(spec, start), gradients), reference(replace(spec, clip=0), start, gradients)) > 1e-4
    assert apart(trained(backend(replace(spec, clip=0), start), gradients), reference(spec, start, gradients)) > 1e-4


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**20),
    shape=st.one_of(st.tuples(st.integers(1, 9)), st.tuples(st.integers(1, 9), st.integers(1, 9))),
    name=st.sampled_from(sorted(SPECS)),
)
def test_any_shape_is_the_same_on_both_backends(seed: int, shape: tuple[int, ...], name: str) -> None:
    start, gradients = material(seed, {"only": shape})
    few = gradients[:5]
    on_mlx, on_torch = (trained(kind(SPECS[name], start), few, LRS[:5]) for kind in (OnMlx, OnTorch))
    assert apart(on_mlx, on_torch) <= 1e-6


@each_backend
def test_a_gradient_of_zeros_and_a_weight_of_zeros_stay_finite(backend: Any) -> None:
    zeros: Values = {name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()}
    for spec in SPECS.values():
        weights = trained(backend(spec, zeros), [zeros, zeros], LRS[:2])
        assert all(not value.any() for value in weights.values())


@each_spec
def test_a_state_continues_on_the_other_backend(spec: OptimizerSpec) -> None:
    start, gradients = material(2)
    whole = reference(spec, start, gradients)
    for first, second in ((OnTorch, OnMlx), (OnMlx, OnTorch)):
        one: Any = first(spec, start)
        weights = trained(one, gradients[:20], LRS[:20])
        other: Any = second(spec, weights)
        other.state = one.state
        assert apart(trained(other, gradients[20:], LRS[20:]), whole) <= 1e-6
        forgetful: Any = second(spec, weights)
        assert apart(trained(forgetful, gradients[20:], LRS[20:]), whole) > 1e-4


@each_backend
@each_spec
def test_a_state_read_back_continues_bit_for_bit(backend: Any, spec: OptimizerSpec) -> None:
    start, gradients = material(3)
    straight = backend(spec, start)
    middle = trained(straight, gradients[:5], LRS[:5])
    again = backend(spec, middle)
    again.state = straight.state
    for optimizer in (straight, again):
        trained(optimizer, gradients[5:9], LRS[5:9])
    assert all(np.array_equal(straight.weights[name], again.weights[name]) for name in start)
    assert straight.state[1] == again.state[1] == 9


@each_spec
def test_a_compiled_update_is_traced_once(spec: OptimizerSpec) -> None:
    start, gradients = material()
    optimizer = OnMlx(spec, start)
    trained(optimizer, gradients[:6], LRS[:6])
    assert optimizer.traced == 1


@each_spec
def test_the_transpose_of_a_matrix_takes_the_same_update(spec: OptimizerSpec) -> None:
    start, gradients = material(4)
    turned = trained(OnMlx(spec, flipped(start)), [flipped(step) for step in gradients])
    assert apart(flipped(turned), trained(OnMlx(spec, start), gradients)) <= 1e-6


def flipped(values: Values) -> Values:
    return {name: np.ascontiguousarray(value.T) for name, value in values.items()}


def test_the_norm_of_many_numbers_keeps_its_digits() -> None:
    mx: Any = pytest.importorskip("mlx.core")
    from localtune_mlx import optimizer

    many = np.random.default_rng(0).normal(size=(2048, 8192)).astype(np.float32)
    exact = math.sqrt(float(np.sum(many.astype(np.float64) ** 2)))
    assert optimizer.gradient_norm({"many": mx.array(many)}).item() == pytest.approx(exact, rel=2e-6)


@each_spec
def test_files_restore_the_state_bit_for_bit_and_refuse_another_optimizers(spec: OptimizerSpec, tmp_path: Path) -> None:
    start, gradients = material(5)
    first = OnTorch(spec, start)
    trained(first, gradients[:3], LRS[:3])
    from localtune_torch import checkpoint

    checkpoint.save_state(tmp_path, first.optimizer, first.named)
    second = OnTorch(spec, first.weights)
    checkpoint.load_state(tmp_path, second.optimizer, second.named)
    assert second.state[1] == 3
    assert all(np.array_equal(value, second.state[0][name]) for name, value in first.state[0].items())
    other = OnTorch(LION if spec.name != "lion" else ADAMW, start)
    with pytest.raises(InputError, match=f"that of {spec.name}"):
        checkpoint.load_state(tmp_path, other.optimizer, other.named)
