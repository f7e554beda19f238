"""What is painted first, for as long as it takes to look for runs."""

from textual.app import ComposeResult
from textual.content import Content
from textual.widgets import Static

from localtune_tui.screens.base import AppScreen


class OpeningScreen(AppScreen):
    """The frame, and a sentence."""

    AUTO_FOCUS = None

    def body(self) -> ComposeResult:
        """The sentence."""
        yield Static(Content("looking for runs …"), classes="quiet")
