"""Lengths of rows on a line: percentiles and a histogram."""

import math
from collections.abc import Sequence

BARS, ASCII_BARS = " ▁▂▃▄▅▆▇", " .:-=+*#"


def histogram(lengths: Sequence[int], bins: int) -> list[int]:
    """Rows in `bins` of equal width from 0 to the 99th percentile; longer ones are in the last."""
    if not lengths:
        return [0] * bins
    width = max(1, percentile(sorted(lengths), 99)) / bins
    counts = [0] * bins
    for length in lengths:
        counts[min(bins - 1, int(length / width))] += 1
    return counts


def percentile(ordered: Sequence[int], share: int) -> int:
    """Of sorted lengths, the higher of two neighbours."""
    return ordered[min(len(ordered) - 1, math.ceil((len(ordered) - 1) * share / 100))]


def bars(counts: Sequence[int], *, ascii_only: bool = False) -> str:
    """The counts as a line; what is there is never drawn as nothing."""
    marks, most = (ASCII_BARS if ascii_only else BARS), max(counts, default=0) or 1
    return "".join(marks[-(-7 * count // most)] for count in counts)


def lengths_line(lengths: Sequence[int], *, bins: int = 24, ascii_only: bool = False) -> str:
    """Percentiles and histogram of tokens a row; empty where there are none."""
    if not lengths:
        return ""
    ordered = sorted(lengths)
    p50, p95 = percentile(ordered, 50), percentile(ordered, 95)
    drawn = bars(histogram(ordered, bins), ascii_only=ascii_only)
    return f"tokens a row  p50 {p50:,}  p95 {p95:,}  max {ordered[-1]:,}  {drawn}"
