"""The curves of a run's loss, and which part of them is shown."""

from dataclasses import replace

from localtune_tui.curves import Curve, curve
from localtune_tui.run_view import RunView

ZOOMS = ("whole run", "last half", "last tenth")
MARKS = "abcdef"
"""Signs of runs that are drawn together; the best validation loss has the capital."""
_SHARES = (1.0, 0.5, 0.1)


def curves_of(view: RunView) -> list[Curve]:
    """Raw and smoothed training loss, validation points and the best of them, in two colours of the palette."""
    return [each for each in (curve("raw", view.steps_at, view.losses, "raw"), *_curves(view, 0, 1)) if len(each.xs)]


def curves_beside(view: RunView, place: int) -> list[Curve]:
    """The same without the raw loss, in one colour and with one sign, for the chart's run number `place`, from 0."""
    end = curve("end", view.steps_at[-1:], view.smoothed[-1:], "points", place)
    return [replace(each, mark=MARKS[place]) for each in (*_curves(view, place, place), end) if len(each.xs)]


def _curves(view: RunView, colour: int, valid: int) -> list[Curve]:
    steps = [found.step for found in view.evaluations]
    found = [
        curve("train", view.steps_at, view.smoothed, "smooth", colour),
        curve("val", steps, [each.loss for each in view.evaluations], "points", valid),
    ]
    if view.best is not None:
        found.append(curve("best", [view.best.step], [view.best.loss], "best", valid))
    return found


def zoomed(view: RunView, place: int) -> tuple[int, int] | None:
    """First and last update of the part called `ZOOMS[place]`; None for all of it."""
    if not place or not view.step:
        return None
    return max(0, view.step - max(10, int(view.step * _SHARES[place]))), view.step
