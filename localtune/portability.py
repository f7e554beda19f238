"""What differs between the backends for one recipe: which can be used here, what each refuses, how each computes.

Facts of the recipe's plan on each backend, in plain words; a row stands here only where it applies and where the
backends say different things. What a backend that cannot be used here would refuse is not known, and said to be so.
"""

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from localtune.backend import Device, Refusal, installation
from localtune.defaults import QUANTIZERS
from localtune.model import ModelFiles
from localtune.plan import Plan
from localtune.settings import Recipe

STORED = {
    "nf4": "NF4: 4 bits on the quantiles of a normal distribution, a scale per 64 weights (bitsandbytes)",
    "mxfp4": "mxfp4: 4-bit floats, a power of two per 32 weights (MLX)",
    "nvfp4": "nvfp4: 4-bit floats, an 8-bit scale per 16 weights (MLX)",
    "mxfp8": "mxfp8: 8-bit floats, a power of two per 32 weights (MLX)",
    "checkpoint": "as the model's files hold it, quantised already",
}
AFFINE = "{}: {} bits in even steps, a scale and an offset per 64 weights (MLX)"
ATTENTION = {
    "torch": "PyTorch's fused kernel, where there is one for masks of packed rows",
    "mlx": "fused for answers; training keeps the scores of every block, so long rows take more memory",
}
SOFT_CAPPED = "written out on both sides: no fused kernel has soft-capped scores"
OPTIMIZERS = {
    "torch": "{} in float32, PyTorch's kernels",
    "mlx": "{} in float32, the same closed form in MLX's kernels: equal up to rounding",
}
DROPOUT = {"torch": "drawn by PyTorch's generator", "mlx": "drawn by MLX's generator: other values are dropped"}
LOOSE = "may differ in the last digits: sums on a GPU have no fixed order"
REPEATED = {"cpu": "the same bit for bit", "cuda": LOOSE, "metal": LOOSE}
"""By kind of device: what a run says that is repeated or resumed there."""
WIDTH = 80
"""Columns of a line of the report; only a word that is longer alone makes one wider."""
UNKNOWN = "not known: it cannot be used here"


@dataclass(frozen=True)
class Side:
    """One backend and this recipe."""

    device: Device
    plan: Plan | None
    """None where the backend cannot be used here."""
    refusals: tuple[Refusal, ...] = ()

    @property
    def backend(self) -> str:
        """Its name."""
        return self.device.backend


@dataclass(frozen=True)
class Difference:
    """One thing in which the backends are not alike."""

    what: str
    texts: dict[str, str]
    """Backend -> in words."""


def differences(recipe: Recipe, model: ModelFiles, sides: Sequence[Side]) -> list[Difference]:
    """The rows that apply to `recipe`, where not all `sides` say the same."""
    rows = [
        Difference("computes", {side.backend: _computes(side) for side in sides}),
        Difference("base", {side.backend: _base(recipe, model, side) for side in sides}),
        Difference("attention", {side.backend: _attention(model, side) for side in sides}),
        Difference(
            "optimizer", {side.backend: OPTIMIZERS[side.backend].format(recipe.train.optimizer) for side in sides}
        ),
        Difference("dropout", {side.backend: DROPOUT[side.backend] if recipe.lora.dropout else "" for side in sides}),
        Difference("repeated", {side.backend: REPEATED.get(side.device.kind, UNKNOWN) for side in sides}),
    ]
    return [row for row in rows if len(set(row.texts.values())) > 1]


def _computes(side: Side) -> str:
    return f"in {side.plan.precision.compute} on {side.device.name}" if side.plan else UNKNOWN


def _base(recipe: Recipe, model: ModelFiles, side: Side) -> str:
    """How a base that is quantised is stored; of others the compute type says it."""
    if recipe.train.method == "full" or (recipe.train.method == "lora" and model.config.quantized is None):
        return ""
    given = recipe.train.quantize
    storage = side.plan.precision.storage if side.plan else QUANTIZERS[side.backend] if given == "auto" else given
    return STORED.get(storage) or AFFINE.format(storage, storage.removeprefix("affine"))


def _attention(model: ModelFiles, side: Side) -> str:
    return SOFT_CAPPED if model.config.model_type.startswith("gemma2") else ATTENTION[side.backend]


def portability_lines(recipe: Recipe, model: ModelFiles, sides: Sequence[Side]) -> Iterator[str]:
    """The report as a person reads it."""
    for side in sides:
        yield from _side_lines(side)
    yield "what differs, for this recipe:"
    for row in differences(recipe, model, sides):
        for i, (name, text) in enumerate(row.texts.items()):
            yield from _wrapped(f"{row.what if i == 0 else '':<11}{name:<7}", text)


def comparison(recipe: Recipe, model: ModelFiles, sides: Sequence[Side]) -> dict[str, Any]:
    """The report for a program."""
    return {
        "backends": [
            {
                "name": side.backend,
                "usable": side.plan is not None,
                "device": asdict(side.device),
                "refusals": [asdict(refusal) for refusal in side.refusals] if side.plan else None,
                "precision": asdict(side.plan.precision) if side.plan else None,
            }
            for side in sides
        ],
        "differences": [asdict(row) for row in differences(recipe, model, sides)],
    }


def _side_lines(side: Side) -> Iterator[str]:
    if side.plan is None:
        unknown = f"cannot be used here, so what it refuses is not known: {side.device.reason}"
        yield from _wrapped(f"{side.backend:<11}", unknown)
        if "not installed" in side.device.reason:
            yield from _wrapped(f"{'':<11}fix: ", installation(side.backend))
        return
    yield from _wrapped(f"{side.backend:<11}", f"{side.device.name}: {side.device.reason}")
    if not side.refusals:
        yield f"{'':<11}refuses nothing of this recipe"
    for refusal in side.refusals:
        yield from _wrapped(f"{'':<11}refuses ", f"{refusal.setting}: {refusal.reason}")
        yield from _wrapped(f"{'':<11}fix: ", refusal.fix or f"change {refusal.setting}")


def _wrapped(head: str, text: str) -> list[str]:
    """`head` and `text` on lines that begin beneath the text."""
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=head,
        subsequent_indent=" " * len(head),
        break_long_words=False,
        break_on_hyphens=False,
    )
