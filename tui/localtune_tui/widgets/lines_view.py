"""A pane of lines that are read only as they are painted: the events of a run, or a log of any size."""

from collections.abc import Sequence
from typing import ClassVar, Protocol

from rich.segment import Segment
from rich.style import Style
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from localtune_tui.text import shown

WIDEST = 500
"""Characters of a line that can be scrolled to."""


class Lines(Protocol):
    """Where the lines come from."""

    @property
    def count(self) -> int:
        """How many there are."""
        ...

    def line(self, number: int) -> str:
        """One of them, from 0."""
        ...


class ListLines:
    """Lines that are already there."""

    def __init__(self, lines: Sequence[str] = ()) -> None:
        self.lines = tuple(lines)

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.lines)

    def line(self, number: int) -> str:
        """One of them; "" where there is none."""
        return self.lines[number] if 0 <= number < len(self.lines) else ""


class LinesView(ScrollView, can_focus=True):
    """Paints lines; `follow` keeps the end in sight while it is there."""

    HELP: ClassVar[str | None] = "Arrows, Page Up and Page Down scroll; g goes to the beginning, G to the end."
    DEFAULT_CSS = """
    LinesView { height: 1fr; overflow-x: hidden; overflow-y: auto; scrollbar-size-vertical: 1; }
    """

    def __init__(
        self,
        source: Lines | None = None,
        *,
        empty: str = "",
        follow: bool = False,
        id: str | None = None,  # noqa: A002
    ) -> None:
        super().__init__(id=id)
        self.source: Lines = source or ListLines()
        self.empty = empty
        """What is said where there are no lines."""
        self.follow = follow
        self.marked: int | None = None
        """The line that a search has found."""

    def show(self, source: Lines) -> None:
        """Paint `source`, which may be the same one, grown."""
        at_end = self.follow and self.scroll_offset.y >= self.max_scroll_y - 1
        self.source = source
        self.virtual_size = Size(self.size.width, max(1, source.count))
        if at_end:
            self.scroll_end(animate=False)
        self.refresh()

    def mark(self, number: int | None) -> None:
        """Show line `number` as found, and scroll to it."""
        self.marked = number
        if number is not None:
            self.scroll_to(y=max(0, number - self.size.height // 2), animate=False)
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """One line of the pane."""
        number, style = y + self.scroll_offset.y, self.rich_style
        if self.source.count == 0 and number == 0:
            text, style = shown(self.empty), style + Style(dim=True)
        else:
            text = shown(self.source.line(number), WIDEST)
        if number == self.marked:
            style += Style(reverse=True)
        return Strip([Segment(text, style)]).adjust_cell_length(self.size.width, style)
