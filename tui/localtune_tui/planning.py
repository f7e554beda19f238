"""What the command line says of a draft: its first rows, and the plan. Asked in a thread, and dropped when it is stale.

No question here downloads a model: what is not on this machine is told with its size, and a download needs a yes.
"""

import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from localtune.errors import InputError
from localtune.recipe import Loaded
from localtune.settings import is_hub_data
from localtune_tui.asking import CANCELLED, Asked, AskError
from localtune_tui.draft import Draft

ROWS = 3
"""First rows that are shown."""
OFFLINE = {"HF_HUB_OFFLINE": "1"}


@dataclass(frozen=True)
class Outcome:
    """What became of planning a draft."""

    loaded: Loaded | None = None
    """None where the settings are wrong."""
    plan: Mapping[str, Any] | None = None
    """As `localtune plan --json` answers; also where it does not fit."""
    problem: str = ""
    """What is in the way, in the command line's own words; empty where nothing is."""
    name: str = ""
    """The problem's stable name, such as "memory.plan"."""

    @property
    def ready(self) -> bool:
        """Whether a run could begin."""
        return self.plan is not None and not self.problem

    @property
    def absent(self) -> bool:
        """Whether all that is in the way is a model that would have to be downloaded first."""
        return self.name == "model.declined"


@dataclass(frozen=True)
class FirstRows:
    """The first rows as the model sees them, or in normal form."""

    rows: Sequence[Mapping[str, Any]] = ()
    """As `localtune data show --json` answers."""
    problem: str = ""


class Question:
    """One draft's questions, in their order. `cancel` ends the one under way and those to come."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self._asked: Asked | None = None
        self._gone = False
        self._lock = threading.Lock()

    def cancel(self) -> None:
        """Nobody waits any more."""
        with self._lock:
            self._gone = True
            if self._asked is not None:
                threading.Thread(target=self._asked.cancel, daemon=True).start()  # which waits until it is gone

    def load(self) -> Loaded | None:
        """Every setting; None where something is wrong with one, or no model is chosen."""
        try:
            return None if self.draft.missing else self.draft.load()
        except InputError:
            return None

    def rows(self) -> FirstRows:
        """The first rows; without a model that is here, in normal form. Raises `AskError` only when cancelled."""
        draft, arguments = self.draft, ("-n", str(ROWS), "--json")
        remote = self._remote
        if (draft.model or draft.file) and not remote:
            try:
                return self._rows("data", "show", *draft.arguments(), *arguments)
            except AskError as error:
                if error.cancelled or draft.file or not error.name.startswith("model."):
                    return self._problem(error)
        if draft.file:
            return FirstRows()
        try:
            return self._rows("data", "show", *draft.arguments(model=False), *arguments)
        except AskError as error:
            return self._problem(error)

    def plan(self) -> Outcome:
        """The plan. Raises `AskError` only when cancelled."""
        try:
            loaded = self.draft.load()
        except InputError as error:
            return Outcome(problem=str(error), name=error.problems[0].code)
        arguments = ("plan", *self.draft.arguments(), "--no-download", "--json")
        try:
            return Outcome(loaded, self._ask(*arguments, offline=not self._remote))
        except AskError as error:
            if error.cancelled:
                raise
            if error.name != "model.offline" or self._remote or os.environ.get("HF_HUB_OFFLINE"):
                return Outcome(loaded, error.value, error.text, error.name)
        try:
            return Outcome(loaded, self._ask(*arguments, offline=False))
        except AskError as error:
            if error.cancelled:
                raise
            return Outcome(loaded, error.value, error.text, error.name)

    @property
    def _remote(self) -> bool:
        """Whether the rows lie on the hub, so that it has to be asked."""
        return bool(self.draft.data) and is_hub_data(self.draft.data) and not os.path.exists(self.draft.data)

    def _rows(self, *arguments: str) -> FirstRows:
        return FirstRows(self._ask(*arguments, offline=not self._remote)["rows"])

    def _problem(self, error: AskError) -> FirstRows:
        if error.cancelled:
            raise error
        return FirstRows(problem=error.text)

    def _ask(self, *arguments: str, offline: bool) -> Any:
        asked = Asked(environment=OFFLINE if offline else {})
        with self._lock:
            if self._gone:
                raise AskError(CANCELLED, "")
            self._asked = asked
        return asked.run_json(*arguments)
