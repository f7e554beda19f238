"""A line that is edited: it holds what was typed, pasted or given as it is, and paints none of it raw."""

from rich.text import Text
from textual.widgets import Input

from localtune_tui.text import sign_for_sign


class Line(Input):
    """Textual's, but no character of its value steers the terminal."""

    @property
    def _value(self) -> Text:
        return Text(sign_for_sign(self.value), no_wrap=True, overflow="ignore", end="")
