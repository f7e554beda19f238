"""What the app remembers from one session to the next: screen, theme, filters, sizes of panes.

A file that is missing, torn or of another version counts as empty, one that cannot be written is let be: the session
is a comfort, never a reason to fail. It holds no text of the user's data.
"""

import os
from pathlib import Path
from typing import Any

from localtune.errors import InputError


def folder() -> Path:
    """Where it lies: `LOCALTUNE_STATE`, else where this system keeps a user's state."""
    given = os.environ.get("LOCALTUNE_STATE")
    if given:
        return Path(given).expanduser()
    from platformdirs import user_state_path

    return user_state_path("localtune", appauthor=False)


class SessionState:
    """Names with values that JSON can hold; read once, written when something changed and `save` is called."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._values = _read(path)
        self._changed = False

    def text(self, name: str, default: str = "") -> str:
        """The text called `name`, at most 1,000 characters."""
        value = self._values.get(name)
        return value[:1000] if isinstance(value, str) else default

    def number(self, name: str, default: float) -> float:
        """The number called `name`, such as the share of a pane."""
        value = self._values.get(name)
        return float(value) if isinstance(value, int | float) and abs(value) < 1e12 else default

    def flag(self, name: str, default: bool = False) -> bool:
        """The switch called `name`."""
        value = self._values.get(name)
        return value if isinstance(value, bool) else default

    def put(self, name: str, value: str | float | bool) -> None:
        """Remember `value` under `name`."""
        if self._values.get(name) != value:
            self._values[name] = value
            self._changed = True

    def save(self) -> None:
        """Write what has changed, if it can be written."""
        if not self._changed:
            return
        from localtune.runs.files import write_json

        self._changed = False
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_json(self.path, dict(self._values), durable=False)
        except (OSError, ValueError):
            return


def _read(path: Path) -> dict[str, Any]:
    from localtune.runs.files import read_json

    try:
        return read_json(path) if path.is_file() and path.stat().st_size < 1 << 20 else {}
    except (InputError, OSError, RecursionError):
        return {}
