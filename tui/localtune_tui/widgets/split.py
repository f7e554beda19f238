"""Two panes beside or above each other, and the border between them, which the mouse moves.

The place of the border is a share of the whole, kept in the app's state; a double click gives back the place that the
style sheet has for it (`grid-columns` or `grid-rows`). Panes that a narrow terminal stacks have nothing to move.
"""

from typing import TYPE_CHECKING, cast

from textual.containers import Container
from textual.events import Click, Leave, MouseDown, MouseMove, MouseUp

if TYPE_CHECKING:
    from localtune_tui.app import LocaltuneApp
    from localtune_tui.state import SessionState

STEP = 4
"""Cells that a key moves the border by."""


class Split(Container):
    """Lays out two panes; a third is not expected, one alone gets all the room where the grid has one cell."""

    DEFAULT_CSS = """
    Split { layout: grid; grid-size: 2; }
    Split.-down { grid-size: 1; }
    Split.-grip > .box, Split.-grip > * > .box { border: round $accent; }
    """

    def __init__(self, key: str, *, least: tuple[int, int], down: bool = False, id: str | None = None) -> None:  # noqa: A002
        """`key`: what the state calls the share; `least`: cells each pane keeps; `down`: one above the other."""
        super().__init__(id=id, classes="-down" if down else "")
        self._key, self._least, self._down = f"split.{key}", least, down
        self._dragged = False

    @property
    def divided(self) -> bool:
        """Whether there are two panes with a border between them that can be moved."""
        panes = [child.region for child in self.children if child.display]
        if len(panes) != 2 or self._total < sum(self._least):
            return False
        first, second = panes
        return second.y == first.bottom if self._down else second.x == first.right

    @property
    def place(self) -> int:
        """Cells before the border."""
        first = self.children[0].region
        return first.height if self._down else first.width

    def move(self, cells: int) -> None:
        """Put the border behind so many cells, as far as both panes keep their least."""
        if self.divided:
            self._put(cells)
            self._state.put(self._key, self._within(cells) / self._total)

    def forget(self) -> None:
        """As it is without anybody's wish."""
        if self._down:
            self.styles.grid_rows = None
        else:
            self.styles.grid_columns = None
        self._state.put(self._key, 0.0)

    def on_mount(self) -> None:
        """As it was left; and within reach of the screen's keys."""
        if isinstance(splits := getattr(self.screen, "splits", None), list):
            splits.append(self)
        if self._share:
            self._lay(self._share, 1 - self._share)

    def on_resize(self) -> None:
        """Both panes keep their least."""
        if self._share and self._total >= sum(self._least):
            self._put(round(self._share * self._total))

    def on_mouse_down(self, event: MouseDown) -> None:
        """Take hold of the border."""
        if event.button == 1 and self._is_border(event):
            event.stop()
            self.screen.clear_selection()
            self.capture_mouse()
            self._dragged = True

    def on_mouse_move(self, event: MouseMove) -> None:
        """Take the border along, or show that it can be taken."""
        if self._dragged:
            event.stop()
            at = event.screen_y - self.region.y if self._down else event.screen_x - self.region.x
            self.move(at)
        else:
            self.set_class(self._is_border(event), "-grip")

    def on_mouse_up(self, event: MouseUp) -> None:
        """Let go."""
        if self._dragged:
            event.stop()
            self._let_go()

    def on_mouse_release(self) -> None:
        """Somebody else has the mouse now."""
        self._dragged = False

    def on_leave(self, event: Leave) -> None:
        """The mouse is elsewhere."""
        if not self._dragged:
            self.remove_class("-grip")

    def on_click(self, event: Click) -> None:
        """Twice: the default."""
        if event.chain == 2 and self._is_border(event):
            event.stop()
            self.forget()

    def _let_go(self) -> None:
        self._dragged = False
        self.release_mouse()
        self.remove_class("-grip")

    @property
    def _state(self) -> "SessionState":
        return cast("LocaltuneApp", self.app).state

    @property
    def _share(self) -> float:
        """As it was left; 0 for the default."""
        share = self._state.number(self._key, 0.0)
        return share if 0.01 <= share <= 0.99 else 0.0

    @property
    def _total(self) -> int:
        return self.size.height if self._down else self.size.width

    def _within(self, cells: int) -> int:
        return max(self._least[0], min(cells, self._total - self._least[1]))

    def _put(self, cells: int) -> None:
        self._lay(self._within(cells), self._total - self._within(cells))

    def _lay(self, *weights: float) -> None:
        if self._down:
            self.styles.grid_rows = [f"{weight:.4f}fr" for weight in weights]
        else:
            self.styles.grid_columns = [f"{weight:.4f}fr" for weight in weights]

    def _is_border(self, event: Click | MouseDown | MouseMove) -> bool:
        """Whether the mouse is on the two lines between the panes; below each other, on the lower one's."""
        if not self.divided:
            return False
        if self._down:
            return event.screen_y == self.region.y + self.place
        return event.screen_x - self.region.x - self.place in (-1, 0)
