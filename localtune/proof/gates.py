"""Limits a product must keep to pass its proof. Divergences are in nats: the mean and the largest of all positions.

Set from fourteen trained models of ten families with 0.26 M to 8 M weights (tests/bench/fidelity.py) and a dozen random
ones, float32 weights against llama.cpp: F32 up to 1e-6 / 2e-5, F16 4e-6 / 9e-5, BF16 3e-4 / 4e-2, Q8_0 2e-3 / 0.3,
Q6_K 5e-3 / 0.4, Q5_K_M 9e-3 / 0.4, Q4_K_M 3e-2 / 0.9. In a mixture of experts rounding may choose another expert, and
single positions differ most: F16 2e-4 / 8e-2, BF16 5e-4 / 0.14. Wrong conversions begin at 2e-5 / 5e-4 (a rope base
off by 0.4 %) and are looked for in an exact file; in a coarse one they would hide, so its tensors are read back too
(`stored`). From the trained session: 1e-5 of float32 training, 3e-4 of bfloat16, 3e-2 of NF4, where training had moved
the base by 3. Models of a usual size may differ more; nobody has measured them here.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Gate:
    """Largest mean and largest single divergence."""

    mean: float
    largest: float


FILE = {
    "F32": Gate(1e-5, 1e-4),
    "F16": Gate(3e-5, 3e-3),
    "BF16": Gate(1e-3, 3e-1),
    "Q8_0": Gate(5e-3, 5e-1),
    "Q6_K": Gate(1e-2, 5e-1),
    "Q5_K_M": Gate(3e-2, 1.0),
    "Q4_K_M": Gate(1e-1, 4.0),
    "Q4_K_S": Gate(1e-1, 4.0),
}
"""Of a file from the weights it was made of, computed in float32; by encoding."""
EXPERTS = {"F16": FILE["BF16"]}
"""Of a mixture of experts, where it differs: one expert that is chosen instead of another is no fault of the file."""
FILE_FOREIGN = Gate(0.5, 8.0)
"""Of a file in a type that llama-quantize made: whatever few bits may do, not a fault of the conversion."""
FILE_ROUNDED = Gate(1e-2, 1.0)
"""Where the weights had to be computed in 16 bits: only a gross fault shows."""

TRAINING = {"float32": 0.001, "float16": 0.01, "bfloat16": 0.01}
TRAINING_QUANTISED = 0.10
"""Mean divergence from the trained model as a share of that between base and trained model; by what trained."""
TRAINING_FLOOR = 1e-3
"""A mean divergence below this is not held against a product that carries the fine-tune."""
LOST = 0.10
"""Most of what training gained in loss that a product may lose, whatever its divergence is put down to."""
LOSS_FLOOR = 0.05
"""Nats by which a loss over some hundred tokens may differ by chance."""
CARRIED = 0.7
"""Least share of the change that a product must carry: a coarse measure, for a fine-tune that was lost."""
UNCERTAIN = 0.1
"""Standard error of that share beyond which training changed too little to tell."""


def fusion_limit(moved: float, *, rounded: bool, exact: bool) -> float:
    """Of the mean divergence of fused weights from base and adapter side by side, which are `moved` from the base.

    Measured 6e-11 for weights written in float32 and 1e-5 for ones `rounded` to bfloat16, where training had moved the
    base by 3.5; there a missing layer, projection or single module, or a scale 10 % off, made 4e-2 to 5e-2. Not
    `exact`: one of the two was computed in 16 bits; the limit for that is a judgement.
    """
    if not exact:
        return max(1e-3, 0.01 * moved)
    return max(1e-4, 1e-4 * moved) if rounded else 1e-7


def file_gate(encoding: str, computed: str, *, experts: bool = False) -> Gate:
    """For a file of `encoding` whose weights were computed in `computed`; `experts`: of a mixture of experts."""
    gate = FILE.get(encoding, FILE_FOREIGN)
    if experts:
        gate = EXPERTS.get(encoding, gate)
    if computed == "float32":
        return gate
    return Gate(max(gate.mean, FILE_ROUNDED.mean), max(gate.largest, FILE_ROUNDED.largest))


def training_limit(computed: str, moved: float, quantised: float) -> float:
    """Of the mean divergence, where training in `computed` moved the base by `moved`.

    `quantised`: how far the base that trained is from the one the product is made of. That difference is no fault of
    the product, but it may be one of the choice to train so; `loss_limit` says when.
    """
    return max(TRAINING_FLOOR, TRAINING.get(computed, TRAINING_QUANTISED) * moved, 2 * quantised)


def loss_limit(gained: float) -> float:
    """Of the product's loss above the trained session's, nats, where training lowered the loss by `gained`."""
    return max(LOSS_FLOOR, LOST * gained)
