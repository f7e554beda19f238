"""The line where one types what to ask."""

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.widgets import Input


class ChatLine(Input):
    """One line; what is not a letter is the screen's."""

    HELP = (
        "Type and press Enter. While the line is empty, + keeps the last answer as good and - as bad; a text that "
        "begins with either is typed after a blank. Escape ends an answer, or leaves the line for the panes."
    )
    DEFAULT_CSS = "ChatLine { height: 1; border: none; padding: 0; background: transparent; width: 1fr; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "submit", "Send", id="chat.send", tooltip="Ask base and tuned model, or the one there is."),
        Binding("tab", "screen.compare", "Compare", id="chat.compare", tooltip="Base beside tuned, or tuned alone."),
        Binding("plus", "rate(True)", "Good", id="chat.good", priority=True,
                tooltip="Keep the last answer as a good one: a row to test or train with."),
        Binding("minus", "rate(False)", "Bad", id="chat.bad", priority=True,
                tooltip="Keep the last answer as a bad one."),
        Binding("pageup", "screen.page(-1)", "Page up", show=False, id="chat.page_up", tooltip="Scroll both panes up."),
        Binding("pagedown", "screen.page(1)", "Page down", show=False, id="chat.page_down",
                tooltip="Scroll both panes down."),
    ]  # fmt: skip

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Signs rate while the line is empty; else they are typed."""
        return not self.value if action == "rate" else super().check_action(action, parameters)

    def check_consume_key(self, key: str, character: str | None) -> bool:
        """What is typed; the screen does the rest."""
        return super().check_consume_key(key, character) and not (key in ("plus", "minus") and not self.value)

    async def action_rate(self, good: bool) -> None:
        """Keep the last answer, or not."""
        await self.run_action(f"screen.rate({good})")
