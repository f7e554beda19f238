"""Which repository of the hub files are sent to: asked before every export that sends some."""

import re

from textual.app import ComposeResult
from textual.content import Content
from textual.widgets import Input, Static

from localtune_tui.modals.confirm import Dialog
from localtune_tui.text import plain
from localtune_tui.widgets.line import Line

_NAME = re.compile(r"[\w.-]+/[\w.-]+")


class AskRepository(Dialog[str]):
    """Comes back with OWNER/NAME, or None."""

    HELP = "Type OWNER/NAME and press Enter; it is made private where it is not there. Escape sends and makes nothing."

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def body(self) -> ComposeResult:
        """Question and line."""
        yield Static(plain(f"Send {self._name} to which repository of the hub?").stylize("bold"))
        yield Static(Content("It is made private where it is not there. Rows of your data are never sent."))
        yield Line(placeholder="OWNER/NAME", compact=True)
        yield Static("", id="wrong", classes="bad")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Take a name that is one."""
        event.stop()
        text = event.value.strip()
        if _NAME.fullmatch(text):
            self.dismiss(text)
        else:
            self.query_one("#wrong", Static).update(Content("a name such as you/support-bot"))
