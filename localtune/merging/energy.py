"""How much there is of a change: the sum of its squares, of what is summed, of the sum, and of what a rank keeps of it.

Computed in float64, in which the squares of any float32 are finite and what cancels out in float32 is told from 0.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from localtune.batch import Floats
from localtune.errors import InputError, Problem


@dataclass(frozen=True)
class Energy:
    """Sums of squares of one module."""

    given: float
    """Of the changes that are summed, each weighed and by itself, together."""
    merged: float
    left: float
    """Of the merged change, as much as its rank has room for."""

    @property
    def kept(self) -> float:
        """Share of the merged change that is left; 1 of none."""
        return self.left / self.merged if self.merged else 1.0


def energy(values: Floats) -> float:
    """Of a matrix."""
    return float(sum(np.vdot(row, row) for row in (row.astype(np.float64) for row in values)))


def product_energy(a: Floats, b: Floats) -> float:
    """Of B A, as the trace of B'B A A', without the matrix itself."""
    wide, tall = a.astype(np.float64), b.astype(np.float64)
    return float(np.vdot(tall.T @ tall, wide @ wide.T))


def together(energies: Collection[Energy]) -> Energy:
    """Of all modules."""
    return Energy(
        given=sum(one.given for one in energies),
        merged=sum(one.merged for one in energies),
        left=sum(one.left for one in energies),
    )


def refuse_overflow(found: Energy, module: str, how: str) -> None:
    """Raise `InputError` (merge.not-finite) for a change that float32 does not hold."""
    if not math.isfinite(found.given + found.merged + found.left):
        what = "the merged change is beyond float32"
        fix = "--weights closer to 0" if how == "linear" else "--weights closer to 0, or a higher --density"
        raise InputError(Problem("merge.not-finite", what, module[:200], fix=fix))


_ROUNDING = float(np.finfo(np.float32).eps) ** 2
"""Share of the squares of what is summed below which a sum is float32 rounding and nothing else."""


def refuse_nothing(found: Energy, how: str) -> None:
    """Raise `InputError` (merge.nothing) where, over all modules, nothing was merged or nothing of it is left."""
    if found.left > 0 and found.merged > found.given * _ROUNDING:
        return
    if found.given > 0:
        what = "the adapters cancel each other out: the merged one would change nothing"
        raise InputError(Problem("merge.nothing", what, fix="other --weights, or leave one of the adapters out"))
    what = "nothing is left of what the adapters change: the merged one would change nothing"
    fix = "--weights that are not 0" if how == "linear" else "--weights that are not 0, and a higher --density"
    raise InputError(Problem("merge.nothing", what, fix=f"{fix}; an adapter that learned nothing has to be trained"))
