"""Export: what a run becomes, where it goes, and the proof that it still says what was trained."""

from functools import partial
from pathlib import Path
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from localtune.sizes import readable
from localtune_tui.asking import Asked, AskError
from localtune_tui.export_work import Line, Work, earlier, painted
from localtune_tui.exporting import HUB, PRODUCTS, Exportable, commands, disk_needed, exportable
from localtune_tui.modals.repository import AskRepository
from localtune_tui.screens.base import AppScreen
from localtune_tui.text import plain
from localtune_tui.widgets.checks import Checks

NO_RUN = "No run to export. 1 shows the runs that are there, 2 makes a new one."


class Results(VerticalScroll, can_focus=True):
    """Progress, proofs and what was made."""

    HELP = "What the export does now, each proof as a table of check, verdict and figures, and what was made."


class ExportScreen(AppScreen):
    """Formats, targets, progress and proof of one run."""

    mode = "export"
    AUTO_FOCUS = "#formats"
    HELP = (
        "Makes files to chat with. Space ticks a format or a program, ^r makes them. Every file is read back by "
        "llama.cpp and compared with what was trained before it gets its name; the table shows each check. Sizes with "
        "~ are estimates."
    )
    DEFAULT_CSS = """
    ExportScreen #choices { height: 12; }
    ExportScreen #formats, ExportScreen #targets { width: 1fr; height: 12; }
    ExportScreen Results { height: 1fr; padding: 0 1; }
    ExportScreen Results Static { width: 100%; }
    ExportScreen #hint, ExportScreen #ready { height: 1; padding: 0 1; text-wrap: nowrap; text-overflow: ellipsis; }
    ExportScreen #none { display: none; height: 1fr; width: 100%; content-align: center middle; text-align: center; }
    ExportScreen.-none #none { display: block; }
    ExportScreen.-none #choices, ExportScreen.-none Results, ExportScreen.-none #hint { display: none; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+r", "export", "Export", id="export.start", priority=True, tooltip="Make what is ticked."),
        Binding("s", "stop", "Stop", id="export.stop", tooltip="End the export; files that are complete stay."),
        Binding("t", "try_it", "Try it", id="export.try", tooltip="Chat with the file that was made last."),
        Binding("y", "copy", "Copy", id="export.copy", tooltip="Copy the path of what was made, else the command."),
        Binding("r", "look", "Look again", show=False, id="export.look", tooltip="Read the run's folder again."),
    ]  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.found: Exportable | None = None
        self.work: Work | None = None
        """The export of this run that goes on or was the last, None for none."""
        self.asked: Asked | None = None
        """The child, while there is one."""
        self._name = ""
        self._ticked: dict[str, set[str]] = {}
        self._asked_for: dict[str, set[str]] = {}
        """What was ticked when the last export began."""

    def body(self) -> ComposeResult:
        """Formats beside targets, results, and what there is to say."""
        yield Static(Content(NO_RUN), id="none")
        with Horizontal(id="choices"):
            yield Checks("formats")
            yield Checks("targets")
        with Results(classes="box"):
            yield Static(id="results")
        yield Static(id="hint", classes="quiet")
        yield Static(id="ready")

    @property
    def formats(self) -> Checks:
        """What can be made."""
        return self.query_one("#formats", Checks)

    @property
    def targets(self) -> Checks:
        """Where it can go."""
        return self.query_one("#targets", Checks)

    # Looking

    def on_mount(self) -> None:
        """Look at the run that the app is about."""
        self.formats.border_title = "make"
        self.targets.border_title = "send the first file to"
        self.query_one(Results).border_title = "progress and proof"
        self.watch(self.app, "current_run", self._wanted)
        self.set_interval(self.app.refresh_rate, self._tick)

    def on_resize(self) -> None:
        """Lines wrap elsewhere."""
        self.call_after_refresh(self.paint)

    def on_screen_resume(self) -> None:
        """Files may have come or gone."""
        self.action_look()

    def on_unmount(self) -> None:
        """The child ends with the screen."""
        self.action_stop()

    def _wanted(self, name: str | None) -> None:
        if self.asked is not None:
            return
        if name != self._name:
            self._name, self.found, self.work = name or "", None, None
            self._ticked = {}
        self.set_class(not name, "-none")
        self.action_look()

    def action_look(self) -> None:
        """Read the run's folder."""
        if self._name and self.asked is None:
            self._look(self._name)

    @work(thread=True, exit_on_error=False, exclusive=True, group="look")
    def _look(self, name: str) -> None:
        self.app.call_from_thread(self._looked, name, exportable(name))

    def _looked(self, name: str, found: Exportable | str) -> None:
        if name != self._name:
            return
        self.set_class(isinstance(found, str), "-none")
        self.found = None if isinstance(found, str) else found
        if isinstance(found, str):
            self.query_one("#none", Static).update(plain(f"{found}.", 400))
        else:
            self.title_text = found.run.name
            self.formats.show(found.formats, self._ticked.get("formats", set(found.wanted)))
            self.targets.show(found.targets, self._ticked.get("targets", set()))
        self.paint()

    # What is painted

    def on_checks_changed(self) -> None:
        """Say what follows from it."""
        self._ticked = self._chosen()
        self.paint()

    def _chosen(self) -> dict[str, set[str]]:
        return {"formats": set(self.formats.chosen), "targets": set(self.targets.chosen)}

    def _tick(self) -> None:
        if self.work is not None and not self.work.over:
            self.paint()

    def paint(self) -> None:
        """Results, hint and ready line."""
        found = self.found
        lines = self.work.lines if self.work is not None else earlier(found) if found is not None else []
        if self.work is not None and not self.work.over:
            now = " · ".join(part for part in (self.work.progress, self.work.now or "beginning") if part)
            lines = [*lines, Line(f"● {now} …", "bold")]
        results = self.query_one(Results)
        parts = [painted(line, results.content_size.width - 1) for line in lines]
        at_end = results.scroll_offset.y >= results.max_scroll_y - 1
        self.query_one("#results", Static).update(Content("\n").join(parts or [Content("nothing was exported yet")]))
        if self.work is not None and at_end:
            results.scroll_end(animate=False)
        self.query_one("#hint", Static).update(plain(self._hint()))
        self.query_one("#ready", Static).update(plain(self._ready()))
        self.refresh_bindings()

    def _hint(self) -> str:
        pane = self.focused if isinstance(self.focused, Checks) else None
        one = pane.looked_at if pane is not None else None
        if one is None or not one.why_not:
            return ""
        return f"{one.label}: {one.why_not}"

    def _ready(self) -> str:
        if self.found is None:
            return ""
        if self.work is not None and self.asked is not None:
            return f"exporting {self.found.run.name}{self.work.progress and f': {self.work.progress}'}; s stops it"
        if self.work is not None and self._says_done(self.work):
            return "✓ done: t tries it, y copies its path" if self._files() else "✓ done"
        chosen = self._formats()
        if not chosen:
            return "tick what to make: Space"
        need, free = disk_needed(self.found, chosen), self.found.free
        if need > free:
            return f"! needs up to {readable(need)} of disk, {readable(free)} are free"
        return f"✓ ready: ^r makes {', '.join(chosen)}; up to {readable(need)} of disk, {readable(free)} free"

    def _says_done(self, made: Work) -> bool:
        """Whether an export is over that made what is ticked."""
        return made.over and not made.problem and self._chosen() == self._asked_for

    def _formats(self) -> list[str]:
        return [one.key for one in self.formats.choices if one.key in self.formats.chosen]

    # Keys

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Grey what cannot be done now; leave out what there is nothing for."""
        if action in ("stop", "try_it"):
            return self.asked is not None if action == "stop" else bool(self._files())
        return None if self.why_not(f"export.{'start' if action == 'export' else action}") else True

    def why_not(self, action_id: str) -> str:
        """The reason, as a sentence."""
        if self.found is None and action_id in ("export.start", "export.copy"):
            return "there is no run to export"
        if action_id == "export.start" and self.asked is not None:
            return "an export goes on: s stops it"
        return ""

    @work(exit_on_error=False)
    async def action_export(self) -> None:
        """Make what is ticked; the hub is asked about first."""
        chosen = self._formats()
        if self.found is None or self.asked is not None or not chosen:
            self.app.say("tick what to make first: Space")
            return
        repository = ""
        if HUB in self.targets.chosen:
            repository = await self.app.push_screen_wait(AskRepository(self.found.run.name)) or ""
            if not repository:
                return
        asked = [(*each, "--json") for each in self._commands(repository)]
        wanted = tuple(PRODUCTS.get(each, each) for each in chosen)
        self.work, self.asked, self._asked_for = Work(wanted), Asked(), self._chosen()
        self.paint()
        self._make(self.asked, self.work, asked)

    @work(thread=True, exit_on_error=False, group="export")
    def _make(self, asked: Asked, made: Work, lines: list[tuple[str, ...]]) -> None:
        problem = ""
        try:
            for line in lines:
                asked.stream(*line, on_line=partial(self._hear, made))
        except AskError as error:
            problem = "stopped: what was complete stays" if error.cancelled else error.text or f"exit code {error.code}"
        finally:
            self.app.call_from_thread(self._made, made, problem)

    def _hear(self, made: Work, line: str) -> None:
        self.app.call_from_thread(made.hear, line)

    def _made(self, made: Work, problem: str) -> None:
        made.end(problem)
        self.asked = None
        if not self.is_current or self._name != self.app.current_run:
            self.app.say(f"export of {self._name} {made.outcome}", error=bool(made.problem))
        self._wanted(self.app.current_run)
        self.paint()

    def action_stop(self) -> None:
        """End it."""
        if self.asked is not None:
            self.asked.cancel()

    def action_try_it(self) -> None:
        """Chat with the file."""
        self.app.chat_with(str(self._files()[-1]))

    def action_copy(self) -> None:
        """The path of what was made, else the command."""
        files = self._files()
        if self.found is not None:
            self.app.copy(str(files[-1]) if files else self.command_of("export.start"))

    def _files(self) -> list[Path]:
        """GGUF files that are there; what was made last comes last."""
        if self.found is None:
            return []
        folder, names = self.found.run.export, self.work.made if self.work is not None else []
        made = [path for name in names if (path := self.found.run.folder / name).parent == folder]
        return [path for path in self.found.files if path not in made] + made

    def _commands(self, repository: str = "") -> list[tuple[str, ...]]:
        if self.found is None:
            return []
        return commands(self.found.run.name, self._formats(), sorted(self.targets.chosen), repository)

    def command_of(self, action_id: str) -> str:
        """What could be typed instead."""
        if self.found is None:
            return ""
        if action_id in ("export.start", "export.copy"):
            return " && ".join(self.app.cli(*each) for each in self._commands())
        files = self._files()
        return self.app.cli("chat", files[-1]) if action_id == "export.try" and files else ""
