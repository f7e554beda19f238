"""Where runs lie, and how one is named: by its name, the beginning of it, a path, or "last"."""

import os
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from localtune.errors import InputError, LocaltuneError, Problem
from localtune.runs.folder import ALIVE, Run

LOOKED_AT = 50
"""Newest runs that are asked whether somebody works on them."""
_STAMP = re.compile(r"-(\d{8}-\d{6}(?:-\d+)?)$")


def root() -> Path:
    """Folder of all runs: `LOCALTUNE_RUNS`, or ~/localtune/runs, where a user sees the readable."""
    given = os.environ.get("LOCALTUNE_RUNS")
    return Path(given).expanduser() if given else Path.home() / "localtune" / "runs"


def all_runs() -> list[Run]:
    """Every run below the root, oldest first by its name's time stamp."""
    folder = root()
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if _STAMP.search(path.name) and (path / "plan.json").is_file()]
    return [Run(path) for path in sorted(found, key=lambda path: _STAMP.findall(path.name))]


def living(runs: Sequence[Run]) -> Iterator[Run]:
    """Those of `runs`, as `all_runs` lists them, that somebody works on, the newest first."""
    for run in runs[: -LOOKED_AT - 1 : -1]:
        try:
            if run.status().state in ALIVE:
                yield run
        except (LocaltuneError, OSError):
            continue


def find_run(name: str) -> Run:
    """The run called `name`: "last", a path, a full name or the beginning of exactly one."""
    if (Path(name) / "plan.json").is_file():
        return Run(Path(name).resolve())
    runs = all_runs()
    if name == "last" and runs:
        return runs[-1]
    exact = [run for run in runs if run.name == name]
    matching = exact or [run for run in runs if run.name.startswith(name)]
    if len(matching) == 1:
        return matching[0]
    raise InputError(_not_found(name, matching))


def free_path(name: str) -> Path:
    """A path for a new run called `name`, that does not exist yet."""
    stem = f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    path, number = root() / stem, 1
    while path.exists():
        number += 1
        path = root() / f"{stem}-{number}"
    return path


def _not_found(name: str, matching: Sequence[Run]) -> Problem:
    if matching:
        names = ", ".join(run.name for run in matching[:5])
        return Problem("run.ambiguous", f"{name!r} fits {len(matching)} runs: {names}", fix="type more of the name")
    what = "there are no runs yet" if name == "last" else f"no run is called {name!r}"
    return Problem("run.unknown", what, where=str(root()), fix="localtune runs ls")
