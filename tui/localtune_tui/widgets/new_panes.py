"""What the New screen says beside and below its form: the plan, the first rows, and whether a run could begin."""

import os
import re
from collections.abc import Iterable
from dataclasses import replace

from textual.content import Content
from textual.widgets import Static

from localtune_tui.draft import Draft
from localtune_tui.planned import Said, plan_said
from localtune_tui.planning import FirstRows, Outcome
from localtune_tui.refused import few_lines
from localtune_tui.text import shown
from localtune_tui.widgets.painted import ASCII_MARK, MARK, on_a_line

_CODE = re.compile(r"^error\[[\w.-]+\]: ")
COLOURS = {"": "", "good": "$good", "bad": "$bad", "caution": "$caution", "quiet": "dim"}
"""Weight of a line -> its style."""


def lines(said: Iterable[Said], limit: int = 300) -> Content:
    """Lines with their weights."""
    return Content("\n").join(
        Content.styled(shown(one.text, limit), COLOURS[one.weight]) if one.weight else Content(shown(one.text, limit))
        for one in said
    )


class PlanPane(Static):
    """The plan, grey while it is not that of what stands in the form."""

    DEFAULT_CSS = "PlanPane.-stale { text-style: dim; }"

    def wait(self) -> None:
        """What is shown is not true any more."""
        self.add_class("-stale")
        self.border_title = "plan (being recomputed)"

    def show(self, outcome: Outcome, missing: str, *, ascii_only: bool) -> None:
        """Say what became of it."""
        self.remove_class("-stale")
        self.border_title = "plan"
        said: list[Said] = []
        if outcome.plan is not None and outcome.loaded is not None:
            said += plan_said(outcome.plan, outcome.loaded.recipe, ascii_only=ascii_only)
        said += [Said(line, "" if outcome.absent else "bad") for line in few_lines(outcome.problem)]
        self.update(lines(said or [Said(f"{missing or 'nothing is planned yet'}: the plan follows", "quiet")], 600))


class RowsPane(Static):
    """The first rows, a line each."""

    _found = FirstRows()

    def show(self, found: FirstRows) -> None:
        """Say them."""
        self._found = found
        self._paint()

    def on_resize(self) -> None:
        """Lines are cut to the width."""
        self._paint()

    def _paint(self) -> None:
        is_ascii = getattr(self.app, "ascii", False)
        learned = any(row.get("segments") for row in self._found.rows)
        self.border_title = "first rows as the model sees them" if learned else "first rows"
        self.border_subtitle = f"{ASCII_MARK if is_ascii else MARK} learned  v all rows" if learned else ""
        if self._found.problem:
            self.update(lines([Said(line, "bad") for line in self._found.problem.splitlines()[:ROWS]], 400))
            return
        width = max(20, self.size.width - 3)
        rows = [
            Content("").join([Content(f"{number} "), on_a_line(row, width, ascii_only=is_ascii)])
            for number, row in enumerate(self._found.rows, 1)
        ]
        self.update(Content("\n").join(rows) if rows else Content.styled("choose a data file to see its rows", "dim"))


ROWS = 3
"""Lines of a problem with the rows."""


class ReadyLine(Static):
    """Whether the run could begin, and what is missing; what could be typed instead; whether it is saved."""

    def show(self, draft: Draft, outcome: Outcome | None, doing: str = "") -> None:
        """Say it."""
        first, fix = readiness(draft, outcome) if not doing else (Said(doing), "")
        name = draft.file.name if draft.file else "no recipe file"
        saved = f"   unsaved changes: {name}" if draft.file else f"   unsaved: {name}"
        first = replace(first, text=first.text + (saved if draft.unsaved and not draft.missing else ""))
        same = f"same as: {draft.command()}" if not draft.missing else ""
        self.update(lines([first, Said(fix or same, "quiet")], 400), layout=False)


def readiness(draft: Draft, outcome: Outcome | None) -> tuple[Said, str]:
    """The one sentence that matters, and what mends it, where something is in the way."""
    if draft.missing:
        return Said(f"○ {draft.missing}: Enter on its line", "caution"), ""
    if outcome is None:
        return Said("… planning", "quiet"), ""
    if outcome.ready:
        return Said("✓ ready: ^r starts the run", "good"), ""
    if outcome.absent:
        return Said("○ the model is not on this machine: ^r asks, downloads it and starts", "caution"), ""
    told = [line.strip() for line in few_lines(outcome.problem) if line.strip()] or ["no plan"]
    first = _CODE.sub("", told[0])
    if draft.file is not None:
        first = first.replace(f"{draft.file.parent}{os.sep}", "")
    return Said(f"✗ {first}", "bad"), next((line for line in told if line.startswith("fix:")), "")
