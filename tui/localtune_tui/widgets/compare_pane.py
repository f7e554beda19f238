"""The losses of several runs in one chart, and beside it what differs between the first two."""

from collections.abc import Sequence

from textual import work
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.reactive import reactive
from textual.widgets import Static

from localtune_tui.asking import Asked
from localtune_tui.chart import LossChart
from localtune_tui.comparing import Comparison, curves_together, with_differences
from localtune_tui.run_rows import stem
from localtune_tui.text import shown


class ComparePane(Horizontal):
    """Shows the comparison it was given last."""

    DEFAULT_CSS = """
    ComparePane #compare-box { width: 2fr; }
    ComparePane #differences { width: 1fr; min-width: 36; }
    """
    log_axis: reactive[bool] = reactive(False)

    def __init__(self, *, ascii: bool) -> None:  # noqa: A002
        super().__init__()
        self.ascii = ascii
        self.comparison = Comparison((), ())

    def compose(self) -> ComposeResult:
        """The chart and the table."""
        with Vertical(id="compare-box", classes="box"):
            yield LossChart(id="compare-chart")
        with VerticalScroll(id="differences", classes="box"):
            yield Static(id="differences-text")

    def on_mount(self) -> None:
        """Name the table."""
        self.query_one("#differences").border_title = "differences"

    def compare(self, names: Sequence[str]) -> None:
        """Read the runs called `names` and show them: the curves first, the differences when they are known."""
        self._read(tuple(names))

    @work(thread=True, exit_on_error=False, exclusive=True)
    def _read(self, names: tuple[str, ...]) -> None:
        comparison = curves_together(names)
        self.app.call_from_thread(self.show, comparison)
        if len(names) > 1:
            self.app.call_from_thread(self.show, with_differences(comparison, Asked()))

    def show(self, comparison: Comparison) -> None:
        """Paint `comparison`."""
        self.comparison = comparison
        if not self.is_attached:
            return
        self._paint_chart()
        self.query_one("#differences-text", Static).update(self._differences())

    def watch_log_axis(self) -> None:
        """Draw that axis."""
        if self.is_mounted:
            self._paint_chart()

    def _paint_chart(self) -> None:
        self.query_one(LossChart).show(self.comparison.curves, log=self.log_axis, ascii=self.ascii)
        parts: list[Content | tuple[str, str]] = [Content("loss  ")]
        for number, name in enumerate(self.comparison.names, 1):
            parts.append((f"{'#' if self.ascii else '━'} {shown(stem(name), 24)}  ", f"$curve-{number}"))
        parts.append(Content("log  " if self.log_axis else ""))
        self.query_one("#compare-box").border_title = Content.assemble(*parts)

    def _differences(self) -> Content:
        found = self.comparison
        width = max((len(key) for key, _, _ in found.differences), default=0)
        lines = [
            Content.assemble((f"{shown(key, 40):<{width}}  ", "bold"), shown(first, 60), " │ ", shown(second, 60))
            for key, first, second in found.differences
        ]
        if found.note:
            lines.append(Content(shown(found.note, 300)))
        if not lines:
            lines.append(Content("comparing …" if len(found.names) > 1 else "mark a second run with space"))
        return Content("\n").join(lines)
