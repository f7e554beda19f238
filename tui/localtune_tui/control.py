"""One app of this machine may ask runs to stop, pause or save; a second one watches, and says so.

It is a lock of the operating system: free again the moment its holder is gone, however it went.
"""

import json
from pathlib import Path

from localtune.errors import InputError
from localtune.runs.lock import RunLock

NAME = "app.lock"


class Control:
    """The right to steer runs, as far as this app holds it."""

    def __init__(self, folder: Path) -> None:
        self._lock = RunLock(folder, NAME)
        self._locked = False
        self.held = False
        self.reason = ""
        """Why it is not held; "" when it is."""

    def take(self) -> bool:
        """Whether it is held now; asks for it where it is not."""
        if self.held:
            return True
        try:
            self._lock.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.__enter__()
            self._locked = True
        except InputError:
            self.reason = f"another localtune ({self._holder()}) steers the runs; this one only watches"
        except OSError:  # a state folder that cannot be written keeps nobody from steering
            self.held, self.reason = True, ""
        else:
            self.held, self.reason = True, ""
        return self.held

    def give_back(self) -> None:
        """Leave it to others."""
        if self._locked:
            self._locked = self.held = False
            self._lock.__exit__(None, None, None)

    def _holder(self) -> str:
        try:
            return f"process {int(json.loads(self._lock.path.read_text(encoding='utf-8'))['pid'])}"
        except (OSError, ValueError, KeyError, TypeError):
            return "another process"
