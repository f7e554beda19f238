"""The keys at the bottom: as many as fit in the screen's order; help and palette always. All of them are in help."""

from collections.abc import Iterable

from textual.app import ComposeResult
from textual.events import Resize
from textual.widget import Widget
from textual.widgets import Footer
from textual.widgets._footer import FooterKey

NARROW = 100
"""Columns below which the palette is only a key."""


class Keys(Footer):
    """Textual's footer, without what would be cut."""

    def __init__(self) -> None:
        super().__init__(compact=True)
        self._width = 0

    def compose(self) -> ComposeResult:
        """What fits."""
        yield from _fitting(list(super().compose()), self.app.size.width)

    def on_resize(self, event: Resize) -> None:
        """Another width, other keys."""
        if event.size.width != self._width:
            self._width = event.size.width
            self.call_after_refresh(self.recompose)


def _fitting(keys: Iterable[Widget], width: int) -> Iterable[Widget]:
    shown = [key for key in keys if isinstance(key, FooterKey)]
    for key in shown:
        if key.has_class("-command-palette") and width < NARROW:
            key.description = ""
    always = [key for key in shown if key.has_class("-command-palette") or key.action in ("help", "app.help")]
    room = width - sum(map(_cells, always))
    for key in shown:
        if key not in always:
            room -= _cells(key)
        if key in always or room >= 0:
            yield key


def _cells(key: FooterKey) -> int:
    """Key, description, and a blank behind each; the palette has an edge as well."""
    edge = 2 if key.has_class("-command-palette") else 0
    return len(key.key_display) + len(key.description) + 2 + edge
