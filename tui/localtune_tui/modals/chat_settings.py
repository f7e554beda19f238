"""How answers are drawn: temperature, seed, the longest answer and the system text, in one dialog."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.widgets import Input, Static

from localtune_tui.modals.confirm import Dialog
from localtune_tui.talk import Wishes
from localtune_tui.text import plain
from localtune_tui.widgets.line import Line

LINES = {
    "temperature": "temperature   0 = the likeliest word each time",
    "seed": "seed          of what is drawn, the same for both",
    "max_tokens": "most tokens   of one answer",
    "system": "system text   before everything else; empty = none",
}
"""Name -> what stands before its line."""


class ChatSettings(Dialog[Wishes]):
    """Comes back with `Wishes`, or None."""

    HELP = "Tab goes to the next line, Enter takes all of them, Escape leaves everything as it was."
    DEFAULT_CSS = """
    ChatSettings .line { height: 1; }
    ChatSettings .line Static { width: 54; }
    ChatSettings .line Input { width: 1fr; }
    ChatSettings .dialog { width: 92; }
    .-narrow ChatSettings .line Static { width: 44; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down", "app.focus_next", "Line below", show=False, id="wishes.down", tooltip="The next line."),
        Binding("up", "app.focus_previous", "Line above", show=False, id="wishes.up", tooltip="The line before."),
    ]

    def __init__(self, wishes: Wishes, *, template: bool) -> None:
        super().__init__()
        self._wishes, self._template = wishes, template

    def body(self) -> ComposeResult:
        """A line for each, and what is wrong with one below."""
        yield Static(Content("How answers are drawn").stylize("bold"))
        for name, label in LINES.items():
            with Horizontal(classes="line"):
                yield Static(Content(label))
                value = getattr(self._wishes, name)
                text = f"{value:g}" if name == "temperature" else str(value)
                yield Line(text, id=f"wish-{name}", compact=True, disabled=name == "system" and not self._template)
        yield Static("", id="wrong", classes="bad")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Take all of it, or say what is wrong."""
        event.stop()
        try:
            self.dismiss(self._read())
        except ValueError as wrong:
            self.query_one("#wrong", Static).update(plain(str(wrong)))

    def _read(self) -> Wishes:
        """What is typed. Raises `ValueError` with a sentence."""
        temperature = _number(self._typed("temperature"), "temperature", 100)
        seed = _number(self._typed("seed"), "seed", 2**63 - 1, whole=True)
        most = _number(self._typed("max_tokens"), "most tokens", 2**31 - 1, least=1, whole=True)
        return Wishes(temperature, int(seed), int(most), self._typed("system"))

    def _typed(self, name: str) -> str:
        return self.query_one(f"#wish-{name}", Input).value.strip()


def _number(text: str, name: str, most: float, *, least: float = 0, whole: bool = False) -> float:
    try:
        value = int(text) if whole else float(text)
    except ValueError:
        value = -1
    if not least <= value <= most:
        kind = "a whole number" if whole else "a number"
        raise ValueError(f"{name}: {text or 'nothing'} is not {kind} from {least:g}")
    return value
