"""One line of a form: a name and a value that is typed, chosen or switched.

A line has the focus as a whole, so that plain keys stay free for the screen; Enter begins typing, and Enter, Escape or
an arrow ends it. A choice or switch changes at once, with the arrows or the space bar. What is typed is told as it is
typed.
"""

from typing import ClassVar, Literal

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.events import Click
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget
from textual.widgets import Input, Static

from localtune_tui.text import shown
from localtune_tui.widgets.line import Line

Kind = Literal["text", "choice", "switch", "pick"]
"""pick: like text, but Enter asks the screen for it (`Field.Wanted`)."""


class Field(Widget, can_focus=True):
    """A line "name  value"."""

    HELP = (
        "Arrows go from line to line, Enter types a value, Left and Right or Space change a choice, Escape leaves it."
    )
    DEFAULT_CSS = """
    Field { height: 1; width: 1fr; layout: horizontal; }
    Field > .line { width: 1fr; height: 1; text-wrap: nowrap; text-overflow: ellipsis; }
    Field > Input { display: none; width: 1fr; }
    Field.-typing > Input { display: block; }
    Field.-typing > .line { width: auto; }
    Field:focus > .line { text-style: bold reverse; }
    Field.-wrong > .line { color: $bad; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "begin", "Change", show=False, id="field.change", tooltip="Type, pick or switch this value."),
        Binding("space", "next", "Next value", show=False, id="field.next", tooltip="The next value of a choice."),
        Binding("right", "cursor_right", "Value after", show=False, id="field.right", tooltip="The next value."),
        Binding("left", "cursor_left", "Value before", show=False, id="field.left", tooltip="The value before."),
        Binding("down", "cursor_down", "Line below", show=False, id="field.down", tooltip="The line below."),
        Binding("up", "cursor_up", "Line above", show=False, id="field.up", tooltip="The line above."),
        Binding("escape", "cancel", "As it was", show=False, id="field.cancel", tooltip="Leave the value as it was."),
        Binding("backspace,delete", "untouch", "As it was given", show=False, id="field.untouch",
                tooltip="Back to the preset's, the recipe's or the default value."),
    ]  # fmt: skip

    value: reactive[str] = reactive("")
    """As it is shown and told."""
    note: reactive[str] = reactive("")
    """What stands at the right, such as a tick."""

    class Changed(Message):
        """A value was typed, chosen or switched."""

        def __init__(self, field: "Field", value: str | None) -> None:
            super().__init__()
            self.field = field
            self.value = value
            """None: back to what it would be untouched."""

        @property
        def control(self) -> "Field":
            """The line."""
            return self.field

    class Wanted(Message):
        """Enter on a line whose value is picked."""

        def __init__(self, field: "Field") -> None:
            super().__init__()
            self.field = field

    def __init__(
        self,
        key: str,
        label: str,
        kind: Kind = "text",
        *,
        choices: tuple[str, ...] = (),
        value: str = "",
        sentence: str = "",
        width: int = 10,
    ) -> None:
        super().__init__(id=f"field-{key.replace('.', '-')}")
        self.key, self.label, self.kind = key, label, kind
        self.choices = ("true", "false") if kind == "switch" else choices
        self.sentence = sentence
        """What the screen says while this line has the focus."""
        self._width = width
        self._before = ""
        self.set_reactive(Field.value, value)

    def compose(self) -> ComposeResult:
        """The line, and what is typed into while it is."""
        yield Static(classes="line")
        yield Line(compact=True, select_on_focus=False)

    @property
    def typing(self) -> bool:
        """Whether it is being typed into."""
        return self.has_class("-typing")

    def on_mount(self) -> None:
        """Paint it."""
        self._paint()

    def watch_value(self) -> None:
        """Paint it."""
        self._paint()

    def watch_note(self) -> None:
        """Paint it."""
        self._paint()

    def on_resize(self) -> None:
        """A choice shows as many of its values as fit."""
        self._paint()

    def put(self, value: str) -> None:
        """Show `value`, unless somebody is typing another one."""
        if not self.typing:
            self.value = value

    def action_begin(self) -> None:
        """Type, or take the next value."""
        if self.kind == "pick":
            self.post_message(self.Wanted(self))
        elif self.kind == "text":
            self.type_from(self.value)
        else:
            self.action_next()

    def type_from(self, text: str) -> None:
        """Begin typing with `text` already there."""
        self._before = self.value
        self.add_class("-typing")
        self._paint()
        field = self.query_one(Input)
        with field.prevent(Input.Changed):
            field.value = text
        field.cursor_position = len(text)
        field.focus()

    def action_next(self) -> None:
        """The next value of a choice, the first after the last."""
        self._step(1)

    def action_cursor_right(self) -> None:
        """As `action_next`."""
        self._step(1)

    def action_cursor_left(self) -> None:
        """The value before."""
        self._step(-1)

    def action_cursor_down(self) -> None:
        """The line below."""
        self.screen.focus_next()

    def action_cursor_up(self) -> None:
        """The line above."""
        self.screen.focus_previous()

    def action_untouch(self) -> None:
        """Back to the value it has by itself."""
        self.post_message(self.Changed(self, None))

    def action_cancel(self) -> None:
        """Leave typing, with the value from before."""
        if self.typing:
            self._end(self._before)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Escape is the screen's unless something is being typed, the arrows are no choice's while it is."""
        if action == "cancel":
            return self.typing
        if action in ("next", "cursor_left", "cursor_right"):
            return self.kind in ("choice", "switch")
        return action != "untouch" or not self.typing

    def on_input_changed(self, event: Input.Changed) -> None:
        """Tell what is typed."""
        event.stop()
        if self.typing:
            self._tell(event.value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Typing is over."""
        event.stop()
        self._end(event.value)

    def on_input_blurred(self, event: Input.Blurred) -> None:
        """Going elsewhere ends typing, too."""
        event.stop()
        if self.typing:
            self._end(event.value, stay=False)

    def on_click(self, event: Click) -> None:
        """Take what was clicked."""
        if self.typing:
            return
        self.focus()
        chosen = self._choice_at(event.get_content_offset(self)) if self.kind == "choice" else None
        if chosen is not None:
            self._tell(chosen)
        else:
            self.action_begin()

    def _end(self, value: str, *, stay: bool = True) -> None:
        self.remove_class("-typing")
        if value != self.value:
            self._tell(value)
        self._paint()
        if stay:
            self.focus()

    def _tell(self, value: str) -> None:
        self.value = value
        self.post_message(self.Changed(self, value))

    def _step(self, by: int) -> None:
        if self.choices:
            at = self.choices.index(self.value) if self.value in self.choices else -1 if by > 0 else 0
            self._tell(self.choices[(at + by) % len(self.choices)])

    def _paint(self) -> None:
        if not self.is_mounted:
            return
        name = f"{shown(self.label, self._width + 8):<{self._width}} "
        body = "" if self.typing else self._body(self.size.width - len(name) - (len(self.note) + 1 if self.note else 0))
        line = Content(name + body)
        if self.note and not self.typing:
            gap = self.size.width - line.cell_length - len(self.note) - 1
            line = Content(f"{line.plain}{' ' * max(1, gap)}{shown(self.note, 40)}")
        self.query_one(".line", Static).update(line, layout=False)

    def _body(self, room: int) -> str:
        if self.kind == "switch":
            return "[x]" if self.value == "true" else "[ ]"
        if self.kind != "choice":
            return shown(self.value, max(8, room)) or "…"
        whole = self._options(room)
        if whole:
            return whole
        at = self.choices.index(self.value) + 1 if self.value in self.choices else 0
        return f"< {shown(self.value, 40)} >  {at} of {len(self.choices)}"

    def _options(self, room: int) -> str:
        """All of them side by side; empty where they do not fit."""
        texts = [self._option(choice) for choice in self.choices]
        return next((whole for gap in ("  ", " ") if len(whole := gap.join(texts)) <= room), "")

    def _option(self, choice: str) -> str:
        mark = "*" if getattr(self.app, "ascii", False) else "•"
        return f"({mark if choice == self.value else ' '}) {choice}"

    def _choice_at(self, offset: object) -> str | None:
        """The choice that is painted at `offset`; None for beside them."""
        start = max(self._width, len(self.label)) + 1
        painted = self._options(self.size.width - start - (len(self.note) + 1 if self.note else 0))
        x, at = getattr(offset, "x", -1) - start, 0
        for choice in self.choices if painted else ():
            begins = painted.index(self._option(choice), at)
            at = begins + len(self._option(choice))
            if begins <= x < at:
                return choice
        return None
