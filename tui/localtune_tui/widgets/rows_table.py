"""The rows of a data set, a line each; those with certain words alone, where some are asked for."""

from collections.abc import Mapping, Sequence

from rich.text import Text
from textual.message import Message
from textual.widgets import DataTable

from localtune_tui.inspecting import Row
from localtune_tui.text import shown

BATCH = 400
"""Rows that are put in without a look at the keys."""
COLUMNS: Mapping[str, int | None] = {"row": 6, "turns": 5, "tokens": 7, "issue": None}
"""Name -> width in cells; None = as wide as what is in it."""


class RowsTable(DataTable[Text]):
    """Rows as `localtune data list --json --text` tells them, with what `check` found beside."""

    class Filled(Message):
        """Some more rows stand here, or fewer than before."""

    DEFAULT_CSS = "RowsTable { height: 1fr; background: transparent; scrollbar-size: 1 1; }"

    def __init__(self) -> None:
        super().__init__(cursor_type="row")
        self.rows_known: list[Row] = []
        """All of them, whatever is shown."""
        self._filled, self._turn = 0, 0
        self._words: Sequence[str] = ()
        self._notes: Mapping[str, str] = {}

    def on_mount(self) -> None:
        """Name the columns."""
        for name, width in COLUMNS.items():
            self.add_column(name, key=name, width=width)

    @property
    def counted(self) -> str:
        """How many rows there are, and how many of them are shown where that is fewer: "12 of 200"."""
        known = f"{len(self.rows_known):,}"
        return f"{self.row_count:,} of {known}" if self._words else known

    @property
    def current(self) -> Row | None:
        """The row under the cursor."""
        if not self.row_count:
            return None
        key = self.coordinate_to_cell_key(self.cursor_coordinate).row_key.value or ""
        return self.rows_known[int(key)] if key else None

    def take(self, rows: Sequence[Row]) -> None:
        """Add these rows at the end."""
        filled = self._filled == len(self.rows_known)
        self.rows_known += rows
        if filled:
            self._fill(self._turn, len(rows))

    def note(self, notes: Mapping[str, str]) -> None:
        """Say of the row at a place, where there is nothing else to say, what `notes` has for it."""
        self._notes = notes
        for number, row in enumerate(self.rows_known):
            if row["place"] in notes and not row["issue"] and not self._words and number < self._filled:
                self.update_cell(str(number), "issue", Text(shown(notes[row["place"]], 160)))
        if self._words:
            self._refill()

    def narrow(self, words: str) -> None:
        """Show rows with all of these words; "issue" stands for any."""
        self._words = words.casefold().split()
        self._refill()

    def next_issue(self) -> bool:
        """Go to the next row of which there is something to say; whether there is one."""
        order = [*range(self.cursor_row + 1, self.row_count), *range(self.cursor_row)]
        at = next((at for at in order if self.get_row_at(at)[3].plain), None)
        if at is not None:
            self.move_cursor(row=at)
        return at is not None

    def _refill(self) -> None:
        self._turn, self._filled = self._turn + 1, 0
        self.clear()
        self._fill(self._turn)

    def _fill(self, turn: int, count: int = BATCH) -> None:
        """Put in the next rows, and after them more, so that keys are heeded in between."""
        if turn != self._turn:
            return
        end = min(len(self.rows_known), self._filled + count)
        self._put(range(self._filled, end))
        self._filled = end
        self.post_message(self.Filled())
        if end < len(self.rows_known):
            self.call_later(self._fill, turn)

    def _put(self, numbers: range) -> None:
        for number in numbers:
            row = self.rows_known[number]
            issue = row["issue"] or self._notes.get(row["place"], "")
            about = f"{row['row']} {issue} {'issue' if issue else ''}".casefold()
            if all(word in about or word in row["text"] for word in self._words):
                tokens = "" if row["tokens"] is None else f"{row['tokens']:,}"
                self.add_row(
                    Text(shown(row["row"], 40)),
                    Text(str(row["turns"])),
                    Text(tokens, justify="right"),
                    Text(shown(issue, 160)),
                    key=str(number),
                )
