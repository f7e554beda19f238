"""The list of runs: any number of them, of which only the lines in sight are made."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.cells import set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.events import Click, Resize
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from localtune.words import duration
from localtune_tui.amounts import ago, sign
from localtune_tui.run_rows import RunRow, stem
from localtune_tui.text import shown

NONE = "—"


@dataclass(frozen=True)
class Column:
    """One column of the table."""

    title: str
    width: int
    """Cells; those of the names grow with the room there is."""
    share: int = 0
    """Of the room that is left."""
    least: int = 0
    """Width of the pane from which it is shown."""


COLUMNS = (
    Column("name", 14, 3),
    Column("model", 12, 2),
    Column("data", 10, 2, least=90),
    Column("state", 10),
    Column("val loss", 8),
    Column("trend", 8, least=70),
    Column("took", 7),
    Column("when", 8),
)


class RunTable(ScrollView, can_focus=True):
    """Names, of which the screen reads the rows that are in sight."""

    HELP: ClassVar[str | None] = (
        "Every run, the newest first. Enter opens one, space marks it, = draws the losses of the marked ones together. "
        "The filter takes words and state:done, model:qwen, data:faq, name:bot."
    )
    COMPONENT_CLASSES: ClassVar[set[str]] = {"run--cursor", "run--good", "run--bad", "run--quiet", "run--head"}
    DEFAULT_CSS = """
    RunTable { height: 1fr; overflow-x: hidden; scrollbar-size-vertical: 1; }
    RunTable .run--cursor { background: $primary 35%; text-style: bold; }
    RunTable:ansi .run--cursor { text-style: reverse; }
    RunTable .run--good { color: $good; }
    RunTable .run--bad { color: $bad; }
    RunTable .run--quiet { text-style: dim; }
    RunTable .run--head { text-style: underline; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "Open", id="runs.open", tooltip="Watch the run in Live."),
        Binding("space", "mark", "Mark", id="runs.mark", tooltip="Mark it for comparison, or take the mark away."),
        Binding("down", "cursor_down", "Down", show=False, id="runs.down", tooltip="The run below."),
        Binding("up", "cursor_up", "Up", show=False, id="runs.up", tooltip="The run above."),
        Binding("pagedown", "page(1)", "Page down", show=False, id="runs.pagedown", tooltip="A page down."),
        Binding("pageup", "page(-1)", "Page up", show=False, id="runs.pageup", tooltip="A page up."),
        Binding("home", "first", "First", show=False, id="runs.first", tooltip="The first run."),
        Binding("end", "last", "Last", show=False, id="runs.last", tooltip="The last run."),
    ]  # fmt: skip

    cursor: reactive[int] = reactive(0)

    class Opened(Message):
        """A run is to be opened."""

        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

    class Moved(Message):
        """Another run is chosen, or others are in sight."""

    def __init__(self, *, ascii: bool, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self.ascii = ascii
        self.names: tuple[str, ...] = ()
        self.rows: Mapping[str, RunRow] = {}
        self.marked: set[str] = set()

    @property
    def chosen(self) -> str | None:
        """The run under the cursor."""
        return self.names[self.cursor] if 0 <= self.cursor < len(self.names) else None

    @property
    def in_sight(self) -> tuple[str, ...]:
        """The runs whose lines are painted."""
        top = self.scroll_offset.y
        return self.names[top : top + max(1, self.size.height - 1)]

    def show(self, names: Sequence[str], rows: Mapping[str, RunRow]) -> None:
        """List `names`, as far as `rows` has them; the cursor stays on its run."""
        chosen, given = self.chosen, tuple(names)
        self.rows = rows
        if given != self.names:
            self.names = given
            self.virtual_size = Size(self.size.width, len(given) + 1)
            self.cursor = given.index(chosen) if chosen in given else min(self.cursor, max(0, len(given) - 1))
        self.refresh()

    def validate_cursor(self, cursor: int) -> int:
        """Keep it on a run."""
        return max(0, min(cursor, len(self.names) - 1))

    def watch_cursor(self) -> None:
        """Keep it in sight."""
        self.scroll_to_region(Region(0, self.cursor, 1, 2), animate=False, force=True)
        self.refresh()
        self.post_message(self.Moved())

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Say that others are in sight."""
        super().watch_scroll_y(old_value, new_value)
        self.post_message(self.Moved())

    def on_resize(self, event: Resize) -> None:
        """Others may be in sight."""
        self.virtual_size = Size(event.size.width, len(self.names) + 1)
        self.post_message(self.Moved())

    def on_click(self, event: Click) -> None:
        """Choose a run; again, open it."""
        place = event.y - 1 + self.scroll_offset.y
        if event.y == 0 or not 0 <= place < len(self.names):
            return
        if place == self.cursor:
            self.action_open()
        self.cursor = place

    def action_open(self) -> None:
        """Open the chosen run."""
        if self.chosen is not None:
            self.post_message(self.Opened(self.chosen))

    def action_mark(self) -> None:
        """Mark the chosen run, or take its mark away, and go on to the next."""
        if self.chosen is not None:
            self.marked ^= {self.chosen}
            self.cursor += 1
            self.refresh()

    def action_cursor_down(self) -> None:
        """Down."""
        self.cursor += 1

    def action_cursor_up(self) -> None:
        """Up."""
        self.cursor -= 1

    def action_page(self, way: int) -> None:
        """A page down or up."""
        self.cursor += way * max(1, self.size.height - 2)

    def action_first(self) -> None:
        """The first run."""
        self.cursor = 0

    def action_last(self) -> None:
        """The last run."""
        self.cursor = len(self.names) - 1

    def render_line(self, y: int) -> Strip:
        """The heads of the columns, then a run a line."""
        if y == 0:
            cells = [(column.title, "run--head") for column in COLUMNS]
            return self._strip("  ", cells, Style())
        place = y - 1 + self.scroll_offset.y
        if place >= len(self.names):
            return Strip.blank(self.size.width, self.rich_style)
        name = self.names[place]
        here = self.get_component_rich_style("run--cursor") if place == self.cursor else Style()
        arrow, star = (">", "*") if self.ascii else ("▸", "◆")
        lead = (star if name in self.marked else " ") + (arrow if place == self.cursor else " ")
        return self._strip(lead, _cells(name, self.rows.get(name), ascii_only=self.ascii), here)

    def _strip(self, lead: str, cells: Sequence[tuple[str, str]], over: Style) -> Strip:
        width, base = self.size.width, self.rich_style
        columns = _fitted(width - len(lead))
        segments = [Segment(lead, base + over)]
        for (text, look), room in zip(cells, columns, strict=True):
            if room:
                style = base + (self.get_component_rich_style(look, partial=True) if look else Style()) + over
                segments += [Segment(set_cell_size(text, room), style), Segment(" ", base + over)]
        return Strip(segments).adjust_cell_length(width, base + over)


def _fitted(room: int) -> list[int]:
    """Width of every column, 0 where it is left out."""
    widths = [column.width if room >= column.least else 0 for column in COLUMNS]
    spare = room - sum(widths) - sum(width > 0 for width in widths)
    shares = sum(column.share for column, width in zip(COLUMNS, widths, strict=True) if width)
    return [
        width + (max(0, spare) * column.share // shares if width else 0)
        for column, width in zip(COLUMNS, widths, strict=True)
    ]


def _cells(name: str, row: RunRow | None, *, ascii_only: bool) -> list[tuple[str, str]]:
    """Text and look of every cell."""
    if row is None:
        return [(shown(stem(name), 60), ""), *[("…", "run--quiet")] * (len(COLUMNS) - 1)]
    from localtune_tui.curves import spark

    look = "run--good" if row.state == "done" else "run--bad" if row.state in _BAD else ""
    return [
        (shown(row.stem, 60), ""),
        (shown(row.model or NONE, 60), ""),
        (shown(row.data or NONE, 60), ""),
        (_state(row, ascii_only=ascii_only), look),
        (f"{row.best:.3g}" if row.best is not None else NONE, ""),
        (spark(row.trend, 8, ascii_only=ascii_only), "run--quiet"),
        (duration(row.took) if row.took else NONE, ""),
        (ago(row.when, time.time()) if row.when else NONE, ""),
    ]


_BAD = ("failed", "crashed", "stalled", "paused")


def _state(row: RunRow, *, ascii_only: bool) -> str:
    mark = sign(row.state, ascii_only=ascii_only)
    if row.state in ("starting", "running") and row.steps:
        return f"{mark} {row.step / row.steps:.0%}"
    word = "OOM" if row.state == "failed" and row.failure.startswith("memory") else row.state
    return f"{mark} {word}"
