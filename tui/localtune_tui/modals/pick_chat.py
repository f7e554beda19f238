"""Whom to talk to: what runs have made, newest first, a GGUF file, or a model's folder."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from localtune.errors import LocaltuneError
from localtune.runs.folder import ALIVE
from localtune.runs.store import all_runs
from localtune.sizes import readable
from localtune_tui.modals.pick import Entry
from localtune_tui.modals.pick_file import PickFile

MOST_RUNS = 100
"""Newest runs that are looked at."""


class PickChat(PickFile):
    """Comes back with a run's name, a file or a folder."""

    HELP = (
        "Type a few letters of a run, a GGUF file or a path. Up and Down choose, Enter takes it; a folder with a model "
        "in it can be typed. Tab shows the folders as a tree instead. Escape closes the dialog."
    )

    def __init__(self) -> None:
        super().__init__(Path.cwd(), (".gguf",), question="Chat with which model?")
        self._asked = False

    def found(self, typed: str, gone: Callable[[], bool]) -> Sequence[Entry]:
        """Runs and what they made, then files here."""
        if not self._asked:
            self._first, self._asked = tuple(made()), True
        return super().found(typed, gone)

    def taken(self, typed: str) -> str | None:
        """Also a folder that holds a model."""
        path = Path(typed.strip()).expanduser()
        return str(path) if _is_model(path) else super().taken(typed)

    def take(self, value: str | None) -> None:
        """A folder with a model in it is an answer, others are gone into."""
        if value and _is_model(Path(value)):
            self.dismiss(value.rstrip("/\\"))
        else:
            super().take(value)


def made() -> Iterator[Entry]:
    """The newest runs that are over and have made something, each with its GGUF files. For a thread."""
    try:
        runs = all_runs()[::-1][:MOST_RUNS]
    except OSError:
        return
    for run in runs:
        try:
            products = [] if run.status().state in ALIVE else run.products()
            if products:
                yield Entry(run.name, run.name, "base and tuned")
            for path in products:
                if path.suffix == ".gguf":
                    yield Entry(str(path), f"{path.name}  of {run.name}", readable(path.stat().st_size))
        except (LocaltuneError, OSError):
            continue


def _is_model(path: Path) -> bool:
    try:
        return (path / "config.json").is_file()
    except (OSError, ValueError):
        return False
