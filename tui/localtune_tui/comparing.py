"""Several runs beside each other: their curves, and what differs between the first two, as `localtune runs diff` says.

For threads.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from localtune.errors import LocaltuneError
from localtune.runs.store import find_run
from localtune_tui.asking import Asked, AskError
from localtune_tui.curves import Curve
from localtune_tui.following import Follower
from localtune_tui.run_curves import curves_of
from localtune_tui.run_rows import stem

MOST = 6
"""Runs in one chart: as many as there are colours."""


@dataclass(frozen=True)
class Comparison:
    """What is shown of some runs."""

    names: tuple[str, ...]
    curves: tuple[Curve, ...]
    differences: tuple[tuple[str, str, str], ...] = ()
    """What, and its value in the first and in the second run."""
    note: str = ""
    """A sentence on what is the same, or why there is no comparison."""


def curves_together(names: Sequence[str]) -> Comparison:
    """The smoothed and validation losses of the runs called `names`, each in a colour of its own."""
    found: list[Curve] = []
    gone = []
    for colour, name in enumerate(names[:MOST]):
        try:
            follower = Follower(find_run(name))
        except (LocaltuneError, OSError):
            gone.append(stem(name))
            continue
        follower.poll()
        found += curves_of(follower.view, colour, colour, raw=False)
    return Comparison(tuple(names[:MOST]), tuple(found), note=f"gone: {', '.join(gone)}" if gone else "")


def with_differences(comparison: Comparison, asked: Asked) -> Comparison:
    """`comparison` with what differs between its first two runs."""
    if len(comparison.names) < 2:
        return comparison
    try:
        value = asked.run_json("runs", "diff", comparison.names[0], comparison.names[1], "--json")
    except AskError as error:
        note = "" if error.cancelled else error.text.partition("\n")[0]
        return Comparison(comparison.names, comparison.curves, note=note)
    rows = [_row(row) for key in ("settings", "figures") for row in value.get(key, ()) if isinstance(row, dict)]
    return Comparison(comparison.names, comparison.curves, tuple(rows), str(value.get("data", "")))


def _row(row: dict[str, Any]) -> tuple[str, str, str]:
    return str(row.get("key", "")), str(row.get("first_text", "")), str(row.get("second_text", ""))
