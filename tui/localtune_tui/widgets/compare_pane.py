"""The losses of several runs in one chart, and beside it what differs between the first two."""

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size
from textual import work
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.reactive import reactive
from textual.widgets import Static

from localtune_tui.asking import Asked
from localtune_tui.chart import LossChart
from localtune_tui.comparing import Comparison, Row, curves_together, with_differences
from localtune_tui.run_curves import MARKS
from localtune_tui.run_rows import stem
from localtune_tui.text import shown


class ComparePane(Horizontal):
    """Shows the comparison it was given last."""

    DEFAULT_CSS = """
    ComparePane #compare-box { width: 2fr; }
    ComparePane #differences { width: 1fr; min-width: 36; scrollbar-size-vertical: 1; }
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
        """Name the table, and the keys that go on from here."""
        box = self.query_one("#differences")
        box.border_title, box.border_subtitle = "differences", "c compare · x export · r again"

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
        self._paint_table()

    def on_resize(self) -> None:
        """The columns have another width."""
        self.call_after_refresh(self._paint_table)

    def watch_log_axis(self) -> None:
        """Draw that axis."""
        if self.is_mounted:
            self._paint_chart()

    def _paint_chart(self) -> None:
        self.query_one(LossChart).show(self.comparison.curves, log=self.log_axis, ascii=self.ascii)
        parts: list[Content | tuple[str, str]] = [Content("loss  ")]
        for number, (mark, name) in enumerate(zip(MARKS, self.comparison.names, strict=False), 1):
            parts.append((f"{mark} {shown(stem(name), 24)}  ", f"$curve-{number}"))
        parts.append(Content("log  " if self.log_axis else ""))
        self.query_one("#compare-box").border_title = Content.assemble(*parts)

    def _paint_table(self) -> None:
        table = self.query_one("#differences-text", Static)
        table.update(Content("\n").join(differences(self.comparison, table.content_size.width)))


def differences(found: Comparison, width: int) -> list[Content]:
    """Figures, settings that differ, and a sentence; three columns for both, each cut to its part of `width`."""
    rows = [*found.figures, *found.differences]
    widths = _widths(rows, width)
    lines = [_line(row, widths) for row in found.figures]
    lines += [Content("")] if found.figures and found.differences else []
    lines += [_line(row, widths) for row in found.differences]
    if found.note:
        lines.append(Content(shown(found.note, 300)))
    return lines or [Content("comparing …" if len(found.names) > 1 else "mark a second run with space")]


def _widths(rows: Sequence[Row], width: int) -> tuple[int, int]:
    """Of the names and of each value: names get what values leave, and two fifths of the room in any case."""
    room = max(15, width - len(_BETWEEN) - 2)
    names = max((len(row[0]) for row in rows), default=0)
    values = max((len(text) for row in rows for text in row[1:]), default=0)
    named = min(names, max(room * 2 // 5, room - 2 * values))
    return named, min(values, (room - named) // 2)


_BETWEEN = " │ "


def _line(row: Row, widths: tuple[int, int]) -> Content:
    named, valued = widths
    name = row[0] if len(row[0]) <= named else row[0].rpartition(".")[2]
    first, second = _cut(row[1], valued), _cut(row[2], valued).rstrip()
    return Content.assemble((_cut(name, named), "bold"), "  ", first, _BETWEEN, second)


def _cut(text: str, width: int) -> str:
    """`text` in just `width` cells."""
    safe = shown(text, 200)
    return set_cell_size(safe, width) if cell_len(safe) <= width else set_cell_size(safe, width - 1) + "…"
