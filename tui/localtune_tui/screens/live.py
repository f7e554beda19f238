"""Live: one run, running or over, from its folder alone.

A thread looks at the folder a few times a second; what it has read is painted, nothing else is done on the event loop.
Requests go through `control/` of the run's folder. Leaving this screen, or the app, changes nothing about the run.
"""

from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.timer import Timer
from textual.widgets import Input, Static

from localtune_tui.asking import Asked, AskError
from localtune_tui.run_curves import ZOOMS
from localtune_tui.screens.steering import SteeringScreen
from localtune_tui.text import plain
from localtune_tui.watching import Watched, open_watched
from localtune_tui.widgets.line import Line
from localtune_tui.widgets.lines_view import LinesView
from localtune_tui.widgets.live_panes import LivePanes

NO_RUN = "No run is open. 1 shows the runs that are there, 2 makes a new one."
IDLE_LOOKS = 4
"""A run that has ended is looked at every so many times only."""


class LiveScreen(SteeringScreen):
    """Progress, loss, numbers, samples, events and log of one run."""

    mode = "live"
    AUTO_FOCUS = ""
    HELP = (
        "Watches one run from its folder. Losses are nats per learned token; the line is a mean over about ten "
        "updates, o marks validation and * the best of it. Memory is what is used now, else the peak. Leaving does not "
        "stop the run."
    )
    DEFAULT_CSS = """
    LiveScreen #none { display: none; height: 1fr; content-align: center middle; width: 100%; }
    LiveScreen.-none #none { display: block; }
    LiveScreen.-none LivePanes { display: none; }
    LiveScreen LivePanes { height: 1fr; }
    LiveScreen #search { display: none; height: 1; border: none; padding: 0 1; }
    LiveScreen.-search #search { display: block; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("c", "chat", "Chat", id="live.chat", tooltip="Talk to what this run has trained, beside its base."),
        Binding("x", "export", "Export", id="live.export", tooltip="Files to chat with, of this run."),
        Binding("t", "pane", "Log", id="live.pane", tooltip="Samples, events or the log."),
        Binding("y", "copy", "Copy", id="live.copy", tooltip="Copy the path of the run's folder."),
        Binding("z", "zoom", "Zoom", id="live.zoom", tooltip="All of the run, its last half or tenth."),
        Binding("d", "detach", "Detach", id="live.detach", tooltip="Leave the app; the run goes on."),
        Binding("a", "axis", "Log axis", show=False, id="live.axis", tooltip="Loss on a logarithmic axis, or back."),
        Binding("n", "next_prompt", "Next prompt", show=False, id="live.prompt", tooltip="Answers to the next prompt."),
        Binding("slash", "search", "Search", show=False, id="live.search", tooltip="Filter events, or search the log."),
        Binding("e", "report", "Report", show=False, id="live.report", tooltip="Write the run's report, an HTML page."),
        Binding("escape", "close_search", "Close search", show=False, id="live.close", tooltip="Close the search."),
    ]  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self._opened = ""
        self._state = ""
        self._looking = False
        self._looks = 0
        self._timer: Timer | None = None

    def body(self) -> ComposeResult:
        """The panes, or the sentence that there is no run."""
        yield Static(Content(NO_RUN), id="none")
        yield LivePanes(ascii=self.app.ascii, id="panes")
        yield Line(id="search", placeholder="text; Enter searches, Escape closes", compact=True)

    @property
    def panes(self) -> LivePanes:
        """What is painted."""
        return self.query_one(LivePanes)

    # Looking

    def on_mount(self) -> None:
        """Begin to look."""
        self.panes.log_axis = self.app.state.flag("live.log_axis")
        self.watch(self.app, "current_run", self._open)
        self.watch(self.app, "in_control", self.refresh_bindings, init=False)
        self._timer = self.set_interval(self.app.refresh_rate, self._tick)

    def on_screen_suspend(self) -> None:
        """Another screen is shown: nobody looks."""
        if self._timer is not None:
            self._timer.pause()

    def on_screen_resume(self) -> None:
        """Look again."""
        if self._timer is not None:
            self._timer.resume()
        self._looks = -1
        self._tick()

    def _open(self, name: str | None) -> None:
        self.set_class(not name, "-none")
        if name and name != self._opened:
            self._opened, self.watched = name, None
            self._tick()

    def _tick(self) -> None:
        self._looks += 1
        idle = self.watched is not None and not self.view.alive and self._looks % IDLE_LOOKS
        if self._opened and not self._looking and not idle:
            self._looking = True
            self._look(self._opened, self.watched, self.panes.pane == "log")

    @work(thread=True, exit_on_error=False)
    def _look(self, name: str, watched: Watched | None, log: bool) -> None:
        found: Watched | str = "this run cannot be shown"
        try:
            found = watched or open_watched(name)
            if isinstance(found, Watched):
                found.look(log=log)
        finally:
            self.app.call_from_thread(self._looked, name, found)

    def _looked(self, name: str, found: Watched | str) -> None:
        self._looking = False
        if name != self._opened or not self.is_attached:
            return
        if isinstance(found, str):
            self._opened = ""
            self.query_one("#none", Static).update(plain(f"{found}. 1 shows the runs that are there."))
            self.add_class("-none")
            return
        self.watched = found
        self.title_text = self._title(found)
        self.panes.show(found)
        if self._state != self.view.state:
            self._state = self.view.state
            self.refresh_bindings()

    def _title(self, watched: Watched) -> str:
        """What it trains on; of a paused run, why it waits."""
        if self.view.state == "paused":
            return f"paused: {self.view.detail}".rstrip(": ")
        return " · ".join(part for part in (watched.facts.backend, watched.facts.device) if part)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Leave out what cannot be done to this run."""
        if action in ("chat", "export", "copy", "report") and self.watched is None:
            return False
        if action == "export" and self.view.alive:
            return False
        if action == "close_search":
            return self.has_class("-search")
        return super().check_action(action, parameters)

    def command_of(self, action_id: str) -> str:
        """What could be typed instead."""
        name = self.view.name or "last"
        typed = {
            "live.stop": ("stop", name),
            "live.pause": ("stop", name),
            "live.resume": ("run", "--resume", name),
            "live.chat": ("chat", name, "--compare"),
            "live.export": ("export", name),
            "live.copy": ("runs", "path", name),
            "live.pane": ("tail", name, "--log"),
            "live.detach": ("tail", name),
            "live.report": ("runs", "report", name, "-o", "report.html"),
        }
        return self.app.cli(*typed[action_id]) if action_id in typed else ""

    # Elsewhere

    def action_chat(self) -> None:
        """Chat with it."""
        self.app.chat_with(self._opened)

    def action_export(self) -> None:
        """Export it."""
        self.app.export_run(self._opened)

    def action_copy(self) -> None:
        """Copy its folder's path."""
        if self.watched is not None:
            self.app.copy(str(self.watched.follower.run.folder))

    def action_detach(self) -> None:
        """Leave the app."""
        name = self.view.name
        goes_on = f"{name} goes on. {self.app.cli('tail', name)} follows it." if self.view.alive else ""
        self.app.exit(0, message=plain(goes_on).plain or None)

    # Panes

    def action_pane(self) -> None:
        """The next of samples, events and log."""
        self.panes.next_pane()

    def action_zoom(self) -> None:
        """The next part of the run."""
        self.panes.zoom = (self.panes.zoom + 1) % len(ZOOMS)

    def action_axis(self) -> None:
        """The other axis of loss."""
        self.panes.log_axis = not self.panes.log_axis
        self.app.state.put("live.log_axis", self.panes.log_axis)

    def action_next_prompt(self) -> None:
        """The next prompt's answers."""
        self.panes.prompt += 1

    def action_search(self) -> None:
        """Ask for what to look for, in the log where it is shown, else in the events."""
        if self.panes.pane == "samples":
            self.panes.pane = "events"
        self.add_class("-search")
        self.query_one("#search", Input).focus()

    def action_close_search(self) -> None:
        """Everything again."""
        self.remove_class("-search")
        self.panes.wanted = ""
        self.query_one("#log", LinesView).mark(None)
        self.query_one("#search", Input).clear()
        self.panes.reader.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Events are filtered as one types."""
        if self.panes.pane != "log":
            self.panes.wanted = event.value

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """The next place of the log; events are there already."""
        if self.panes.pane == "log" and self.watched is not None and event.value:
            view = self.query_one("#log", LinesView)
            start = view.scroll_offset.y if view.marked is None else view.marked + 1
            self._find(self.watched, event.value, start)
        elif self.panes.pane != "log":
            self.panes.reader.focus()

    @work(thread=True, exit_on_error=False, exclusive=True, group="find")
    def _find(self, watched: Watched, text: str, start: int) -> None:
        found = watched.log.find(text, start)
        if found is None:
            found = watched.log.find(text, 0)
        self.app.call_from_thread(self._found, text, found)

    def _found(self, text: str, found: int | None) -> None:
        self.query_one("#log", LinesView).mark(found)
        if found is None:
            self.app.say(f"the log does not hold {text}")

    def action_report(self) -> None:
        """Write the run's report into its folder."""
        if self.watched is not None:
            self._report(self.watched)

    @work(thread=True, exit_on_error=False)
    def _report(self, watched: Watched) -> None:
        path = watched.follower.run.folder / "report.html"
        try:
            Asked().run_json("runs", "report", str(watched.follower.run.folder), "-o", str(path), "--json")
        except AskError as error:
            if not error.cancelled:
                self.app.call_from_thread(self.app.say, error.text, error=True)
            return
        self.app.call_from_thread(self.app.copy, str(path))
