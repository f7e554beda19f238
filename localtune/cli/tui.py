"""`localtune` alone, or with a folder: the full-screen app. It is a package of its own, imported when it is opened."""

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from localtune.errors import InputError, Problem
from localtune.runs.store import all_runs, living


@click.command()
@click.option("--ascii", "only_ascii", is_flag=True, help="Draw charts and bars with ASCII characters only.")
@click.argument("folder", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
def tui(folder: Path | None, only_ascii: bool) -> None:
    """Open the app; with FOLDER, the folder of a run, on that run."""
    if not on_terminal():
        what = "the app needs a terminal; every command works without one"
        raise InputError(Problem("tui.no-terminal", what, fix="localtune --help"))
    if folder is not None and not (folder / "plan.json").is_file():
        fix = "localtune runs ls    or   localtune data check FOLDER"
        raise InputError(Problem("tui.not-a-run", "this folder is not a run's", where=str(folder), fix=fix))
    app = importlib.import_module("localtune_tui.app").LocaltuneApp(folder, ascii=only_ascii)
    app.run()
    if not app.return_code:
        for line in _goes_on():
            click.echo(line, err=True)
    sys.exit(app.return_code or 0)


def _goes_on() -> Iterator[str]:
    """What trains without the app, for who has just left it."""
    with contextlib.suppress(OSError):
        for run in living(all_runs()):
            yield f"{run.name} goes on; localtune  shows it again,  localtune stop {run.name}  ends it"


def on_terminal() -> bool:
    """Whether there is somebody to see the app, at a terminal that can draw it."""
    return sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
