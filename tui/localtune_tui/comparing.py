"""Several runs beside each other: their curves, and what differs between the first two, as `localtune runs diff` says.

For threads.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from localtune.errors import LocaltuneError
from localtune.runs.store import find_run
from localtune_tui.asking import Asked, AskError
from localtune_tui.curves import Curve
from localtune_tui.facts import short_model
from localtune_tui.following import Follower
from localtune_tui.run_curves import curves_beside
from localtune_tui.run_rows import stem

MOST = 6
"""Runs in one chart: as many as there are colours."""


FIGURES = {"best val loss": "best val", "memory peak": "memory", "products": "size", "time": "time"}
"""Figure as `localtune runs diff` calls it -> as it is called here, in this order."""
Row = tuple[str, str, str]
"""What, and its value in the first and in the second run."""


@dataclass(frozen=True)
class Comparison:
    """What is shown of some runs."""

    names: tuple[str, ...]
    curves: tuple[Curve, ...]
    figures: tuple[Row, ...] = ()
    """What came of the first and of the second run."""
    differences: tuple[Row, ...] = ()
    """What they were told differently."""
    note: str = ""
    """A sentence on what is the same, or why there is no comparison."""


def curves_together(names: Sequence[str]) -> Comparison:
    """The smoothed and validation losses of the runs called `names`, each in a colour and with a sign of its own."""
    found: list[Curve] = []
    gone = []
    for place, name in enumerate(names[:MOST]):
        try:
            follower = Follower(find_run(name))
        except (LocaltuneError, OSError):
            gone.append(stem(name))
            continue
        follower.poll()
        found += curves_beside(follower.view, place)
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
    found = {row[0]: row for row in _rows(value.get("figures"))}
    figures = tuple(_figure(said, found[key]) for key, said in FIGURES.items() if key in found)
    told = tuple(_rows(value.get("settings")))
    return Comparison(comparison.names, comparison.curves, figures, told, str(value.get("data", "")))


def _rows(value: Any) -> Iterator[Row]:
    for row in value if isinstance(value, list) else ():
        if isinstance(row, dict):
            key = str(row.get("key", ""))
            first, second = (_value(key, str(row.get(f"{which}_text", ""))) for which in ("first", "second"))
            yield key, first, second


def _value(key: str, text: str) -> str:
    """A model or a file by its name alone."""
    return short_model(text) if key == "model" or key.startswith("data.") else text


def _figure(said: str, row: Row) -> Row:
    """A figure under its own name, without the update it is of."""
    return said, row[1].partition(" at ")[0], row[2].partition(" at ")[0]
