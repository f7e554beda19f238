"""Curves of numbers over updates: what is drawn of them at a width, and as one line of blocks.

`thinned` keeps the lowest and the highest value of every column, so that no spike is lost; a value that is not finite
is never drawn.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
BLOCKS = "▁▂▃▄▅▆▇█"
ASCII_BLOCKS = "_.-=+*#@"
SMOOTHING = 0.9
"""Weight of the past in the smoothed loss: about the last ten updates."""


@dataclass(frozen=True)
class Curve:
    """One line or set of points of a chart."""

    name: str
    xs: Array
    """Updates."""
    ys: Array
    kind: Literal["raw", "smooth", "points", "best"] = "smooth"
    colour: int = 0
    """Which run it belongs to: its place in the palette."""
    mark: str = ""
    """Sign of its run, where several are drawn: nobody need tell them apart by colour."""


def curve(
    name: str,
    xs: Sequence[float] | Array,
    ys: Sequence[float] | Array,
    kind: Literal["raw", "smooth", "points", "best"] = "smooth",
    colour: int = 0,
) -> Curve:
    """A `Curve` of the finite values of `ys`."""
    at, values = np.asarray(xs, dtype=np.float64), np.asarray(ys, dtype=np.float64)
    finite = np.isfinite(values)
    return Curve(name, at[finite], values[finite], kind, colour)


def within(shown: Curve, zoom: tuple[int, int] | None) -> Curve:
    """The part of a curve between two updates, both included."""
    if zoom is None:
        return shown
    inside = (shown.xs >= zoom[0]) & (shown.xs <= zoom[1])
    return replace(shown, xs=shown.xs[inside], ys=shown.ys[inside])


def thinned(shown: Curve, columns: int) -> Curve:
    """At most two values for each of `columns`: its lowest and its highest, in the order they came."""
    count = len(shown.xs)
    if columns < 1 or count <= 2 * columns:
        return shown
    starts = np.linspace(0, count, columns, endpoint=False).astype(np.int64)
    ends = np.append(starts[1:], count)
    kept: list[int] = []
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        part = shown.ys[start:end]
        kept += sorted({start + int(part.argmin()), start + int(part.argmax())})
    return replace(shown, xs=shown.xs[kept], ys=shown.ys[kept])


def smoothed(values: Sequence[float] | Array) -> Array:
    """The exponential mean of `values`, without its bias at the beginning; what is not finite changes nothing."""
    return np.fromiter(_running_means(values), dtype=np.float64, count=len(values))


def spark(values: Sequence[float] | Array, width: int, *, ascii_only: bool = False) -> str:
    """`values` as at most `width` blocks, each the mean of its share, between their lowest and highest."""
    blocks = ASCII_BLOCKS if ascii_only else BLOCKS
    finite = np.asarray(values, dtype=np.float64)
    finite = finite[np.isfinite(finite)]
    if width < 1 or not len(finite):
        return ""
    means = np.array([part.mean() for part in np.array_split(finite, min(width, len(finite)))])
    low, high = means.min(), means.max()
    heights = (means - low) / (high - low) if high > low else np.zeros(len(means))
    return "".join(blocks[min(int(height * len(blocks)), len(blocks) - 1)] for height in heights)


def ticks(low: float, high: float, count: int, *, log: bool = False) -> list[float]:
    """At most about `count` round numbers between two bounds, for an axis."""
    if not (np.isfinite(low) and np.isfinite(high)) or high <= low or count < 1:
        return [low]
    candidates = _log_ticks(low, high) if log else []
    if len(candidates) < 2:
        candidates = _linear_ticks(low, high, count)
    candidates = candidates or [low, high]
    stride = -(-len(candidates) // count)
    return candidates[::stride]


def _linear_ticks(low: float, high: float, count: int) -> list[float]:
    rough = (high - low) / count
    power = 10.0 ** np.floor(np.log10(rough))
    step = next((power * factor for factor in (1, 2, 5) if power * factor >= rough), power * 10)
    first = np.ceil(low / step)
    return [float(index * step) for index in np.arange(first, np.floor(high / step) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    if low <= 0:
        return []
    powers = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    found = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
    return [value for value in found if low <= value <= high]


def _running_means(values: Sequence[float] | Array) -> Iterator[float]:
    means = Smoother()
    for value in values:
        yield means.take(float(value))


@dataclass
class Smoother:
    """The exponential mean of what it has taken."""

    total: float = 0.0
    weight: float = 0.0

    def take(self, value: float) -> float:
        """The mean with `value` in it; one that is not finite leaves it as it is."""
        if value - value == 0:
            self.total = SMOOTHING * self.total + (1 - SMOOTHING) * value
            self.weight = SMOOTHING * self.weight + (1 - SMOOTHING)
        return self.total / self.weight if self.weight else float("nan")
