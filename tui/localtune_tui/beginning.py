"""Where the app begins: on a run that goes on, with the first steps where there is none, else as it was left."""

from pathlib import Path

from localtune.runs.store import all_runs, living
from localtune_tui.screens.base import TABS


def beginning(folder: Path | None, mode: str) -> tuple[str, str | None]:
    """Mode and run to begin with; `folder`: a run that was named, `mode`: the tab of the last session. For a thread."""
    if folder is not None and (folder / "plan.json").is_file():
        return "live", str(folder.resolve())
    try:
        runs = all_runs()
    except OSError:
        return "runs", None
    if (run := next(living(runs), None)) is not None:
        return "live", run.name
    if not runs:
        return "first", None
    return (mode if mode in TABS else "runs"), runs[-1].name
