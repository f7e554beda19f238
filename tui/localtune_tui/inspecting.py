"""What the command line says of all rows of a draft: a line each, the findings, and any row in full.

Its methods block, so they are for threads; `cancel` ends what is under way and what would come.
"""

import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from localtune.settings import is_hub_data
from localtune_tui.asking import CANCELLED, Asked, AskError
from localtune_tui.draft import Draft
from localtune_tui.planning import OFFLINE

Row = Mapping[str, Any]


class Inspection:
    """One draft's rows."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self.with_model = bool(draft.model or draft.file)
        """Whether rows are shown as the model sees them; no longer once the model turns out not to be here."""
        self._asked: set[Asked] = set()
        self._gone = False
        self._lock = threading.Lock()

    @property
    def arguments(self) -> list[str]:
        """Data, model and settings, after the verb."""
        return self.draft.arguments(model=self.with_model)

    def cancel(self) -> None:
        """Nobody waits any more."""
        with self._lock:
            self._gone = True
            for asked in self._asked:
                asked.cancel()

    def first_rows(self, count: int) -> dict[str, Row]:
        """The first rows in full, by place. Raises `AskError`."""
        asked = ["-n", str(count), *(["--ids"] if self.with_model else []), "--json"]
        try:
            return {row["place"]: row for row in self._json("show", *asked)["rows"]}
        except AskError as error:
            if not error.name.startswith("model.") or self.draft.file:
                raise
        self.with_model = False
        return {row["place"]: row for row in self._json("show", "-n", str(count), "--json")["rows"]}

    def row(self, row: str) -> Row:
        """The row called `row` in full. Raises `AskError` with why it cannot be used."""
        ids = ["--ids"] if self.with_model else []
        found: Row = self._json("show", "--row", row, *ids, "--json")["rows"][0]
        return found

    def lines(self, most: int, on_row: Callable[[Row], None]) -> bool:
        """Every row on a line, as it is read, its text in small letters; whether there are more than `most`.

        Raises `AskError`.
        """
        more: list[bool] = []

        def on_line(line: str) -> None:
            value = json.loads(line)
            if value["type"] == "end":
                more.append(value["more"])
            else:
                on_row(value | {"text": str(value.get("text", "")).casefold()})

        with self._asking() as asked:
            asked.stream("data", "list", *self.arguments, "-n", str(most), "--json", "--text", on_line=on_line)
        return more[-1:] == [True]

    def findings(self) -> Mapping[str, Any]:
        """As `localtune data check --json` answers. Raises `AskError` where it does not."""
        try:
            found: Mapping[str, Any] = self._json("check", "--json")
            return found
        except AskError as error:
            if isinstance(error.value, dict):  # it ends with 2 where a run would stop
                return error.value
            raise

    def fix(self, kinds: Sequence[str], output: str) -> Mapping[str, Any]:
        """Write a clean copy; what became of the rows. Raises `AskError`."""
        try:
            answer = self._json("check", "--fix", ",".join(kinds), "-o", output, "--json")
        except AskError as error:
            if not (isinstance(error.value, dict) and "fixed" in error.value):
                raise
            answer = error.value
        fixed: Mapping[str, Any] = answer["fixed"]
        return fixed

    def _json(self, verb: str, *options: str) -> Any:
        with self._asking() as asked:
            return asked.run_json("data", verb, *self.arguments, *options)

    @contextmanager
    def _asking(self) -> Iterator[Asked]:
        data = self.draft.data
        remote = bool(data) and is_hub_data(data) and not os.path.exists(data)
        asked = Asked(environment={} if remote else OFFLINE)
        with self._lock:
            if self._gone:
                raise AskError(CANCELLED, "")
            self._asked.add(asked)
        try:
            yield asked
        finally:
            with self._lock:
                self._asked.discard(asked)
