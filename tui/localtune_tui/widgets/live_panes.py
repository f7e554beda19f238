"""All panes of Live, painted from what a thread has read: nothing here touches the run's folder, but for a few lines of
the log that are in sight.

Narrow or short terminals get the numbers in two lines and one of samples, events and log at a time.
"""

import time

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget
from textual.widgets import Input, Static

from localtune_tui import live_lines
from localtune_tui.chart import LossChart
from localtune_tui.run_curves import ZOOMS, curves_of, zoomed
from localtune_tui.run_view import Moment, RunView, is_good, judgement
from localtune_tui.text import plain, shown
from localtune_tui.watching import Watched
from localtune_tui.widgets.lines_view import LinesView, ListLines
from localtune_tui.widgets.samples import SamplesPane
from localtune_tui.widgets.split import Split

PANES = ("samples", "events", "log")
TALL = 30
"""Rows from which there is room for what to do next."""


class _Numbers(Static):
    """Painted again for the width it has got, which a change of the terminal's class gives it after its parent's."""

    def on_resize(self) -> None:
        """Its bar has another length."""
        self.query_ancestor(LivePanes).paint()


class LivePanes(Vertical):
    """Shows the run it was given last."""

    SCOPED_CSS = False
    DEFAULT_CSS = """
    LivePanes #head, LivePanes #progress { height: 1; padding: 0 1; text-wrap: nowrap; text-overflow: ellipsis; }
    LivePanes #upper { height: 1fr; min-height: 6; grid-columns: 1fr 41; }
    LivePanes #now { height: 100%; }
    LivePanes #folded { display: none; height: 2; padding: 0 1; text-wrap: nowrap; text-overflow: ellipsis; }
    LivePanes SamplesPane { height: 5; }
    LivePanes #events-box { height: 6; }
    LivePanes #log-box { display: none; height: 11; }
    LivePanes #judgement { height: auto; max-height: 3; padding: 0 1; }
    LivePanes.-log #log-box { display: block; }
    LivePanes.-log #events-box, LivePanes.-log SamplesPane { display: none; }
    .-wide LivePanes SamplesPane { height: 8; }
    .-wide LivePanes #events-box { height: 12; }
    .-wide LivePanes #log-box { height: 20; }
    .-wide LivePanes #upper { grid-columns: 1fr 48; }
    .-narrow LivePanes #upper, .-short LivePanes #upper { grid-size: 1; }
    .-narrow LivePanes #now, .-short LivePanes #now { display: none; }
    .-narrow LivePanes #folded, .-short LivePanes #folded { display: block; }
    .-narrow LivePanes #log-box, .-short LivePanes #log-box { height: 7; }
    .-narrow LivePanes #events-box, .-short LivePanes #events-box { display: none; height: 5; }
    .-narrow LivePanes.-events #events-box, .-short LivePanes.-events #events-box { display: block; }
    .-narrow LivePanes.-events SamplesPane, .-short LivePanes.-events SamplesPane { display: none; }
    """

    pane: reactive[str] = reactive("samples")
    """Of `PANES`; samples and events stand together where there is room."""
    zoom: reactive[int] = reactive(0)
    log_axis: reactive[bool] = reactive(False)
    prompt: reactive[int] = reactive(0)
    wanted: reactive[str] = reactive("")
    """What an event must hold to be shown."""

    def __init__(self, *, ascii: bool, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self.ascii = ascii
        self.watched: Watched | None = None
        self._said: dict[str, str] = {}
        self._events: tuple[tuple[Moment, ...], str] = ((), "")

    @property
    def view(self) -> RunView:
        """What is shown."""
        return self.watched.follower.view if self.watched else RunView("")

    @property
    def folded(self) -> bool:
        """Whether it is so small that numbers take two lines and one pane below is shown at a time."""
        return not self.query_one("#now").display

    @property
    def reader(self) -> Widget:
        """The pane that arrows move: the log or the events, where one of them is shown."""
        return self.query_one(f"#{next((name for name in ('log', 'events') if self._shows(name)), 'samples')}")

    def _shows(self, name: str) -> bool:
        if name == "samples":
            return bool(self.query_one("#samples").display)
        return (name != "log" or self.pane == "log") and bool(self.query_one(f"#{name}-box").display)

    def next_pane(self) -> None:
        """Show the pane after this one; where samples and events stand together, the log after both."""
        panes = PANES if self.folded else ("samples", "log")
        self.pane = panes[(panes.index(self.pane) + 1) % len(panes)] if self.pane in panes else panes[-1]

    def compose(self) -> ComposeResult:
        """Every pane; which of them is shown depends on the size."""
        yield Static(id="head")
        yield Static(id="progress")
        with Split("live", least=(30, 34), id="upper"):
            with Vertical(id="chart-box", classes="box"):
                yield LossChart(id="chart")
            yield _Numbers(id="now", classes="box")
        yield Static(id="folded")
        yield SamplesPane(id="samples", classes="box")
        with Vertical(id="events-box", classes="box"):
            yield LinesView(empty="nothing has happened yet", id="events")
        with Vertical(id="log-box", classes="box"):
            yield LinesView(empty="the log is empty", follow=True, id="log")
        yield Static(id="judgement")

    def on_mount(self) -> None:
        """Name what never changes its name."""
        self.query_one("#now").border_title = "now"

    def on_resize(self) -> None:
        """What fits changes."""
        self.call_after_refresh(self.paint)

    def show(self, watched: Watched) -> None:
        """Paint `watched` as it is now."""
        self.watched = watched
        self.paint()

    def watch_pane(self) -> None:
        """Show that pane."""
        self.set_class(self.pane == "log", "-log")
        self.set_class(self.pane == "events", "-events")
        self.call_after_refresh(self._read_on)

    def _read_on(self) -> None:
        """Paint the pane that is shown now, for arrows to move."""
        self.paint()
        if self.watched is not None and not isinstance(self.screen.focused, Input):
            self.reader.focus()

    def watch_zoom(self) -> None:
        """Draw that part."""
        self.paint()

    def watch_log_axis(self) -> None:
        """Draw that axis."""
        self.paint()

    def watch_prompt(self) -> None:
        """Show those answers."""
        self.paint()

    def watch_wanted(self) -> None:
        """Show those events."""
        self.paint()

    def paint(self) -> None:
        """Everything that is in sight."""
        if self.watched is None or not self.is_mounted:
            return
        view, facts, reading, screen = self.view, self.watched.facts, self.watched.meter.reading, self.screen.size
        width = self.size.width
        self._say("head", live_lines.head(view, facts, wide=width >= 100, ascii_only=self.ascii))
        self._say("progress", live_lines.progress(view, facts, width - 2, time.time(), ascii_only=self.ascii))
        now = self.query_one("#now", Static)
        if now.display:
            room = now.content_size.width
            self._say("now", *live_lines.now_lines(view, facts, room, reading, ascii_only=self.ascii))
        else:
            self._say("folded", *live_lines.folded(view, facts, width - 2, reading, ascii_only=self.ascii))
        which, answers = live_lines.sample_lines(view, self.prompt, facts.prompts)
        self.query_one(SamplesPane).say(self._title("samples", which), answers)
        self._paint_chart()
        self._paint_lines()
        focused = self.screen.focused
        if focused is None or (focused.id in PANES and not self._shows(focused.id)):  # another size hides other panes
            self.reader.focus()
        following = [f"next: {line}" for line in live_lines.next_commands(view)] if screen.height >= TALL else []
        mark = {True: "+ " if self.ascii else "✓ ", False: "! ", None: ""}[is_good(view)]
        self._say("judgement", f"{mark}{judgement(view)}", *([view.trouble] if view.trouble else following))

    def _paint_chart(self) -> None:
        zoom = zoomed(self.view, self.zoom)
        self.query_one(LossChart).show(curves_of(self.view), log=self.log_axis, ascii=self.ascii, zoom=zoom)
        parts = [
            "loss",
            "log" if self.log_axis else "",
            ZOOMS[self.zoom] if zoom else "",
            live_lines.chart_title(self.view),
        ]
        self.query_one("#chart-box").border_title = Content("  ".join(part for part in parts if part))

    def _paint_lines(self) -> None:
        if self.pane == "log" and self.watched is not None:
            self.query_one("#log", LinesView).show(self.watched.log)
            trouble = self.watched.log.trouble
            self.query_one("#log-box").border_title = Content(shown(trouble or self._title("log", "/ searches"), 80))
        elif self.query_one("#events-box").display:
            if self._events != (self.view.moments, self.wanted):
                self._events = (self.view.moments, self.wanted)
                self.query_one("#events", LinesView).show(ListLines(live_lines.event_lines(*self._events)))
            title = self._title("events", f"with {self.wanted}" if self.wanted else "/ filters")
            self.query_one("#events-box").border_title = Content(shown(title, 60))

    def _title(self, chosen: str, *more: str) -> str:
        """Of a pane: all of them by name where one at a time is shown, else its own and which key shows another."""
        name = live_lines.tabs(chosen, PANES) if self.folded else chosen
        key = {"events": "t log", "log": "t samples"}.get(chosen, "") if not self.folded else ""
        return " · ".join(part for part in (name, *more, key) if part)

    def _say(self, name: str, *lines: str) -> None:
        text = "\n".join(lines)
        if self._said.get(name) != text:
            self._said[name] = text
            said = Content("\n").join(plain(line, 200) for line in lines)
            self.query_one(f"#{name}", Static).update(said, layout=name == "judgement")  # the others' height is fixed
