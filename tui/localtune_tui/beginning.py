"""Where the app begins: on a run that goes on, with the first steps where there is none, else as it was left."""

from pathlib import Path

from localtune.errors import LocaltuneError
from localtune.runs.folder import ALIVE
from localtune.runs.store import all_runs
from localtune_tui.screens.base import TABS

LOOKED_AT = 50
"""Newest runs that are asked whether they go on."""


def beginning(folder: Path | None, mode: str) -> tuple[str, str | None]:
    """Mode and run to begin with; `folder`: a run that was named, `mode`: the tab of the last session. For a thread."""
    if folder is not None and (folder / "plan.json").is_file():
        return "live", str(folder.resolve())
    try:
        runs = all_runs()[::-1]
    except OSError:
        return "runs", None
    for run in runs[:LOOKED_AT]:
        try:
            if run.status().state in ALIVE:
                return "live", run.name
        except (LocaltuneError, OSError):
            continue
    if not runs:
        return "first", None
    return (mode if mode in TABS else "runs"), runs[0].name
