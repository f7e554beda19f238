"""Limits that a product must keep to pass its proof, and what they were set from. Divergences are in nats."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Gate:
    """Largest mean and largest single divergence."""

    mean: float
    largest: float


FILE = {
    "F32": Gate(1e-5, 1e-4),
    "F16": Gate(3e-5, 3e-4),
    "BF16": Gate(1e-3, 3e-2),
    "Q8_0": Gate(5e-3, 5e-1),
}
"""Of a file from the weights it was made of, computed in float32; by encoding."""
FILE_ROUNDED = Gate(1e-2, 1.0)
"""Where the weights had to be computed in 16 bits."""

TRAINING = {"float32": 0.001, "float16": 0.01, "bfloat16": 0.01, "int8": 0.10, "nf4": 0.10}
"""Mean divergence from the trained model as a share of that between base and trained model; by what trained."""
TRAINING_FLOOR = 1e-3
"""A mean divergence below this is never held against a product."""


def file_gate(encoding: str, computed: str) -> Gate:
    """For a file of `encoding` whose weights were computed in `computed`."""
    gate = FILE[encoding]
    if computed == "float32":
        return gate
    return Gate(max(gate.mean, FILE_ROUNDED.mean), max(gate.largest, FILE_ROUNDED.largest))


def training_limit(computed: str, moved: float) -> float:
    """Of the mean divergence, where training in `computed` moved the base by `moved`."""
    return max(TRAINING_FLOOR, TRAINING[computed] * moved)
