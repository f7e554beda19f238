"""Data: every row, what is wrong with it, and exactly what of it is learned."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, cast

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.timer import Timer
from textual.widgets import DataTable, Input, Static

from localtune_tui.asking import AskError
from localtune_tui.checked import code_by_place, findings_said
from localtune_tui.draft import Draft
from localtune_tui.inspecting import Inspection, Row
from localtune_tui.modals.confirm import Answer, Confirm
from localtune_tui.modals.fix_data import Fix, FixData, clean_name
from localtune_tui.planned import Said
from localtune_tui.screens.divided import DividedScreen
from localtune_tui.text import plain
from localtune_tui.widgets.lengths import lengths_line
from localtune_tui.widgets.line import Line
from localtune_tui.widgets.new_panes import lines
from localtune_tui.widgets.painted import ASCII_MARK, MARK, painted, token_lines
from localtune_tui.widgets.rows_table import RowsTable
from localtune_tui.widgets.split import Split

MOST = 10_000
"""Rows that are listed."""
AHEAD = 40
"""First rows that are asked for in one go, so that going through them is quick."""
BATCH = 200
"""Rows that are put into the table together."""
REST = 0.15
"""Seconds the cursor rests before its row is asked for."""


class DataScreen(DividedScreen):
    """The screen to trust: what is learned, token by token."""

    mode = "new"
    AUTO_FOCUS = "RowsTable"
    HELP = (
        "Every row, with its tokens and what becomes of it. The row under the cursor stands at the right as the model "
        "sees it; what is learned is painted. Below are the findings of all rows, and what can be mended. / shows "
        "only rows with some words in their first 8,000 characters or their issue."
    )
    DEFAULT_CSS = """
    DataScreen #findings { height: auto; max-height: 9; scrollbar-size: 1 1; }
    DataScreen.-short #findings { max-height: 6; }
    DataScreen #filter { display: none; }
    DataScreen #filter.-open { display: block; }
    DataScreen #row { height: 1fr; scrollbar-size: 1 1; }
    DataScreen #lengths { height: 1; padding: 0 1; text-wrap: nowrap; text-overflow: ellipsis; }
    DataScreen #both { height: 1fr; grid-columns: 42% 1fr; }
    DataScreen.-narrow #both { grid-columns: 1fr 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("t", "ids", "Token ids", id="data.ids", tooltip="The row token by token: place, id, weight, text."),
        Binding("m", "mask", "Mask", id="data.mask", tooltip="Paint what is learned, or show the text alone."),
        Binding("i", "issue", "Next issue", id="data.issue", tooltip="To the next row with something to say of it."),
        Binding("slash", "filter", "Filter", id="data.filter", tooltip="Only rows with these words; issue = any."),
        Binding("f", "fix", "Fix…", id="data.fix", tooltip="Write a clean copy without what is wrong."),
        Binding("y", "copy", "Copy command", id="data.copy", tooltip="Copy the command that shows this row."),
        Binding("escape", "back", "Back", id="data.back", tooltip="Close the filter, else go back to New."),
    ]  # fmt: skip

    def __init__(self, draft: Draft, use: Callable[[str], None] | None = None) -> None:
        """`use`: what to do with the file of a clean copy."""
        super().__init__()
        self.inspection = Inspection(draft)
        self._use = use
        self._whole: dict[str, Row] = {}
        self._found: Mapping[str, Any] = {}
        self._ids, self._mask = False, True
        self._reading, self._more = True, False
        """Whether rows still come; whether there are more of them than are listed."""
        self._timer: Timer | None = None

    def body(self) -> ComposeResult:
        """Rows and findings at the left, the row at the right, lengths below."""
        with Split("data", least=(28, 28), id="both"):
            with Vertical(id="left"):
                with Vertical(classes="box", id="rows"):
                    yield Line(placeholder="words, or issue", compact=True, id="filter")
                    yield RowsTable()
                with VerticalScroll(classes="box", id="findings"):
                    yield Static(Content("looking at all rows …"), id="findings-text")
            with Vertical(classes="box", id="right"), VerticalScroll(id="row"):
                yield Static(id="row-text")
        yield Static(id="lengths")

    def on_mount(self) -> None:
        """Ask for everything."""
        draft = self.inspection.draft
        self.title_text = f"Data > {draft.data or (draft.file.name if draft.file else '')}"
        for pane in ("rows", "findings"):
            self.query_one(f"#{pane}").border_title = pane
        self._inspect()

    def on_unmount(self) -> None:
        """Nobody waits any more."""
        self.inspection.cancel()

    # Asking

    @work(thread=True, exit_on_error=False, group="inspect")
    def _inspect(self) -> None:
        waiting, seen = list[Row](), list[bool]()

        def on_row(row: Row) -> None:
            waiting.append(row)
            if len(waiting) >= (BATCH if seen else 20):
                self.app.call_from_thread(self._add, waiting.copy())
                waiting.clear()
                seen.append(True)

        inspection = self.inspection
        try:
            self.app.call_from_thread(self._first, inspection.first_rows(AHEAD))
            more = inspection.lines(MOST, on_row)
            self.app.call_from_thread(self._add, waiting.copy(), True, more)
            self.app.call_from_thread(self._checked, inspection.findings())
        except AskError as error:
            if not error.cancelled:
                self.app.call_from_thread(self._failed, error.text)

    def _first(self, rows: dict[str, Row]) -> None:
        self._whole |= rows
        if rows and self.is_attached and not self.query_one(RowsTable).row_count:
            self._show_row(next(iter(rows.values())))

    def _add(self, rows: Sequence[Row], done: bool = False, more: bool = False) -> None:
        if not self.is_attached:
            return
        table = self.query_one(RowsTable)
        self._reading, self._more = not done, more
        table.take(rows)
        self._counted()
        tokens = [row["tokens"] for row in table.rows_known if row["tokens"] is not None]
        self.query_one("#lengths", Static).update(lengths_line(tokens, ascii_only=self.app.ascii), layout=False)

    @on(RowsTable.Filled)
    def _counted(self) -> None:
        """Say how many rows there are; where none has the words that are asked for, show none at the right either."""
        table = self.query_one(RowsTable)
        told = f"rows {table.counted}{' …' if self._reading else ''}"
        self.query_one("#rows").border_title = f"the first {told}" if self._more else told
        if table.rows_known and not table.row_count:
            pane = self.query_one("#right")
            pane.border_title = pane.border_subtitle = ""
            self.query_one("#row-text", Static).update(Content.styled("no row has these words", "dim"))

    def _checked(self, found: Mapping[str, Any]) -> None:
        if not self.is_attached:
            return
        self._found = found
        self.query_one("#findings-text", Static).update(lines(findings_said(found), 400))
        self.query_one("#findings").border_title = f"findings {len(found['findings'])}"
        self.query_one(RowsTable).note(code_by_place(found))

    def _failed(self, problem: str) -> None:
        if self.is_attached:
            said = [Said(line, "bad") for line in problem.splitlines()]
            self.query_one("#findings-text", Static).update(lines(said, 600))

    # The row under the cursor

    @on(DataTable.RowHighlighted)
    def _moved(self) -> None:
        if self._timer is not None:
            self._timer.stop()
        row = self.query_one(RowsTable).current
        if row is None:
            return
        if row["place"] in self._whole:
            self._show_row(self._whole[row["place"]])
        else:
            self._timer = self.set_timer(REST, lambda: self._fetch(row))

    @work(thread=True, exit_on_error=False, group="row", exclusive=True)
    def _fetch(self, row: Row) -> None:
        try:
            whole: Row = self.inspection.row(row["row"])
        except AskError as error:
            if error.cancelled:
                return
            whole = {"place": row["place"], "problem": error.text}
        self.app.call_from_thread(self._fetched, row, whole)

    def _fetched(self, row: Row, whole: Row) -> None:
        self._whole[row["place"]] = whole
        if self.is_attached and self.query_one(RowsTable).current is row:
            self._show_row(whole)

    def _show_row(self, whole: Row) -> None:
        pane, mark = self.query_one("#right"), ASCII_MARK if self.app.ascii else MARK
        pane.border_title = plain(f"{whole['place']}{' as the model sees it' if 'segments' in whole else ''}", 120)
        pane.border_subtitle = f"{mark} learned" if "segments" in whole and self._mask else ""
        if "problem" in whole:
            content = lines([Said(line, "bad") for line in whole["problem"].splitlines()], 600)
        elif self._ids and "segments" in whole:
            content = token_lines(whole)
        else:
            content = painted(whole, mask=self._mask, ascii_only=self.app.ascii)
        if "tokens" in whole:
            share = whole["learned"] / max(whole["tokens"], 1)
            counts = plain(f"{whole['tokens']:,} tokens, {whole['learned']:,} learned ({share:.0%})").stylize("bold")
            content = Content("\n\n").join([content, counts])
        row = self.query_one(RowsTable).current
        if row is not None and row["place"] == whole["place"] and row["issue"] and "problem" not in whole:
            content = Content("\n\n").join([lines([Said(row["issue"], "caution")]), content])
        self.query_one("#row-text", Static).update(content)

    # Keys

    def action_ids(self) -> None:
        """Tokens, or text."""
        self._ids = not self._ids
        self._moved()

    def action_mask(self) -> None:
        """Paint what is learned, or not."""
        self._mask = not self._mask
        self._moved()

    def action_issue(self) -> None:
        """The next row of which there is something to say."""
        if not self.query_one(RowsTable).next_issue():
            self.app.say("no other row has an issue")

    def action_filter(self) -> None:
        """Type what rows shall have."""
        field = self.query_one("#filter", Input)
        field.add_class("-open")
        field.focus()

    @on(Input.Changed, "#filter")
    def _filtered(self, event: Input.Changed) -> None:
        self.query_one(RowsTable).narrow(event.value)

    @on(Input.Submitted, "#filter")
    def _taken(self) -> None:
        self.query_one(RowsTable).focus()

    def action_back(self) -> None:
        """Close the filter, or the view."""
        field = self.query_one("#filter", Input)
        if field.has_class("-open"):
            field.remove_class("-open")
            field.value = ""
            self.query_one(RowsTable).focus()
        else:
            self.app.pop_screen()

    def action_copy(self) -> None:
        """The command that shows this row."""
        self.app.copy(self.command_of("data.copy"))

    def command_of(self, action_id: str) -> str:
        """What could be typed instead."""
        inspection, row = self.inspection, self.query_one(RowsTable).current
        verb = {"data.fix": "data check", "data.copy": "data show"}.get(action_id, "")
        if not verb:
            return ""
        mask = ["--mask"] if inspection.with_model else []
        one = ["--row", row["row"], *mask] if row and verb == "data show" else []
        return self.app.cli(*verb.split(), *inspection.arguments, *one)

    @work
    async def action_fix(self) -> None:
        """Ask what shall be mended, write the copy, and offer it to the run."""
        if not self._found:
            self.app.say("still looking at the rows: a moment")
            return
        counts = {finding["code"]: finding["count"] for finding in self._found["findings"]}
        source = self.inspection.draft.data or (self._found["files"] or ["data"])[0]
        fix = await self.app.push_screen_wait(FixData(counts, clean_name(source)))
        if fix is None:
            return
        said, done = cast(tuple[str, bool], await self._write(fix).wait())
        self.app.say(said, error=not done)
        question = Confirm(f"Train on {fix.output}?", said, (Answer("no", "Keep the old one"), Answer("yes", "Use it")))
        if done and self._use and await self.app.push_screen_wait(question) == "yes":
            self._use(fix.output)
            self.app.pop_screen()

    @work(thread=True, exit_on_error=False, group="fix")
    def _write(self, fix: Fix) -> tuple[str, bool]:
        try:
            fixed = self.inspection.fix(fix.kinds, fix.output)
        except AskError as error:
            return error.text or "nothing was written", False
        left_out = ", ".join(f"{reason} {count:,}" for reason, count in fixed["dropped"].items() if count)
        return f"wrote {fix.output}: {fixed['kept']:,} rows" + (f"; left out: {left_out}" if left_out else ""), True
