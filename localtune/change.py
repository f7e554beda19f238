"""How much of an intended change of a weight survives rounding: the sums over its rows that tell it.

Sums are of float32 products for the rows that are added at once, and float64 beyond; relative errors are some 1e-6, or
float64's own where float32 would overflow or underflow.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from localtune.batch import Floats

Reals = npt.NDArray[np.floating[Any]]
_SAFE = 1e-28, 1e28
"""Between these, sums of squares of float32 values lose nothing that counts in float32."""


@dataclass
class Change:
    """Sums over one weight W; delta is the change that was intended, delta' the one that is left."""

    size: float = 0.0
    """<W, W>"""
    intended: float = 0.0
    """<delta, delta>"""
    survived: float = 0.0
    """<delta', delta>"""
    left: float = 0.0
    """<delta', delta'>"""

    @property
    def relative(self) -> float:
        """|delta| / |W|, Frobenius norms; 0 where W is 0."""
        return math.sqrt(self.intended / self.size) if self.size else 0.0

    @property
    def kept(self) -> float:
        """Share of the change that survived; 1 where nothing was to change."""
        return self.survived / self.intended if self.intended else 1.0

    @property
    def correlation(self) -> float:
        """Cosine of the angle between the two changes; 0 where nothing is left, 1 where nothing was to change."""
        if not self.intended:
            return 1.0
        return self.survived / math.sqrt(self.intended * self.left) if self.left else 0.0

    def add(self, weight: Floats, delta: Floats, left: Floats) -> None:
        """Rows [n, in] of W, of the intended change and of the one that is left."""
        pairs = ((weight, weight), (delta, delta), (left, delta), (left, left))
        with np.errstate(all="ignore"):  # what is not finite shows in the sums
            sums = [_dot(a, b) for a, b in pairs]
            if not all(_SAFE[0] < value < _SAFE[1] for value in (sums[0], sums[1], sums[3])):
                sums = [_dot(a.astype(np.float64), b.astype(np.float64)) for a, b in pairs]
        self.include(Change(*sums))

    def include(self, other: "Change") -> None:
        """Add the sums over other rows."""
        self.size += other.size
        self.intended += other.intended
        self.survived += other.survived
        self.left += other.left


def _dot(a: Reals, b: Reals) -> float:
    return float(np.dot(a.reshape(-1), b.reshape(-1)))
