"""Lines that are ticked with the space bar; one that cannot be has its reason beside it."""

from collections.abc import Collection, Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from localtune_tui.exporting import Choice
from localtune_tui.text import shown


class Checks(OptionList):
    """Choices, each ticked or not."""

    DEFAULT_CSS = "Checks { background: transparent; scrollbar-size: 1 1; text-wrap: nowrap; text-overflow: ellipsis; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space,enter", "tick", "Tick", id="checks.tick", tooltip="Choose this line, or no longer."),
    ]

    class Changed(Message):
        """A line was ticked or not, or another is looked at."""

    def __init__(self, id: str) -> None:  # noqa: A002
        super().__init__(id=id, classes="box", markup=False, compact=True)
        self.choices: Sequence[Choice] = ()
        self.chosen: set[str] = set()

    @property
    def looked_at(self) -> Choice | None:
        """The marked line."""
        at = self.highlighted
        return self.choices[at] if at is not None and at < len(self.choices) else None

    def show(self, choices: Sequence[Choice], chosen: Collection[str]) -> None:
        """Show these lines; of `chosen` those that can be."""
        at = self.highlighted
        self.choices = choices
        self.chosen = {one.key for one in choices if one.key in chosen and not one.why_not}
        self.clear_options().add_options([Option(self._line(one)) for one in choices])
        if choices:
            self.highlighted = min(at or 0, len(choices) - 1)

    def action_tick(self) -> None:
        """Turn the marked line."""
        one = self.looked_at
        if one is None or one.why_not:
            self.post_message(self.Changed())
            return
        self.chosen ^= {one.key}
        self.replace_option_prompt_at_index(self.highlighted or 0, self._line(one))
        self.post_message(self.Changed())

    def on_option_list_option_highlighted(self) -> None:
        """Somebody says more about the marked line."""
        self.post_message(self.Changed())

    def _line(self, one: Choice) -> Content:
        mark = "-" if one.why_not else "x" if one.key in self.chosen else " "
        wide = max(len(each.size) for each in self.choices)
        size = f"{one.size:<{wide}}  " if wide else ""
        width = max(len(each.label) for each in self.choices)
        text = shown(f"[{mark}] {one.label:<{width}}  {size}{one.why_not or one.note}", 200)
        return Content.styled(text, "dim") if one.why_not else Content(text)
