"""System: hardware, backends, versions, what is missing and mends it, and the models of the cache with their sizes."""

import time
from typing import ClassVar

from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.widgets import DataTable, Static

from localtune.sizes import readable
from localtune_tui import findings
from localtune_tui.asking import Asked, AskError
from localtune_tui.cache import CachedModel, cached_models, delete
from localtune_tui.modals.confirm import Answer, Confirm
from localtune_tui.screens.base import AppScreen
from localtune_tui.text import plain, shown

NO_MODELS = "Nothing was downloaded yet."


class Doctor(VerticalScroll, can_focus=True):
    """The findings."""

    HELP = "Everything localtune needs or can use here. A fix is a command to type; y copies the first one."


class Models(DataTable[Text]):
    """The models of the cache."""

    HELP = (
        "Models that were downloaded, into the cache that other tools use too. D deletes the marked one, after asking."
    )


class SystemScreen(AppScreen):
    """The machine."""

    mode = "system"
    HELP = "What this machine has for training and chatting, what it lacks, and what mends it."
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "look", "Look again", id="system.look", tooltip="Ask the machine again."),
        Binding("y", "copy", "Copy", id="system.copy", tooltip="Copy the first fix, or the marked model's folder."),
        Binding("D", "delete", "Delete…", id="system.delete",
                tooltip="Delete the marked model from the cache, after asking."),
    ]  # fmt: skip
    DEFAULT_CSS = """
    SystemScreen #panes { height: 1fr; layout: horizontal; }
    SystemScreen.-narrow #panes { layout: vertical; }
    SystemScreen Doctor { width: 3fr; height: 1fr; }
    SystemScreen Models { width: 2fr; height: 1fr; }
    SystemScreen.-narrow Doctor { width: 100%; height: 3fr; }
    SystemScreen.-narrow Models { width: 100%; height: 2fr; }
    SystemScreen #sum { height: 1; padding: 0 1; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.machine = findings.Machine((), False)
        self.models: list[CachedModel] = []
        self._asked: Asked | None = None

    def body(self) -> ComposeResult:
        """Findings beside the cache; a sentence below."""
        with Horizontal(id="panes"):
            with Doctor(classes="box") as doctor:
                doctor.border_title = Content("doctor")
                yield findings.Findings()
            models = Models(classes="box", cursor_type="row", zebra_stripes=False)
            models.border_title = Content("models in the cache")
            yield models
        yield Static(id="sum")

    def on_mount(self) -> None:
        """Columns, then the answers as they come."""
        self.query_one(Models).add_columns("model", "size", "last used")
        self.action_look()

    def on_unmount(self) -> None:
        """Nobody waits for the answer any more."""
        if self._asked is not None:
            self._asked.cancel()

    def command_of(self, action_id: str) -> str:
        """What could be typed instead."""
        model = self._marked()
        deleted = f"hf cache rm model/{model.name}" if model else "hf cache ls"
        return {"system.look": self.app.cli("doctor"), "system.delete": deleted}.get(action_id, "")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Nothing can be deleted from an empty cache."""
        return None if action == "delete" and not self.models else True

    def why_not(self, action_id: str) -> str:
        """Why a key is greyed out."""
        return "there is no model in the cache" if action_id == "system.delete" else ""

    def action_look(self) -> None:
        """Ask the machine, and look into the cache."""
        self.query_one("#sum", Static).update(Content("looking …"))
        self._ask_doctor()
        self._scan()

    @work(thread=True, exclusive=True, group="doctor", exit_on_error=False)
    def _ask_doctor(self) -> None:
        self._asked = Asked()
        try:
            machine = findings.ask(self._asked)
        except AskError as error:
            if not error.cancelled:
                self.app.call_from_thread(self._refused, error.text)
            return
        self.app.call_from_thread(self._show_machine, machine)

    @work(thread=True, exclusive=True, group="cache", exit_on_error=False)
    def _scan(self) -> None:
        try:
            models, reason = cached_models(), ""
        except (OSError, ValueError) as error:
            models, reason = [], f"the cache cannot be read: {error}"
        self.app.call_from_thread(self._show_models, models, reason)

    def _refused(self, text: str) -> None:
        self.query_one(findings.Findings).update(plain(text, 2000, keep_lines=True))
        self.query_one("#sum", Static).update(Content("✗ this machine could not be asked"))

    def _show_machine(self, machine: findings.Machine) -> None:
        self.machine = machine
        self.query_one(findings.Findings).show(machine.found)
        self.app.knows(machine.device)
        lacking = [each.name for each in machine.found if each.needed and each.status == "missing"]
        said = "this machine can train" if machine.can_train else f"this machine cannot train yet: {', '.join(lacking)}"
        sign = "✓" if machine.can_train else "✗"
        self.query_one("#sum", Static).update(plain(f"{sign} {said}"))

    def _show_models(self, models: list[CachedModel], reason: str) -> None:
        self.models = models
        table = self.query_one(Models)
        table.clear()
        for number, model in enumerate(models):
            used = time.strftime("%Y-%m-%d", time.localtime(model.used)) if model.used > 0 else ""
            cells = (shown(model.name, 60), readable(model.size), used)
            table.add_row(*map(Text, cells), key=str(number))
        if not models:
            table.add_row(Text(NO_MODELS), Text(), Text())
        total = readable(sum(model.size for model in models))
        table.border_subtitle = plain(reason or f"{len(models)} models, {total}", 120)
        self.refresh_bindings()

    def _marked(self) -> CachedModel | None:
        table = self.query_one(Models)
        return self.models[table.cursor_row] if 0 <= table.cursor_row < len(self.models) else None

    def action_copy(self) -> None:
        """Copy what the focused pane is about."""
        model = self._marked()
        fixes = [each.fix for each in self.machine.found if each.fix]
        if model is not None and isinstance(self.focused, Models):
            self.app.copy(str(model.folder))
        elif fixes:
            self.app.copy(fixes[0])
        else:
            self.app.copy(self.app.cli("doctor"))

    @work(exit_on_error=False)
    async def action_delete(self) -> None:
        """Ask, then delete."""
        model = self._marked()
        if model is None:
            return
        detail = (
            f"{readable(model.size)} in {model.folder}\n"
            "Tools that use it will download it again. A run that reads it now fails."
        )
        answers = (Answer("keep", "Keep it"), Answer("delete", "Delete", danger=True))
        if await self.app.push_screen_wait(Confirm(f"Delete {shown(model.name, 80)}?", detail, answers)) == "delete":
            self._delete(model)

    @work(thread=True, exit_on_error=False)
    def _delete(self, model: CachedModel) -> None:
        try:
            said = f"deleted {model.name}: {readable(delete(model.revisions))} free again"
            failed = False
        except (OSError, ValueError) as error:
            said, failed = f"{model.name} could not be deleted: {error}", True
        self.app.call_from_thread(self.app.say, said, error=failed)
        self.app.call_from_thread(self._scan)
