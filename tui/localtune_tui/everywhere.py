"""The keys that hold on every screen, and the commands that could be typed instead of them."""

from textual.binding import Binding

from localtune_tui.screens.base import TABS

EVERYWHERE = (
    *(
        Binding(str(number), f"go('{mode}')", name, show=False, id=f"app.{mode}", tooltip=f"Go to {name}.")
        for number, (mode, name) in enumerate(TABS.items(), 1)
    ),
    Binding("question_mark,f1", "help", "Help", id="app.help", tooltip="Help for the pane that has the focus."),
    Binding("ctrl+p", "command_palette", "Commands", show=False, id="app.palette", priority=True,
            tooltip="Every action, with its key and the command that does the same."),
    Binding("escape", "back", "Back", show=False, id="app.back", tooltip="Out of this view, to its tab."),
    Binding("minus", "previous", "Screen before", show=False, id="app.previous", tooltip="The screen before this one."),
    Binding("f2", "theme", "Colours", show=False, id="app.theme", tooltip="The next set of colours."),
    Binding("f3", "go('first')", "Welcome", show=False, id="app.first",
            tooltip="What was found on this machine, and three ways to begin."),
    Binding("j", "move('down')", "Down", show=False, id="move.down", tooltip="Down, as the arrow."),
    Binding("k", "move('up')", "Up", show=False, id="move.up", tooltip="Up, as the arrow."),
    Binding("h", "move('left')", "Left", show=False, id="move.left", tooltip="Left, as the arrow."),
    Binding("l", "move('right')", "Right", show=False, id="move.right", tooltip="Right, as the arrow."),
    Binding("g", "move('first')", "First", show=False, id="move.first", tooltip="To the beginning."),
    Binding("G", "move('last')", "Last", show=False, id="move.last", tooltip="To the end."),
    Binding("q", "leave", "Quit", show=False, id="app.leave", tooltip="Quit, on Runs and Welcome; runs go on."),
    Binding("ctrl+q", "quit", "Quit", show=False, id="app.quit", priority=True,
            tooltip="Quit from anywhere; runs go on without the app."),
)  # fmt: skip
MOVES = {
    "down": ("cursor_down", "scroll_down"),
    "up": ("cursor_up", "scroll_up"),
    "left": ("cursor_left", "scroll_left"),
    "right": ("cursor_right", "scroll_right"),
    "first": ("first", "scroll_top", "scroll_home"),
    "last": ("last", "scroll_bottom", "scroll_end"),
}
"""Way -> what a pane may call it, the first that it has counts."""
TYPED = {
    "app.runs": "localtune runs ls",
    "app.new": "localtune init DATA -m MODEL",
    "app.live": "localtune tail last",
    "app.chat": "localtune chat last",
    "app.export": "localtune export last",
    "app.system": "localtune doctor",
    "app.first": "localtune doctor",
    "app.help": "localtune --help",
}
"""Action id -> the command line that does the same."""
