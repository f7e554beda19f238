"""The rows of a data set, a line each; those with certain words alone, where some are asked for."""

from collections.abc import Mapping, Sequence

from rich.text import Text
from textual.widgets import DataTable

from localtune_tui.inspecting import Row
from localtune_tui.text import shown

COLUMNS: Mapping[str, int | None] = {"row": 8, "turns": 5, "tokens": 7, "issue": None}
"""Name -> width in cells; None = as wide as what is in it."""


class RowsTable(DataTable[Text]):
    """Rows as `localtune data list --json` tells them, with what `check` found beside."""

    DEFAULT_CSS = "RowsTable { height: 1fr; background: transparent; scrollbar-size: 1 1; }"

    def __init__(self) -> None:
        super().__init__(cursor_type="row")
        self.rows_known: list[Row] = []
        """All of them, whatever is shown."""
        self._places: dict[str, int] = {}
        self._words: Sequence[str] = ()
        self._notes: Mapping[str, str] = {}

    def on_mount(self) -> None:
        """Name the columns."""
        for name, width in COLUMNS.items():
            self.add_column(name, key=name, width=width)

    @property
    def current(self) -> Row | None:
        """The row under the cursor."""
        if not self.row_count:
            return None
        key = self.coordinate_to_cell_key(self.cursor_coordinate).row_key.value or ""
        return self.rows_known[int(key)] if key else None

    def take(self, rows: Sequence[Row]) -> None:
        """Add these rows at the end."""
        first = len(self.rows_known)
        self.rows_known += rows
        self._put(range(first, len(self.rows_known)))

    def note(self, notes: Mapping[str, str]) -> None:
        """Say of the row at a place, where there is nothing else to say, what `notes` has for it."""
        self._notes = notes
        self._refill()

    def narrow(self, words: str) -> None:
        """Show rows with all of these words; "issue" stands for any."""
        self._words = words.lower().split()
        self._refill()

    def next_issue(self) -> bool:
        """Go to the next row of which there is something to say; whether there is one."""
        order = [*range(self.cursor_row + 1, self.row_count), *range(self.cursor_row)]
        at = next((at for at in order if self.get_row_at(at)[3].plain), None)
        if at is not None:
            self.move_cursor(row=at)
        return at is not None

    def _refill(self) -> None:
        at = self.cursor_row
        self.clear()
        self._put(range(len(self.rows_known)))
        self.move_cursor(row=min(at, max(0, self.row_count - 1)))

    def _put(self, numbers: range) -> None:
        for number in numbers:
            row = self.rows_known[number]
            issue = row["issue"] or self._notes.get(row["place"], "")
            about = f"{row['row']} {issue} {'issue' if issue else ''}".lower()
            if all(word in about for word in self._words):
                tokens = "" if row["tokens"] is None else f"{row['tokens']:,}"
                self.add_row(
                    Text(shown(row["row"], 40)),
                    Text(str(row["turns"])),
                    Text(tokens, justify="right"),
                    Text(shown(issue, 160)),
                    key=str(number),
                )
