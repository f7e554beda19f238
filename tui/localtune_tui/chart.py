"""The loss chart: raw, smoothed and validation loss of one or several runs, over updates.

It is drawn again only when its curves, its size or the colours have changed, from at most two values per column.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from rich.text import Text
from textual.color import Color
from textual.theme import Theme
from textual_plotext import PlotextPlot

from localtune_tui.curves import Array, Curve, thinned, ticks, within

EMPTY = "no loss yet"
MARKS = {"raw": "braille", "smooth": "braille", "points": "o", "best": "*"}
ASCII_MARKS = {"raw": ".", "smooth": "+", "points": "o", "best": "*"}
PALETTE = 6
"""Colours of runs that a theme has; further runs begin again."""


class LossChart(PlotextPlot):
    """Draws what `show` was given last."""

    DEFAULT_CSS = """
    LossChart { width: 1fr; height: 1fr; min-height: 4; }
    """

    def __init__(self, *, name: str | None = None, id: str | None = None, classes: str | None = None) -> None:  # noqa: A002
        super().__init__(name=name, id=id, classes=classes)
        self._curves: tuple[Curve, ...] = ()
        self._log = self._ascii = False
        self._zoom: tuple[int, int] | None = None
        self._drawn: tuple[object, Text] | None = None
        self._revision = 0

    def show(
        self,
        curves: Sequence[Curve],
        *,
        log: bool = False,
        ascii: bool = False,  # noqa: A002
        zoom: tuple[int, int] | None = None,
    ) -> None:
        """Draw `curves`, of `zoom` (two updates) only that part; the same as before costs nothing."""
        given = (tuple(curves), log, ascii, zoom)
        alike = len(given[0]) == len(self._curves) and given[1:] == (self._log, self._ascii, self._zoom)
        if alike and all(_same(new, old) for new, old in zip(given[0], self._curves, strict=True)):
            return
        self._curves, self._log, self._ascii, self._zoom = given
        self._revision += 1
        self.refresh()

    def render(self) -> Text:
        """The chart as text."""
        key = (self._revision, self.size, self.app.theme)
        if self._drawn is None or self._drawn[0] != key:
            self._drawn = (key, self._draw())
        return self._drawn[1]

    def _draw(self) -> Text:
        width, height = self.size
        parts = [thinned(within(shown, self._zoom), max(1, width)) for shown in self._curves]
        parts = [part for part in map(self._scaled, parts) if len(part.xs)]
        if not parts:
            return Text(EMPTY, style="dim")
        if width < 16 or height < 4:
            return Text("")
        plot = self.plt
        plot.clear_figure()
        for shown in parts:
            self._put(shown)
        _axes(plot, parts, width, height, log=self._log)
        drawn = super().render()
        return drawn if isinstance(drawn, Text) else Text(str(drawn))

    def _put(self, shown: Curve) -> None:
        mark = _mark(shown, ascii_only=self._ascii, colours=not self.app.no_color)
        draw = self.plt.scatter if shown.kind in ("points", "best") else self.plt.plot
        draw(shown.xs.tolist(), shown.ys.tolist(), marker=mark, color=self._colour(shown))

    def _colour(self, shown: Curve) -> int | tuple[int, int, int]:
        """Of a run's curve; the raw loss stays in the background."""
        variables = self.app.theme_variables
        ink = Color.parse(variables.get(f"curve-{shown.colour % PALETTE + 1}", "ansi_cyan"))
        if ink.ansi is not None:
            return 8 if shown.kind == "raw" else max(0, ink.ansi)
        ground = Color.parse(variables.get("background", "black"))
        return (ground.blend(ink, 0.45) if shown.kind == "raw" else ink).rgb

    def _scaled(self, shown: Curve) -> Curve:
        if not self._log:
            return shown
        above = shown.ys > 0
        return replace(shown, xs=shown.xs[above], ys=np.log10(shown.ys[above]))

    def _register_theme(self, app_theme_name: str | Theme) -> None:
        """As the widget does, but for themes of the terminal's own colours, which have no RGB."""
        if "ansi" in str(app_theme_name):
            self.theme = "clear"
            self.refresh()
            return
        self.theme = "auto"
        super()._register_theme(str(app_theme_name))


def _mark(shown: Curve, *, ascii_only: bool, colours: bool) -> str:
    """Sign that a curve is drawn with: its run's own for points, and for its line where there are no colours."""
    if shown.mark and (shown.kind in ("points", "best") or ascii_only or not colours):
        return shown.mark.upper() if shown.kind == "best" else shown.mark
    return (ASCII_MARKS if ascii_only else MARKS)[shown.kind]


def _same(new: Curve, old: Curve) -> bool:
    if (new.name, new.kind, new.colour, new.mark, len(new.xs)) != (
        old.name,
        old.kind,
        old.colour,
        old.mark,
        len(old.xs),
    ):
        return False
    return new.ys is old.ys or (np.array_equal(new.xs, old.xs) and np.array_equal(new.ys, old.ys))


def _axes(plot: object, parts: Sequence[Curve], width: int, height: int, *, log: bool) -> None:
    """Round numbers on both axes, and as many as there is room for."""
    low, high = _bounds([part.ys for part in parts])
    left, right = _bounds([part.xs for part in parts])
    values = ticks(10**low, 10**high, max(2, height // 3), log=True) if log else ticks(low, high, max(2, height // 3))
    places = np.log10(values).tolist() if log else values
    updates = [float(round(at)) for at in np.linspace(left, right, max(2, min(5, width // 18)))]
    figure = plot
    figure.frame(False)  # type: ignore[attr-defined]
    figure.xlim(left, right)  # type: ignore[attr-defined]
    figure.ylim(low, high)  # type: ignore[attr-defined]
    figure.yticks(places, [f"{value:.3g} " for value in values])  # type: ignore[attr-defined]
    figure.xticks(updates, [f"{at:,.0f}" for at in updates])  # type: ignore[attr-defined]


def _bounds(parts: Sequence[Array]) -> tuple[float, float]:
    low, high = min(float(part.min()) for part in parts), max(float(part.max()) for part in parts)
    return (low, high) if high > low else (low - 0.5, high + 0.5)
