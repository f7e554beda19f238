"""The keys at the bottom: as many as fit in the screen's order; help and palette always. All of them are in help."""

from collections.abc import Iterable

from textual.app import ComposeResult
from textual.events import Resize
from textual.widget import Widget
from textual.widgets import Footer
from textual.widgets._footer import FooterKey

from localtune_tui.keys import SPELLED

NARROW = 100
"""Columns below which the palette is only a key."""


class Keys(Footer):
    """Textual's footer, without what would be cut."""

    def __init__(self) -> None:
        super().__init__(compact=True)
        self._width = 0
        self._shown: object = None

    def compose(self) -> ComposeResult:
        """What fits."""
        keys = list(super().compose())
        self._shown = self._wanted() if keys else None
        if getattr(self.app, "ascii", False):
            for key in keys:
                if isinstance(key, FooterKey):
                    key.key_display = SPELLED.get(key.key_display, key.key_display)
        yield from _fitting(keys, self.app.size.width)

    async def recompose(self) -> None:
        """Again, where other keys are to be shown: a new footer costs more than most of what a key does."""
        if self.is_attached and self._wanted() != self._shown:  # a view may have been left meanwhile
            await super().recompose()

    def _wanted(self) -> object:
        """All that the footer is made of."""
        bound = [(each.binding, each.enabled) for each in self.screen.active_bindings.values() if each.binding.show]
        return self.app.size.width, bound

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
