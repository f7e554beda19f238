"""The curves of a run's loss, and which part of them is shown."""

from localtune_tui.curves import Curve, curve
from localtune_tui.run_view import RunView

ZOOMS = ("whole run", "last half", "last tenth")
_SHARES = (1.0, 0.5, 0.1)


def curves_of(view: RunView, colour: int = 0, valid: int = 1, *, raw: bool = True) -> list[Curve]:
    """Raw and smoothed training loss, validation points and the best of them, in two colours of the palette."""
    steps = [found.step for found in view.evaluations]
    found = [
        *([curve("raw", view.steps_at, view.losses, "raw", colour)] if raw else []),
        curve("train", view.steps_at, view.smoothed, "smooth", colour),
        curve("val", steps, [each.loss for each in view.evaluations], "points", valid),
    ]
    if view.best is not None:
        found.append(curve("best", [view.best.step], [view.best.loss], "best", valid))
    return [each for each in found if len(each.xs)]


def zoomed(view: RunView, place: int) -> tuple[int, int] | None:
    """First and last update of the part called `ZOOMS[place]`; None for all of it."""
    if not place or not view.step:
        return None
    return max(0, view.step - max(10, int(view.step * _SHARES[place]))), view.step
