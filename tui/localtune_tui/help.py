"""Help for the focused pane: what it is, then its keys, the screen's and the ones that hold everywhere."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Static

from localtune_tui.keys import Action, actions
from localtune_tui.modals.confirm import Dialog
from localtune_tui.screens.base import AppScreen, focused_help
from localtune_tui.text import shown


class Help(Dialog[None]):
    """What can be done where the focus was when it was asked for."""

    DEFAULT_CSS = """
    Help .dialog { width: 100; }
    Help VerticalScroll { height: auto; max-height: 100%; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("question_mark,f1,q", "leave", "Close", id="help.close", tooltip="Back to where you were."),
    ]

    def __init__(self, about: Screen[object]) -> None:
        super().__init__()
        self.said = help_text(about)

    def body(self) -> ComposeResult:
        """The text, which scrolls."""
        with VerticalScroll():
            yield Static(self.said, id="help-text")


def help_text(screen: Screen[object]) -> Content:
    """Everything that help says about `screen` as it is now."""
    parts: list[Content] = []
    for title, text in focused_help(screen):
        parts += [Content.styled(title, "bold"), Content(shown(text, 2000, keep_lines=True)), Content("")]
    found = actions(screen)
    width = max((len(" ".join(action.keys)) for action in found), default=0)
    for title, wanted in _groups(screen, found):
        parts += [Content.styled(title, "bold"), *(_line(screen, action, width) for action in wanted), Content("")]
    parts.append(Content("Keys can be changed by the names at the right, in keys.yaml beside config.yaml."))
    return Content("\n").join(parts)


def _groups(screen: Screen[object], found: list[Action]) -> list[tuple[str, list[Action]]]:
    named: dict[str, list[Action]] = {"Here": [], "On this screen": [], "Everywhere": []}
    for action in found:
        place = "Everywhere" if action.node is screen.app else "On this screen"
        named["Here" if action.node is screen.focused else place].append(action)
    return [(title, group) for title, group in named.items() if group]


def _line(screen: Screen[object], action: Action, width: int) -> Content:
    typed = screen.command_of(action.id) if isinstance(screen, AppScreen) else ""
    said = f"{' '.join(action.keys):<{width}}  {action.help or action.description}"
    typed = f"  $ {typed}" if typed else ""
    return Content.assemble(shown(said, 200), (shown(typed, 120), "bold"), (f"  {action.id}", "dim"))
