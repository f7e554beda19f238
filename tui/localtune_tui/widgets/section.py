"""A part of a form that opens and closes; its lines are made when it is first opened."""

from collections.abc import Mapping
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget
from textual.widgets import Static

from localtune.recipe.words import sections
from localtune_tui.forms import FormField, summary
from localtune_tui.text import shown
from localtune_tui.widgets.field import Field


class SectionHead(Static, can_focus=True):
    """The line that opens a section and, while it is closed, says what is in it."""

    HELP = "Space or Enter opens and closes this group of settings; it says what is not at its default first."
    DEFAULT_CSS = """
    SectionHead { height: 1; text-wrap: nowrap; text-overflow: ellipsis; }
    SectionHead:focus { text-style: bold reverse; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space,enter", "open_or_close", "Open or close", show=False, id="section.toggle",
                tooltip="Open or close this group of settings."),
        Binding("down", "cursor_down", "Line below", show=False, id="section.down", tooltip="The line below."),
        Binding("up", "cursor_up", "Line above", show=False, id="section.up", tooltip="The line above."),
    ]  # fmt: skip

    def action_open_or_close(self) -> None:
        """Open or close."""
        section = self.parent
        if isinstance(section, Section):
            section.open = not section.open

    def action_cursor_down(self) -> None:
        """The line below."""
        self.screen.focus_next()

    def action_cursor_up(self) -> None:
        """The line above."""
        self.screen.focus_previous()

    def on_click(self) -> None:
        """As the space bar."""
        self.action_open_or_close()


class Section(Widget):
    """One group of a recipe's settings."""

    DEFAULT_CSS = """
    Section { height: auto; }
    Section > .fields { height: auto; layout: grid; grid-size: 2; grid-rows: 1; grid-gutter: 0 2; padding: 0 0 0 2; display: none; }
    Section.-open > .fields { display: block; layout: grid; }
    .-narrow Section > .fields { grid-size: 1; }
    """  # noqa: E501

    open: reactive[bool] = reactive(False)

    def __init__(self, name: str, fields: tuple[FormField, ...]) -> None:
        super().__init__(id=f"section-{name}")
        self._group, self._fields = name, fields
        self._values: Mapping[str, str] = {}

    @property
    def sentence(self) -> str:
        """What the group is for."""
        return f"{self._group}: {sections().get(self._group, 'what everything else hangs on.')}"

    def compose(self) -> ComposeResult:
        """Head and, later, lines."""
        yield SectionHead()
        yield Container(classes="fields")

    def on_mount(self) -> None:
        """Say what is in it."""
        self._say()

    def put(self, values: Mapping[str, str]) -> None:
        """Show these values: dotted key -> YAML text."""
        self._values = values
        for field in self.query(Field):
            field.put(values.get(field.key, field.value))
            field.note = self._note(field.key)
        self._say()

    def watch_open(self, is_open: bool) -> None:
        """Make the lines when they are first wanted."""
        self.set_class(is_open, "-open")
        lines = self.query_one(".fields", Container) if self.is_mounted else None
        if is_open and lines is not None and not lines.children:
            lines.mount(*(self._line(field) for field in self._fields))
        self._say()

    def _line(self, field: FormField) -> Field:
        value = self._values.get(field.key, field.default)
        line = Field(
            field.key, field.label, field.kind, choices=field.choices, value=value, sentence=field.help, width=16
        )
        line.note = self._note(field.key)
        return line

    def _note(self, key: str) -> str:
        default = next((field.default for field in self._fields if field.key == key), "")
        return "" if self._values.get(key, default) == default else "*"

    def _say(self) -> None:
        if not self.is_mounted:
            return
        is_ascii = getattr(self.app, "ascii", False)
        mark = ("v" if self.open else ">") if is_ascii else ("▾" if self.open else "▸")
        inside = "" if self.open else summary(self._fields, self._values)
        self.query_one(SectionHead).update(Content(f"{mark} {self._group:<7} {shown(inside, 200)}"), layout=False)
