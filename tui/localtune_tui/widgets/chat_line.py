"""The line where one types what to ask."""

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.events import Key

from localtune_tui.widgets.line import Line

SIGNS = ("plus", "minus", "question_mark")
"""Keys that rate or help while the line is empty, and are typed otherwise."""


class ChatLine(Line):
    """One line; what is not a letter is the screen's."""

    HELP = (
        "Type and press Enter. While the line is empty, + keeps the last answer as good and - as bad; a text that "
        "begins with either is typed after a blank. Escape ends an answer, or leaves the line for the panes."
    )
    DEFAULT_CSS = "ChatLine { height: 1; border: none; padding: 0; background: transparent; width: 1fr; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "submit", "Send", id="chat.send", tooltip="Ask base and tuned model, or the one there is."),
        Binding("escape", "screen.panes", "Panes", id="chat.panes",
                tooltip="Leave the line for the panes: there, letters and figures are keys."),
        Binding("tab", "screen.compare", "Compare", id="chat.compare", tooltip="Base beside tuned, or tuned alone."),
        Binding("plus", "screen.rate(True)", "Good", id="chat.good",
                tooltip="Keep the last answer as a good one: a row to test or train with."),
        Binding("minus", "screen.rate(False)", "Bad", id="chat.bad",
                tooltip="Keep the last answer as a bad one."),
        Binding("pageup", "screen.page(-1)", "Page up", show=False, id="chat.page_up", tooltip="Scroll both panes up."),
        Binding("pagedown", "screen.page(1)", "Page down", show=False, id="chat.page_down",
                tooltip="Scroll both panes down."),
    ]  # fmt: skip

    def check_consume_key(self, key: str, character: str | None) -> bool:
        """What is typed; everything else is for keys."""
        return super().check_consume_key(key, character) and not self._is_sign(key)

    def watch_value(self, before: str, after: str) -> None:
        """The keys below change with the first letter."""
        if bool(before) != bool(after) and self.is_attached:
            self.screen.refresh_bindings()

    def on_key(self, event: Key) -> None:
        """Let a sign pass to the keys."""
        if self._is_sign(event.key):
            event.prevent_default()

    def _is_sign(self, key: str) -> bool:
        return key in SIGNS and not self.value
