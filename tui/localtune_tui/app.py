"""The app: six tabs over run folders and the command line. It watches and asks; it never trains and loads no model.

Quitting, losing the terminal or a crash of the app leaves every run as it is. A screen is imported when it is first
opened. A second app on this machine only watches (`in_control`).
"""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from textual import work
from textual.binding import Binding, BindingType
from textual.command import Provider
from textual.dom import DOMNode
from textual.events import Key
from textual.filter import LineFilter
from textual.reactive import reactive
from textual.screen import Screen
from textual.worker import Worker, WorkerState

from localtune.typed import typed
from localtune_tui import state, terminal, theme
from localtune_tui.control import Control
from localtune_tui.ending import EndingApp
from localtune_tui.everywhere import EVERYWHERE, MOVES, TYPED
from localtune_tui.keys import Action, Keys, keys_file, known_ids, read_keys, unknown_ids
from localtune_tui.screens import SCREENS, screen_class
from localtune_tui.screens.base import TABS, AppScreen
from localtune_tui.screens.opening import OpeningScreen
from localtune_tui.text import shown


def _opened(mode: str) -> AppScreen:
    return screen_class(mode)()


def _palette() -> type[Provider]:
    from localtune_tui.palette import Commands

    return Commands


CONTROL_SECONDS = 5.0
"""Between two looks whether another app has given back control."""


class LocaltuneApp(EndingApp):
    """Data, recipe, plan, training, comparison, export and the machine, by keyboard or mouse."""

    TITLE = "localtune"
    CSS_PATH = "localtune.tcss"
    MODES: ClassVar[dict[str, Any]] = {mode: partial(_opened, mode) for mode in SCREENS}
    COMMANDS: ClassVar[set[Any]] = {_palette}
    ENABLE_COMMAND_PALETTE = True
    COMMAND_PALETTE_BINDING = "ctrl+p"
    HORIZONTAL_BREAKPOINTS = [(0, "-tiny-width"), (60, "-narrow"), (100, "-normal"), (160, "-wide")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS = [(0, "-tiny-height"), (15, "-short"), (30, "-tall")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [*EVERYWHERE]

    current_run: reactive[str | None] = reactive(None)
    """Name of the run that Live, Export and Chat are about."""
    in_control: reactive[bool] = reactive(True)
    """Whether this app may stop, pause and save; `control.reason` says why not."""
    chat_target: reactive[str | None] = reactive(None, always_update=True)
    """What Chat was last asked to open: a run's name, a GGUF file, a model's folder."""
    new_request: reactive[tuple[Path | None, Path | str | None] | None] = reactive(None, always_update=True)
    """What New was last asked to begin with: (recipe, data); data may be one of the hub."""
    machine: reactive[str] = reactive("")
    """The device in a few words, once it is known: "torch · RTX 4090 · 24 GB"."""

    def __init__(self, folder: Path | None = None, *, ascii: bool = False) -> None:  # noqa: A002
        super().__init__()
        self.folder = folder
        """A run's folder to open, or None."""
        self.ascii = ascii or terminal.only_ascii(os.environ)
        self.refresh_rate = terminal.refresh_rate(os.environ)
        self.state = state.SessionState(state.folder() / "session.json")
        self.control = Control(state.folder())
        self._history: list[str] = []
        self._said_lost: set[str] = set()

    # Beginning and end

    def get_default_screen(self) -> Screen[Any]:
        """What is painted until it is known where to begin."""
        return OpeningScreen()

    def on_mount(self) -> None:
        """Dress for the terminal, take control, and find out where to begin."""
        for each in theme.THEMES:
            self.register_theme(each)
        self.theme = theme.fitting(self.state.text("theme", theme.DARK), os.environ)
        self.machine = self.state.text("machine")
        self._look_for_control()
        self.set_interval(CONTROL_SECONDS, self._look_for_control)
        self._begin()

    @work(thread=True, exit_on_error=False)
    def _begin(self) -> None:
        from localtune_tui.beginning import beginning

        keys = read_keys(keys_file())
        mode, run = beginning(self.folder, self.state.text("mode", "runs"))
        self.call_from_thread(self._open_first, mode, run, keys)
        for problem in unknown_ids(keys.by_id, known_ids()) if keys.by_id else ():
            self.call_from_thread(self.say, problem, error=True)

    def _open_first(self, mode: str, run: str | None, keys: Keys) -> None:
        self.set_keymap(keys.by_id)
        self.current_run = run
        self.action_go(mode)
        for problem in keys.problems[:3]:
            self.say(problem, error=True)

    def _look_for_control(self) -> None:
        before, self.in_control = self.in_control, self.control.take()
        if before != self.in_control:
            self.say(self.control.reason or "the other localtune is gone: this one steers the runs now")
            self.refresh_bindings()

    def leave(self, code: int = 0) -> None:
        """Remember the session, and end."""
        self._remember()
        super().leave(code)

    def _remember(self) -> None:
        if self.current_mode in TABS:
            self.state.put("mode", self.current_mode)
        self.state.save()

    def on_unmount(self) -> None:
        """Remember the session, and leave control to others."""
        self._remember()
        self.control.give_back()

    # Where to

    def action_go(self, mode: str) -> None:
        """Show the tab or view called `mode`."""
        before = self.current_mode
        if mode == before:
            return
        try:
            screen_class(mode)
        except Exception as error:  # a tab that cannot be opened takes nobody else's work with it
            self.say(f"{TABS.get(mode, mode)} could not be opened: {type(error).__name__}: {error}", error=True)
            return
        if before in SCREENS:
            self._history = [*self._history[-20:], before]
        self.switch_mode(mode)

    def action_previous(self) -> None:
        """The screen before this one: a view's tab, else the tab before."""
        if len(self.screen_stack) > 1:
            self.pop_screen()
        elif self._history:
            self.switch_mode(self._history.pop())

    def open_run(self, name: str) -> None:
        """Live, on the run called `name`."""
        self.current_run = name
        self.action_go("live")

    def chat_with(self, target: str) -> None:
        """Chat with a run, a GGUF file or a model's folder."""
        self.chat_target = target
        self.action_go("chat")

    def export_run(self, name: str) -> None:
        """Export of the run called `name`."""
        self.current_run = name
        self.action_go("export")

    def new_from(self, recipe: Path | None, data: Path | str | None = None) -> None:
        """New, filled from a recipe or for a file of examples."""
        self.new_request = (recipe, data)
        self.action_go("new")

    # What screens ask of the app

    def say(self, text: object, *, error: bool = False) -> None:
        """A sentence in the corner."""
        self.notify(shown(text, 400), severity="error" if error else "information", markup=False)

    def copy(self, text: str) -> None:
        """Put `text` on the clipboard of the terminal, and show it: not every terminal takes it."""
        whole = text.encode("utf-8", "replace").decode("utf-8")
        self.copy_to_clipboard(whole)
        self._copy_in_tmux(whole)
        self.say(f"copied  {text}")

    @work(thread=True, exit_on_error=False)
    def _copy_in_tmux(self, text: str) -> None:
        terminal.to_tmux(text)

    def cli(self, *args: str | Path) -> str:
        """The command line that does the same."""
        return typed("localtune", *args)

    def command_of(self, action_id: str) -> str:
        """What could be typed instead of one of the app's own actions."""
        return TYPED.get(action_id, "")

    def perform(self, action: Action) -> None:
        """Do `action`, or say why it cannot be done now."""
        if action.enabled:
            self.call_later(self.run_action, action.action, action.node)
        else:
            self.say(self._why_not(action.id))

    def on_key(self, event: Key) -> None:
        """A key that is greyed out says why."""
        bound = self.screen.active_bindings.get(event.key)
        if bound is not None and not bound.enabled and bound.binding.id:
            self.say(self._why_not(bound.binding.id))

    def _why_not(self, action_id: str) -> str:
        given = self.screen.why_not(action_id) if isinstance(self.screen, AppScreen) else ""
        return given or self.control.reason or "not possible now"

    def knows(self, machine: str) -> None:
        """Remember what this machine trains with."""
        self.machine = machine
        self.state.put("machine", machine)

    # Keys that hold everywhere

    def handle_bindings_clash(self, clashed_bindings: set[Binding], node: DOMNode) -> None:
        """Say once which actions share a key, so that one of them has none."""
        lost = {str(binding.id) for binding in clashed_bindings if binding.id} - self._said_lost
        if lost:
            self._said_lost |= lost
            self.say(f"keys.yaml gives one key to several actions, among them {', '.join(sorted(lost))}")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """`q` quits only where nothing else can be meant by it; escape goes back only from a view on top of a tab."""
        if action == "leave":
            return self.current_mode in ("runs", "first", "_default")
        return len(self.screen_stack) > 1 if action == "back" else True

    def action_help(self) -> None:
        """Help for the focused pane."""
        from localtune_tui.help import Help

        self.push_screen(Help(self.screen))

    def action_theme(self) -> None:
        """The next set of colours."""
        self.theme = theme.after(self.theme)
        self.state.put("theme", self.theme)
        self.say(f"colours: {self.theme}")

    def action_move(self, way: str) -> None:
        """Do in the focused pane what an arrow does."""
        pane = self.focused
        for name in MOVES[way]:
            if pane is not None and hasattr(pane, f"action_{name}"):
                self.call_later(self.run_action, name, pane)
                return

    def action_leave(self) -> None:
        """Quit."""
        self.exit(0)

    async def action_quit(self) -> None:
        """Quit from anywhere."""
        self.exit(0)

    def get_line_filters(self) -> Sequence[LineFilter]:
        """What every painted line passes: colours the terminal has, and signs it has."""
        filters = list(super().get_line_filters())
        if self.ascii:
            from localtune_tui.ascii_signs import AsciiSigns

            filters.append(AsciiSigns())
        return filters

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        """Say what went wrong in the background."""
        self.say_failure(event)

    def say_failure(self, event: Worker.StateChanged) -> None:
        """A sentence on a thread or task that failed; the app goes on."""
        if event.state == WorkerState.ERROR:
            error = event.worker.error
            self.say(f"{event.worker.name.strip('_')} failed: {type(error).__name__}: {error}", error=True)

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """Our own names in style sheets, for themes that do not have them."""
        return dict(theme.VARIABLES)
