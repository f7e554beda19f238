"""New: data, model and settings on one page, the plan beside them as one types, and the key that starts the run."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.timer import Timer
from textual.widgets import Static

from localtune import recipe
from localtune.recipe.shipped import shipped
from localtune_tui.asking import AskError
from localtune_tui.draft import Draft
from localtune_tui.forms import form, values_of
from localtune_tui.modals.pick import Entry
from localtune_tui.modals.pick_file import RECIPES, PickFile
from localtune_tui.modals.pick_model import PickModel, memory_of
from localtune_tui.planning import FirstRows, Outcome, Question
from localtune_tui.presets import DEFAULT
from localtune_tui.screens.new_run import NewRun
from localtune_tui.text import plain
from localtune_tui.widgets.field import Field
from localtune_tui.widgets.new_panes import PlanPane, ReadyLine, RowsPane
from localtune_tui.widgets.section import Section, SectionHead
from localtune_tui.widgets.split import Split
from localtune_tui.widgets.what_pane import WhatPane, gguf_text

PAUSE = 0.4
"""Seconds without a change before the plan is asked for."""
LOOK = 2.0
"""Seconds between two looks whether the recipe's file has changed."""


class NewScreen(NewRun):
    """One page from a data file to a run that trains."""

    mode = "new"
    AUTO_FOCUS = "#field-data"
    HELP = (
        "A new run: choose data and a model, and the plan beside them says what the run would do, need and write, "
        "again with every change. Everything else has a default; the groups below hold every setting of a recipe. "
        "The last line says what is missing."
    )
    DEFAULT_CSS = """
    NewScreen #page { scrollbar-size-vertical: 1; }
    NewScreen #top { grid-rows: auto; height: auto; }
    NewScreen.-narrow #top { grid-size: 1; }
    PlanPane, NewScreen RowsPane, NewScreen #advanced { height: auto; }
    NewScreen PlanPane { min-height: 12; height: 100%; }
    NewScreen.-narrow PlanPane { height: auto; min-height: 5; }
    NewScreen RowsPane { min-height: 5; text-wrap: nowrap; }
    NewScreen #hint { dock: bottom; height: 1; margin: 0 0 3 0; padding: 0 1; text-overflow: ellipsis; text-wrap: nowrap; }
    NewScreen ReadyLine { dock: bottom; height: 2; margin: 0 0 1 0; padding: 0 1; text-overflow: ellipsis; text-wrap: nowrap; }
    """  # noqa: E501
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("v", "rows", "View rows", id="new.rows", tooltip="Every row as the model sees it, and what is wrong."),
        Binding("o", "open", "Open recipe…", id="new.open", tooltip="Open a recipe: one that comes along, or a file."),
        Binding("X", "clear", "Start over…", show=False, id="new.clear", tooltip="Empty the page."),
    ]  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self._question: Question | None = None
        self._timer: Timer | None = None
        self._limit = 0
        self.seen: tuple[Path, int] | None = None
        """The recipe's file and when it was last changed, once it was looked at."""

    def body(self) -> ComposeResult:
        """The page, and below it the sentence on the focused line and the ready line."""
        with VerticalScroll(id="page", can_focus=False):
            with Split("new", least=(40, 32), id="top"):
                yield WhatPane(classes="box")
                yield PlanPane(classes="box")
            yield RowsPane(classes="box")
            with Vertical(id="advanced", classes="box"):
                for name, fields in form().items():
                    yield Section(name, fields)
        yield Static(id="hint", classes="quiet")
        yield ReadyLine()

    def on_mount(self) -> None:
        """Fill what was asked for, and keep an eye on the recipe's file."""
        self.query_one("#advanced").border_title = "every setting  (Space opens a group; * is not the default)"
        self.watch(self.app, "new_request", self._requested)
        self.set_interval(LOOK, self._look)
        self.change(self.draft, at_once=True)

    def on_unmount(self) -> None:
        """Nobody waits any more; a run that has been started goes on."""
        if self._question is not None:
            self._question.cancel()
        self.action_stop_waiting()

    def _requested(self, request: tuple[Path | None, Path | None] | None) -> None:
        if request is None:
            return
        file, data = request
        draft = Draft.of(file) if file else Draft()
        self.begin(replace(draft, data=str(data)) if data else draft)

    # The draft changes, and the page with it

    def change(self, draft: Draft, *, at_once: bool = False) -> None:
        """Take `draft`; the plan follows when nothing has changed for a moment."""
        self.draft, self.outcome = draft, None
        if not self.query(WhatPane):  # which shows the draft when it is there
            return
        if self._question is not None:
            self._question.cancel()
        if self._timer is not None:
            self._timer.stop()
        self._show_draft()
        if draft.missing and not draft.data:
            self._answered(Question(draft), Outcome())
            self.query_one(RowsPane).show(FirstRows())
            return
        self.query_one(PlanPane).wait()
        self._timer = self.set_timer(0.01 if at_once else PAUSE, self._ask)

    @on(Field.Changed)
    def _changed(self, event: Field.Changed) -> None:
        key, value, draft = event.field.key, event.value, self.draft
        if key in ("data", "model"):
            self.change(replace(draft, data=value or "") if key == "data" else replace(draft, model=value or ""))
        elif key == "preset":
            self.change(replace(draft, preset=value if value is not None else "" if draft.file else DEFAULT))
        elif key == "export.gguf" and value is not None:
            self.change(draft.with_setting(key, gguf_text(value)))
        else:
            self.change(draft.with_setting(key, value or None))

    def _show_draft(self, values: dict[str, str] | None = None) -> None:
        """Fill the lines: with `values`, what a run would have; until they are known, with what was typed."""
        draft = self.draft
        given = (values or {}) | draft.settings
        self.query_one(WhatPane).put(draft, given)
        for section in self.query(Section):
            section.put(given)
        file = draft.file.name if draft.file else ""
        self.title_text = f"{file}{' (changed)' if file and draft.unsaved else ''}"
        self.say_ready()
        self._say_hint()

    # Asking the command line

    def _ask(self) -> None:
        self._question = Question(self.draft)
        self._plan(self._question)

    @work(thread=True, exit_on_error=False, group="plan")
    def _plan(self, question: Question) -> None:
        try:
            self.app.call_from_thread(self._loaded, question, question.load())
            self.app.call_from_thread(self._rows, question, question.rows())
            if not question.draft.missing:
                outcome = question.plan()
                self.app.call_from_thread(self._answered, question, outcome)
            else:
                self.app.call_from_thread(self._answered, question, Outcome())
        except AskError:
            return  # cancelled: another question is on its way

    def _loaded(self, question: Question, loaded: recipe.Loaded | None) -> None:
        if question.draft is self.draft and self.is_attached and loaded is not None:
            self._show_draft(values_of(loaded))

    def _rows(self, question: Question, found: FirstRows) -> None:
        if question.draft is self.draft and self.is_attached:
            self.query_one(RowsPane).show(found)

    def _answered(self, question: Question, outcome: Outcome) -> None:
        if question.draft is not self.draft or not self.is_attached:
            return
        self.outcome, plan = outcome, outcome.plan
        self.query_one(PlanPane).show(outcome, self.draft.missing, ascii_only=self.app.ascii)
        self.query_one(WhatPane).tell(plan, "ok" if self.app.ascii else "✓")
        self._limit = plan["memory_limit"] if plan else self._limit
        self.say_ready()

    def say_ready(self) -> None:
        """Say whether a run could begin."""
        doing = "… starting; Esc leaves it" if self.starting else ""
        self.query_one(ReadyLine).show(self.draft, self.outcome, doing)

    def on_descendant_focus(self) -> None:
        """Say what the focused line is about."""
        self._say_hint()

    def _say_hint(self) -> None:
        focused = (
            self.focused.parent if self.focused is not None and isinstance(self.focused.parent, Field) else self.focused
        )
        text = focused.sentence if isinstance(focused, Field) else ""
        if isinstance(focused, SectionHead) and isinstance(focused.parent, Section):
            text = focused.parent.sentence
        self.query_one("#hint", Static).update(plain(text), layout=False)

    # Keys

    @on(Field.Wanted)
    def _wanted(self, event: Field.Wanted) -> None:
        if event.field.key == "data":
            self.app.push_screen(PickFile(Path.cwd(), question="Which data?"), self._data_picked)
        else:
            self.app.push_screen(
                PickModel(self._limit or memory_of(self.app.machine), known=_tiny()), self._model_picked
            )

    def _data_picked(self, path: str | None) -> None:
        if path:
            self.change(replace(self.draft, data=path), at_once=True)
            self.query_one("#field-model", Field).focus()

    def _model_picked(self, name: str | None) -> None:
        if name:
            self.change(replace(self.draft, model=name), at_once=True)

    def action_open(self) -> None:
        """Find a recipe."""
        first = [Entry(str(one.path), f"{one.name}: {one.title}", "comes along") for one in shipped().values()]
        self.app.push_screen(PickFile(Path.cwd(), RECIPES, question="Which recipe?", first=first), self._recipe_picked)

    def _recipe_picked(self, path: str | None) -> None:
        if path:
            self.begin(Draft.of(Path(path)))

    def action_clear(self) -> None:
        """Empty the page, after a question."""
        if self.draft != Draft():
            self.begin(Draft(), "Replace it by an empty page?")

    def _use(self, path: str) -> None:
        self.change(replace(self.draft, data=path), at_once=True)

    def action_rows(self) -> None:
        """Every row."""
        if self.draft.missing == "choose a data file":
            self.app.say("choose a data file first")
            return
        from localtune_tui.screens.data import DataScreen

        self.app.push_screen(DataScreen(self.draft, self._use))

    # The recipe's file may be changed by somebody else

    @work(thread=True, exit_on_error=False, group="look", exclusive=True)
    def _look(self) -> None:
        file = self.draft.file
        if file is None or not self.is_current:
            return
        try:
            found = (file, file.stat().st_mtime_ns)
        except OSError:
            found = (file, 0)
        before, self.seen = self.seen, found
        if before is not None and before != found and before[0] == file:
            self.app.call_from_thread(self.change, self.draft)


def _tiny() -> Sequence[Entry]:
    """The small model that comes along, to try things out with."""
    found = shipped().get("quickstart")
    folder = found.path.parent / "model" if found else None
    return [Entry(str(folder), "the quickstart's tiny model, to try things out", "comes along")] if folder else []
