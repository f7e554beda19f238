"""A screen with panes whose border can be moved, by the mouse (`Split`) or by two keys."""

from typing import ClassVar

from textual.binding import Binding, BindingType

from localtune_tui.screens.base import AppScreen
from localtune_tui.widgets.split import STEP, Split


class DividedScreen(AppScreen):
    """Its keys move the border wherever the focus is."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("less_than_sign,ctrl+left", f"divide({-STEP})", "First pane smaller", show=False, id="split.smaller",
                tooltip="Move the border between two panes left or up; the mouse drags it, a double click resets it."),
        Binding("greater_than_sign,ctrl+right", f"divide({STEP})", "First pane larger", show=False, id="split.larger",
                tooltip="Move the border between two panes right or down."),
    ]  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.splits: list[Split] = []
        """What can be moved; each adds itself. Asked for with every key, so it is not searched for."""

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys for a border that can be moved."""
        if action == "divide":
            return any(split.divided for split in self.splits)
        return super().check_action(action, parameters)

    def action_divide(self, by: int) -> None:
        """Move it by so many cells."""
        for split in self.splits:
            split.move(split.place + by)
