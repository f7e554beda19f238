"""What every screen has: tabs on top, its own body, the keys below, and a calm sentence when it is too small.

A screen writes `body()` instead of `compose()`, sets `mode` to the name of its tab and, where it has something to say
there, `title_text`. `self.app` is the app with its type.
"""

from typing import TYPE_CHECKING, ClassVar, cast

from textual.app import ComposeResult
from textual.content import Content
from textual.reactive import Reactive, reactive
from textual.screen import Screen
from textual.style import Style
from textual.widget import Widget
from textual.widgets import Static
from textual.worker import Worker

from localtune_tui.footer import Keys
from localtune_tui.text import shown

if TYPE_CHECKING:
    from localtune_tui.app import LocaltuneApp

TABS = {"runs": "Runs", "new": "New", "live": "Live", "chat": "Chat", "export": "Export", "system": "System"}
"""Mode -> what its tab says; the number of a tab is its place."""
TOO_SMALL = "This terminal is too small.\n60 columns and 15 rows are enough.\nWhat runs goes on."


class AppScreen(Screen[None]):
    """One tab of the app, or a view pushed on top of it."""

    mode: ClassVar[str] = ""
    """Of `TABS`; "" for a view that has no tab of its own."""
    HELP: ClassVar[str | None] = None
    """What this screen is for; a focused widget's own HELP is shown before it."""
    AUTO_FOCUS: ClassVar[str | None] = "*"

    focused: Reactive[Widget | None] = Reactive(None, repaint=False)
    """As Textual's, but what gets or loses the focus paints itself: the whole screen need not be painted again."""
    title_text: reactive[str] = reactive("")
    """What stands at the right of the tabs; the machine where it is ""."""

    @property
    def app(self) -> "LocaltuneApp":  # type: ignore[override]
        """The app, with its own type."""
        return cast("LocaltuneApp", super().app)

    def compose(self) -> ComposeResult:
        """The frame around `body()`."""
        yield TopBar(self.mode)
        yield from self.body()
        yield Keys()
        yield Static(Content(TOO_SMALL), id="too-small")

    def body(self) -> ComposeResult:
        """What stands between the tabs and the keys."""
        yield from ()

    def command_of(self, action_id: str) -> str:
        """What could be typed instead of the action called `action_id`, such as `localtune runs ls`; "" for nothing."""
        return ""

    def why_not(self, action_id: str) -> str:
        """Why the action called `action_id` cannot be done now, for one that `check_action` greys out."""
        return ""

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        """Say what went wrong in the background."""
        self.app.say_failure(event)

    def watch_title_text(self) -> None:
        """Paint it."""
        for bar in self.query(TopBar):
            bar.say()


class TopBar(Static):
    """The tabs, which can be clicked, and what the screen or the machine is at their right."""

    can_focus = False

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.mode = mode

    def on_mount(self) -> None:
        """Say it, and again when the machine is known."""
        self.watch(self.app, "machine", self.say, init=False)
        self.say()

    def on_resize(self) -> None:
        """What fits changes with the width."""
        self.say()

    def say(self) -> None:
        """Paint the bar for its width."""
        screen = cast(AppScreen, self.screen)
        given = isinstance(screen, AppScreen) and screen.title_text
        right = shown(given or screen.app.machine, 80)
        wide = self.size.width >= 100
        name = " localtune  " if wide else " localtune " if self.size.width >= 64 else ""
        parts: list[Content] = [Content(name)]
        parts += [self._tab(number, mode, wide) for number, mode in enumerate(TABS, 1)]
        left = Content("").join(parts)
        room = self.size.width - left.cell_length - 2
        if right and room > 6:
            end = Content(right).truncate(room, ellipsis=True)
            left = Content("").join([left, Content(" " * (room - end.cell_length + 1)), end])
        self.update(left, layout=False)

    def _tab(self, number: int, mode: str, wide: bool) -> Content:
        text = f"{number} {TABS[mode]}"
        chosen = mode == self.mode
        label = f"[{text}]" if chosen else f" {text} "
        style = Style.from_meta({"@click": f"app.go('{mode}')"})
        content = Content.styled(f" {label} " if wide else label, style)
        return content.stylize("bold") if chosen else content


def focused_help(screen: Screen[object]) -> list[tuple[str, str]]:
    """(Title, text) of every HELP from the focused widget outwards, the screen's last."""
    node: Widget | None = screen.focused
    found: list[tuple[str, str]] = []
    while node is not None and node is not screen:
        if "HELP" in type(node).__dict__ and node.HELP:
            found.append((shown(node.border_title or type(node).__name__, 60), node.HELP))
        node = node.parent if isinstance(node.parent, Widget) else None
    if screen.HELP:
        found.append((screen.TITLE or type(screen).__name__.removesuffix("Screen"), screen.HELP))
    return found
