"""A dialog to find one of many by a few letters: what is typed narrows a list, the arrows go through it.

What is found and in which order is for who inherits to say, in a thread: nothing is looked up on the event loop.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.timer import Timer
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option
from textual.worker import get_current_worker

from localtune_tui.modals.confirm import Dialog
from localtune_tui.text import plain
from localtune_tui.widgets.line import Line

MOST = 200
"""Lines that are shown; typing narrows them."""
_PAUSE = 0.05
"""Seconds without a key before a list is made."""


@dataclass(frozen=True)
class Entry:
    """Something that can be picked."""

    value: str
    """What the dialog comes back with."""
    label: str
    note: str = ""
    """At the right, such as its size."""


class Pick(Dialog[str]):
    """Comes back with the value of an entry or with what was typed, or None."""

    HELP = "Type a few letters of what you look for. Up and Down choose, Enter takes it, Escape closes the dialog."
    DEFAULT_CSS = """
    Pick .dialog { width: 96; height: 80%; }
    Pick OptionList { height: 1fr; border: none; background: transparent; padding: 0; }
    Pick #said { height: auto; max-height: 3; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down", "down", "Next", show=False, id="pick.down", priority=True, tooltip="The next line."),
        Binding("up", "up", "Before", show=False, id="pick.up", priority=True, tooltip="The line before."),
    ]
    question = "Pick one"
    placeholder = "type to find"

    def __init__(self, typed: str = "") -> None:
        super().__init__()
        self._typed = typed
        self._timer: Timer | None = None
        self._looking: str | None = None
        """The text a list is being made for."""
        self._shown: str | None = None
        """The text that `entries` belong to."""
        self._whole = False
        """Whether they are all there is for it."""
        self._entered = self._moved = False
        """Whether Enter waits for the list; whether an arrow was pressed since something was typed."""
        self.entries: Sequence[Entry] = ()

    def body(self) -> ComposeResult:
        """Question, what is typed, the list, and what there is to say of it."""
        yield Static(plain(self.question).stylize("bold"))
        yield Line(self._typed, placeholder=self.placeholder, compact=True)
        yield OptionList(markup=False, compact=True)
        yield Static("", id="said", classes="quiet")

    def on_mount(self) -> None:
        """Look at once."""
        self.query_one(Input).focus()
        self._look()

    def found(self, typed: str, gone: Callable[[], bool]) -> Sequence[Entry]:
        """What there is for `typed`, best first; called in a thread. `gone` says that nobody waits any more."""
        raise NotImplementedError

    def show_first(self, typed: str, entries: Sequence[Entry]) -> None:
        """Show these of `typed` while the rest is looked for; from the thread of `found`."""
        self.app.call_from_thread(self._show, typed, entries, whole=False)

    def taken(self, typed: str) -> str | None:
        """What Enter takes where no line fits; None for nothing."""
        return typed or None

    def say(self, text: str) -> None:
        """A sentence below the list; from any thread."""
        self.app.call_later(self._say, text)

    def on_input_changed(self, event: Input.Changed) -> None:
        """Look again, once the hand rests."""
        self._entered = self._moved = False
        if self._timer is not None:
            self._timer.stop()
        self._timer = self.set_timer(_PAUSE, self._look)

    def action_down(self) -> None:
        """The next line."""
        self._moved = True
        self.query_one(OptionList).action_cursor_down()

    def action_up(self) -> None:
        """The line before."""
        self._moved = True
        self.query_one(OptionList).action_cursor_up()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Take the line that is marked, else what is typed; wait where the list is not yet that of what is typed."""
        event.stop()
        if self._shown == event.value and (self._whole or self._moved):
            self.take(self._marked() or self.taken(event.value))
        elif named := self._named(event.value):
            self.take(named)
        else:
            self._entered = not self._moved
            self._look()
            self.say(f"looking for {event.value}: Enter is heeded once that is found …")

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """A line was clicked."""
        self.take(self.entries[event.option_index].value)

    def take(self, value: str | None) -> None:
        """Come back with `value`, if there is one."""
        if value:
            self.dismiss(value)

    def _look(self) -> None:
        """Make the list for what is typed, unless that is under way."""
        if self._timer is not None:
            self._timer.stop()
        typed = self.query_one(Input).value
        if typed != self._looking:
            self._looking = typed
            self._find(typed)

    @work(thread=True, exclusive=True, exit_on_error=False, group="pick")
    def _find(self, typed: str) -> None:
        worker = get_current_worker()
        entries = self.found(typed, lambda: worker.is_cancelled)
        if not worker.is_cancelled:
            self.app.call_from_thread(self._show, typed, entries, whole=True)

    def _say(self, text: str) -> None:
        for said in self.query("#said").results(Static):  # none is left in a dialog that was closed meanwhile
            said.update(plain(text))

    def _show(self, typed: str, entries: Sequence[Entry], *, whole: bool) -> None:
        if not any(line.value == typed for line in self.query(Input)) or not self.query(OptionList):
            return
        marked = self._marked() if self._moved else None
        self.entries = entries[:MOST]
        lines = self.query_one(OptionList)
        width = max(20, lines.size.width - 2)
        lines.clear_options().add_options([Option(_line(entry, width)) for entry in self.entries])
        if self.entries:
            lines.highlighted = next((at for at, entry in enumerate(self.entries) if entry.value == marked), 0)
        self._shown, self._whole = typed, whole
        if whole:
            self._looking = None
            if self._entered:
                self._entered = False
                self.take(self._named(typed) or self._marked() or self.taken(typed))

    def _marked(self) -> str | None:
        at = self.query_one(OptionList).highlighted
        return self.entries[at].value if at is not None else None

    def _named(self, typed: str) -> str | None:
        """The entry that is called exactly what is typed, where there is one."""
        wanted = typed.strip()
        return next((entry.value for entry in self.entries if wanted and wanted in (entry.value, entry.label)), None)


def fits(typed: str, text: str) -> int | None:
    """How well `typed` fits `text`, less is better; None where its letters are not all there in their order.

    As a part it fits best: the beginning of a word, then any place; else the letters with the gaps between them.
    """
    wanted, inside = typed.casefold(), text.casefold()
    at = inside.find(wanted)
    if at >= 0:
        return (0 if at == 0 or not inside[at - 1].isalnum() else 100) + len(inside) - len(wanted)
    place, gaps = -1, 0
    for letter in wanted:
        after = inside.find(letter, place + 1)
        if after < 0:
            return None
        gaps += after - place - 1
        place = after
    return 1000 + gaps


def _line(entry: Entry, width: int) -> Content:
    label, note = plain(entry.label, 400), plain(entry.note, 60)
    room = max(8, width - note.cell_length - 2)
    left = label.truncate(room, ellipsis=True)
    return Content("").join([left, Content(" " * (width - left.cell_length - note.cell_length)), note])
