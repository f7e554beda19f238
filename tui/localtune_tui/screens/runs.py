"""Runs: every run of this machine, found, sorted, compared, opened and removed.

Names are listed at once; rows are read in a thread, those in sight first, so that ten thousand runs open as fast as
ten.
"""

import time
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.widgets import Input, Static

from localtune_tui.modals.confirm import Answer, Confirm
from localtune_tui.run_list import RunList, breathe
from localtune_tui.run_rows import SORTS, stem
from localtune_tui.screens.divided import DividedScreen
from localtune_tui.text import plain
from localtune_tui.widgets.line import Line
from localtune_tui.widgets.run_table import RunTable
from localtune_tui.widgets.split import Split

NO_RUNS = (
    "There are no runs yet.\n\n2 makes the first one from your own file.\n"
    "F3 shows the ways to begin, a demo of two minutes among them."
)
PAINT_SECONDS = 0.5
"""Between two paintings while many rows are read."""
LOOK_SECONDS = 2.0
"""Between two looks at what has changed."""


class RunsScreen(DividedScreen):
    """The list, the filter above it, the comparison below."""

    mode = "runs"
    AUTO_FOCUS = "RunTable"
    HELP = "Every run of this machine with its state, best validation loss and the course of its training loss."
    DEFAULT_CSS = """
    RunsScreen #top { height: 1; padding: 0 1; }
    RunsScreen #filter { width: 1fr; border: none; height: 1; padding: 0; }
    RunsScreen #count { width: auto; }
    RunsScreen #empty { display: none; height: 1fr; width: 100%; content-align: center middle; text-align: center; }
    RunsScreen.-empty #empty { display: block; }
    RunsScreen.-empty #both, RunsScreen.-empty #top { display: none; }
    RunsScreen #both { height: 1fr; grid-rows: 1fr 55%; }
    RunsScreen #below { height: 1; padding: 0 1; text-wrap: nowrap; text-overflow: ellipsis; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("c", "chat", "Chat", id="runs.chat", tooltip="Talk to what the run has trained, beside its base."),
        Binding("x", "export", "Export", id="runs.export", tooltip="Files to chat with, of the run."),
        Binding("r", "again", "Re-run…", id="runs.again", tooltip="Change the run's recipe and start it as a new run."),
        Binding("equals_sign", "compare", "Compare", id="runs.compare", tooltip="Losses and settings of marked runs."),
        Binding("D", "delete", "Delete…", id="runs.delete", tooltip="Remove the run with all its files."),
        Binding("y", "copy", "Copy path", id="runs.copy", tooltip="Copy the path of the run's folder."),
        Binding("slash", "filter", "Filter", show=False, id="runs.filter", tooltip="Words, state:done, model:qwen …"),
        Binding("o", "sort", "Sort", show=False, id="runs.sort", tooltip="By time, name, val loss, state or duration."),
        Binding("a", "axis", "Log axis", show=False, id="runs.axis", tooltip="Losses on a logarithmic axis, or back."),
        Binding("escape", "close", "Close", show=False, id="runs.close", tooltip="Close comparison and filter."),
    ]  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.list = RunList()
        self.order = SORTS[0]
        self._busy = False
        self._listed = False

    def body(self) -> ComposeResult:
        """Filter, table, and what runs now."""
        with Horizontal(id="top"):
            yield Static(Content(" / filter "), classes="quiet", id="slash")
            yield Line(id="filter", placeholder="state:done model:qwen words", compact=True)
            yield Static(id="count")
        yield Static(Content(NO_RUNS), id="empty")
        with Split("runs", least=(5, 8), down=True, id="both"):
            yield RunTable(ascii=self.app.ascii, id="table")
        yield Static(id="below")

    @property
    def table(self) -> RunTable:
        """The list as it is painted."""
        return self.query_one(RunTable)

    @property
    def wanted(self) -> str:
        """The filter."""
        return self.query_one("#filter", Input).value

    @property
    def wants_all(self) -> bool:
        """Whether every row must be known: for a filter, or an order that is not in the names."""
        return bool(self.wanted) or self.order not in ("when", "name")

    # Reading

    def on_mount(self) -> None:
        """Begin to list, as it was left."""
        order = self.app.state.text("runs.sort", SORTS[0])
        self.order = order if order in SORTS else SORTS[0]
        with self.prevent(Input.Changed):
            self.query_one("#filter", Input).value = self.app.state.text("runs.filter")
        self.query_one("#slash").styles.width = "auto"
        self.set_interval(LOOK_SECONDS, self._look)
        self._look()

    def on_screen_resume(self) -> None:
        """Something may have changed meanwhile."""
        self.list.sizes.clear()
        self._look()

    def _look(self) -> None:
        if not self._busy and self.is_current:
            self._busy = True
            self._read()

    @work(thread=True, exit_on_error=False)
    def _read(self) -> None:
        """List, then read: what is in sight or alive, and all of it where a filter or an order asks for it."""
        try:
            listed = self.list.look()
            if listed:
                self.app.call_from_thread(self._paint)
            self.list.read({*self.list.alive(), *self.table.in_sight, *self.list.newest()})
            self.app.call_from_thread(self._paint)
            painted = time.monotonic()
            while self.is_attached and self.wants_all and (names := self.list.unread()):
                self.list.read([*(name for name in self.table.in_sight if name not in self.list.rows), *names])
                if time.monotonic() - painted > PAINT_SECONDS or not self.list.unread(1):
                    self.app.call_from_thread(self._paint)
                    painted = time.monotonic()
                breathe()
            if self.list.measure():
                self.app.call_from_thread(self._paint)
        finally:
            self._busy = False

    def _paint(self) -> None:
        """Names, count and what runs, as they are known now."""
        if not self.is_attached:
            return
        self._listed = True
        self.set_class(not self.list.runs, "-empty")
        names = self.list.chosen(self.wanted, self.order)
        self.table.show(names, self.list.rows)
        self.query_one("#count", Static).update(Content(self.list.said(len(names), self.order, read=self.wants_all)))
        self._paint_below()
        self.refresh_bindings()

    def _paint_below(self) -> None:
        """What runs now, or what is wrong; and where the runs lie."""
        said = [self.list.trouble] if self.list.trouble else self.list.running(ascii_only=self.app.ascii)
        self.query_one("#below", Static).update(plain("   ".join([*said, self.list.folder]), 240))

    def on_run_table_moved(self) -> None:
        """Read what has come in sight."""
        self.refresh_bindings()
        if any(name not in self.list.rows for name in self.table.in_sight):
            self._look()

    def on_run_table_opened(self, event: RunTable.Opened) -> None:
        """Watch it."""
        self.app.open_run(event.name)

    # Keys

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Grey what there is no run for."""
        if action in ("chat", "export", "again", "delete", "copy", "compare"):
            return None if self.why_not(f"runs.{action}") else True
        return super().check_action(action, parameters)

    def why_not(self, action_id: str) -> str:
        """The reason, as a sentence."""
        action = action_id.removeprefix("runs.")
        chosen = self.table.chosen if self.is_mounted else None
        if chosen is None:
            return "there is no run here"
        row = self.list.rows.get(chosen)
        if action == "delete" and not self.app.in_control:
            return self.app.control.reason
        if action == "delete" and row is not None and row.alive:
            return f"{stem(chosen)} is {row.state}: stop it first, in Live"
        if action == "compare" and not self.table.marked:
            return "mark runs with space first"
        return ""

    def command_of(self, action_id: str) -> str:
        """What could be typed instead."""
        name = (self.table.chosen if self.is_mounted else None) or "last"
        marked = sorted(self.table.marked) if self.is_mounted else []
        typed = {
            "runs.open": ("tail", name),
            "runs.chat": ("chat", name, "--compare"),
            "runs.export": ("export", name),
            "runs.delete": ("runs", "rm", name),
            "runs.copy": ("runs", "path", name),
            "runs.compare": ("runs", "diff", *(marked[:2] if len(marked) > 1 else ("RUN", "RUN"))),
            "runs.filter": ("runs", "ls"),
            "runs.sort": ("runs", "ls"),
        }
        return self.app.cli(*typed[action_id]) if action_id in typed else ""

    def action_chat(self) -> None:
        """Chat with it."""
        if self.table.chosen:
            self.app.chat_with(self.table.chosen)

    def action_export(self) -> None:
        """Export it."""
        if self.table.chosen:
            self.app.export_run(self.table.chosen)

    def action_copy(self) -> None:
        """Copy its folder's path."""
        if self.table.chosen:
            self.app.copy(str(self.list.runs[self.table.chosen].folder))

    def action_again(self) -> None:
        """Its recipe, with every default, in New."""
        if self.table.chosen:
            self.app.new_from(self.list.runs[self.table.chosen].resolved)

    def action_filter(self) -> None:
        """Type a filter."""
        self.query_one("#filter", Input).focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Show what fits."""
        self.app.state.put("runs.filter", event.value)
        self._paint()
        self._look()

    def on_input_submitted(self) -> None:
        """Back to the list."""
        self.table.focus()

    def action_sort(self) -> None:
        """The next order."""
        self.order = SORTS[(SORTS.index(self.order) + 1) % len(SORTS)]
        self.app.state.put("runs.sort", self.order)
        self._paint()
        self._look()

    async def action_compare(self) -> None:
        """The marked runs beside each other; again, the list alone."""
        found = self.query("ComparePane")
        if found:
            await found.remove()
            return
        from localtune_tui.widgets.compare_pane import ComparePane

        pane = ComparePane(ascii=self.app.ascii)
        await self.query_one("#both").mount(pane)
        pane.compare([name for name in self.table.names if name in self.table.marked])

    def action_axis(self) -> None:
        """The other axis of loss."""
        for pane in self.query("ComparePane"):
            pane.log_axis = not pane.log_axis  # type: ignore[attr-defined]

    async def action_close(self) -> None:
        """Close the comparison, else clear the filter."""
        if self.query("ComparePane"):
            await self.query("ComparePane").remove()
        else:
            self.query_one("#filter", Input).clear()
        self.table.focus()

    @work
    async def action_delete(self) -> None:
        """Ask, then remove."""
        name = self.table.chosen
        if name is None:
            return
        detail = f"{self.list.runs[name].folder}\nits checkpoints and products go with it; nothing brings them back"
        answers = (Answer("no", "Keep it"), Answer("yes", "Delete it", danger=True))
        if await self.app.push_screen_wait(Confirm(f"Delete {name}?", detail, answers)) == "yes":
            self._remove(name)

    @work(thread=True, exit_on_error=False)
    def _remove(self, name: str) -> None:
        from localtune_tui.asking import Asked, AskError

        try:
            Asked().stream("runs", "rm", str(name), "--yes", on_line=lambda line: None)
        except AskError as error:
            if not error.cancelled:
                self.app.call_from_thread(self.app.say, error.text, error=True)
        self.list.again()
        self.app.call_from_thread(self._removed, name)

    def _removed(self, name: str) -> None:
        self.table.marked.discard(name)
        self._look()
