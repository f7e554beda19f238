"""The chart draws what it is given, at any size, in any colours, and only when something has changed."""

import numpy as np
import pytest
from localtune_tui.chart import LossChart
from localtune_tui.curves import Curve, curve
from localtune_tui.theme import CHOICES, THEMES, VARIABLES
from textual.app import App, ComposeResult

FALLING = [curve("train", range(1, 101), [5 / step for step in range(1, 101)], "smooth"),
           curve("val", [50, 100], [0.3, 0.2], "points", 1), curve("best", [100], [0.2], "best", 1)]  # fmt: skip


class Charted(App[None]):
    """An app of one chart."""

    def compose(self) -> ComposeResult:
        """The chart."""
        yield LossChart()

    def on_mount(self) -> None:
        """The app's themes."""
        for theme in THEMES:
            self.register_theme(theme)

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """The app's own names."""
        return dict(VARIABLES)


async def _drawn(
    curves: list[Curve], size: tuple[int, int] = (60, 14), *, log: bool = False, ascii_only: bool = False
) -> str:
    async with Charted().run_test(size=size) as pilot:
        chart = pilot.app.query_one(LossChart)
        chart.show(curves, log=log, ascii=ascii_only)
        await pilot.pause()
        return chart.render().plain


async def test_both_axes_have_round_numbers_and_the_marks_are_there() -> None:
    text = await _drawn(FALLING)
    assert "100" in text.splitlines()[-1]
    assert any(line.lstrip().startswith("4 ") for line in text.splitlines())
    assert "o" in text
    assert "*" in text


async def test_ascii_charts_have_nothing_else() -> None:
    assert (await _drawn(FALLING, ascii_only=True)).isascii()


async def test_a_logarithmic_axis_spreads_what_is_small() -> None:
    lines = (await _drawn(FALLING, log=True)).splitlines()
    assert any(line.lstrip().startswith("0.5") or line.lstrip().startswith("0.2") for line in lines)


@pytest.mark.parametrize(
    "curves",
    [
        [],
        [curve("x", [], [])],
        [curve("x", [1.0, 2.0], [np.nan, np.inf])],
        [curve("x", [5], [1.0])],
        [curve("x", [1, 2], [0.0, 0.0])],
        [curve("x", [1, 2], [-1.0, 1e300])],
        [curve("x", range(100_000), np.ones(100_000))],
    ],
)
@pytest.mark.parametrize("log", [False, True])
async def test_any_curve_is_drawn_or_said_to_be_none(curves: list[Curve], log: bool) -> None:
    assert await _drawn(curves, log=log)


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (16, 4), (300, 80)])
async def test_any_size_is_drawn(size: tuple[int, int]) -> None:
    await _drawn(FALLING, size)


async def test_every_theme_is_drawn() -> None:
    async with Charted().run_test(size=(60, 14)) as pilot:
        chart = pilot.app.query_one(LossChart)
        chart.show(FALLING)
        for theme in CHOICES:
            pilot.app.theme = theme
            await pilot.pause()
            assert "*" in chart.render().plain


async def test_the_same_curves_again_are_not_drawn_again() -> None:
    async with Charted().run_test(size=(60, 14)) as pilot:
        chart = pilot.app.query_one(LossChart)
        chart.show(FALLING)
        await pilot.pause()
        first = chart.render()
        chart.show([curve(c.name, c.xs.copy(), c.ys.copy(), c.kind, c.colour) for c in FALLING])
        await pilot.pause()
        assert chart.render() is first
        chart.show(FALLING[:1])
        await pilot.pause()
        assert chart.render() is not first
