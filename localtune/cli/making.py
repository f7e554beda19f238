"""What every command that makes products shares: which run, where to, and events shown as they come."""

import os
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any, TypeVar

import click

from localtune.errors import InputError, Problem, escaped, safe
from localtune.events import Event, Proof
from localtune.events import to_json as event_json
from localtune.job import Job, read_job
from localtune.redacted import without_tokens
from localtune.runs.files import folder_size
from localtune.runs.folder import ALIVE
from localtune.runs.store import find_run
from localtune.sizes import readable
from localtune.words import event_lines

T = TypeVar("T")


def ended(name: str) -> Job:
    """The job of a run that nobody works on any more."""
    run = find_run(name)
    if run.status().state in ALIVE:
        raise InputError(
            Problem("run.training", "this run is not over yet", run.name, fix=f"localtune tail {run.name}")
        )
    return read_job(run)


def path_of(output: str | None) -> Path | None:
    """The folder of `--output`, if one is given."""
    return Path(os.path.expanduser(output)).resolve() if output else None


def made(product: Path) -> str:
    """A product, file or folder, with its size, for stdout: a script that reads it needs the whole path."""
    line = f"{product}  {readable(folder_size(product))}"
    return safe(line) if sys.stdout.isatty() else escaped(without_tokens(line))


def shown(events: Generator[Event, None, T], as_json: bool) -> T:
    """Show events as they come; proofs are results, the rest is talk. Returns what the generator does."""
    while True:
        try:
            event = next(events)
        except StopIteration as stop:
            result: Any = stop.value
            return result  # type: ignore[no-any-return]
        if as_json:
            click.echo(event_json(event, ascii_only=True))
            continue
        for line in event_lines(event):
            click.echo(line, err=not isinstance(event, Proof))
