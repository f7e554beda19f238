"""`localtune runs`, `tail` and `stop`: what ran, what runs, and how to end it."""

import shutil
import sys
from collections.abc import Iterator
from typing import Any

import click

from localtune.cli.follow import exit_code, follow
from localtune.cli.options import to_json
from localtune.cli.show import event_lines, plan_lines
from localtune.errors import InputError, LocaltuneError, Problem, safe
from localtune.events import Evaluation, Event, Sample, Step
from localtune.plan import from_json
from localtune.recipe import load
from localtune.runs.files import folder_size, read_json
from localtune.runs.folder import Run
from localtune.runs.store import all_runs, find_run


@click.group()
def runs() -> None:
    """List, show, find and remove runs."""


@runs.command("ls")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def ls(as_json: bool) -> None:
    """Every run with its state, best validation loss and size."""
    rows = [_row(run) for run in all_runs()]
    if as_json:
        click.echo(to_json(rows))
        return
    for row in rows:
        loss = f"{row['best_loss']:.4f}" if row["best_loss"] is not None else "—"
        step = f"{row['step']}/{row['steps']}"
        click.echo(f"{row['name']:<40} {row['state']:<9} {step:>12}  val {loss:>8}  {row['size'] / 1e6:>8.1f} MB")
    if not rows:
        click.echo("no runs yet; start one with  localtune run", err=True)


def _row(run: Run) -> dict[str, Any]:
    steps = [event for event, _ in run.read_events() if isinstance(event, Step)]
    losses = [event.loss for event, _ in run.read_events() if isinstance(event, Evaluation) and event.best]
    try:
        state = run.status().state
    except LocaltuneError:
        state = "starting"
    return {
        "name": run.name,
        "state": state,
        "step": steps[-1].step if steps else 0,
        "steps": steps[-1].steps if steps else 0,
        "best_loss": min(losses, default=None),
        "size": folder_size(run.folder),
        "folder": str(run.folder),
    }


@runs.command()
@click.argument("name", metavar="RUN", default="last")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def show(name: str, as_json: bool) -> None:
    """The plan, the measurements and the products of one run."""
    run = find_run(name)
    if as_json:
        measured = read_json(run.evaluation) if run.evaluation.exists() else None
        click.echo(to_json(_row(run) | {"plan": read_json(run.plan), "evaluation": measured}))
        return
    status = run.status()
    click.echo(f"{run.name}  {status.state}  {safe(status.detail)}".rstrip())
    for line in plan_lines(from_json(read_json(run.plan)), load(run.resolved, environ={}, user_config=None).recipe):
        click.echo(line)
    for event in _notable(run):
        for line in event_lines(event):
            click.echo(line)
    for product in (run.adapter, run.model):
        if product.exists():
            click.echo(f"{product}  {folder_size(product) / 1e6:.1f} MB")


def _notable(run: Run) -> Iterator[Event]:
    """Everything but updates and all but the last samples."""
    events = [event for event, _ in run.read_events() if not isinstance(event, Step)]
    last = max((event.step for event in events if isinstance(event, Sample)), default=0)
    return (event for event in events if not isinstance(event, Sample) or event.step == last)


@runs.command()
@click.argument("name", metavar="RUN", default="last")
def path(name: str) -> None:
    """The folder of a run."""
    click.echo(find_run(name).folder)


@runs.command()
@click.argument("name", metavar="RUN")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def rm(name: str, yes: bool) -> None:
    """Remove a run with its checkpoints and products."""
    run = find_run(name)
    if run.status().state in ("starting", "running", "stalled"):
        fix = f"localtune stop {run.name}"
        raise InputError(Problem("run.owned", "this run is still running", where=run.name, fix=fix))
    if not yes:
        if not sys.stdin.isatty():
            fix = f"localtune runs rm {run.name} --yes"
            raise InputError(Problem("run.confirm", "nothing was removed: there is nobody to ask", fix=fix))
        click.confirm(f"remove {run.folder} ({folder_size(run.folder) / 1e6:.1f} MB)?", abort=True, err=True)
    shutil.rmtree(run.folder)
    click.echo(f"removed {run.name}", err=True)


@click.command()
@click.argument("name", metavar="RUN", default="last")
@click.option("--log", "as_log", is_flag=True, help="Print what the processes wrote to log.txt instead.")
@click.option("--json", "as_json", is_flag=True, help="Events as JSON lines on stdout.")
def tail(name: str, as_log: bool, as_json: bool) -> None:
    """Follow a run from its beginning, from any terminal; Ctrl+C ends only the viewer."""
    run = find_run(name)
    if as_log:
        text = run.log.read_text(encoding="utf-8", errors="replace") if run.log.exists() else ""
        for line in text.splitlines():
            click.echo(safe(line))
        return
    sys.exit(exit_code(follow(run, as_json=as_json)))


@click.command()
@click.argument("name", metavar="RUN", default="last")
@click.option("--now", is_flag=True, help="Do not save a checkpoint first.")
def stop(name: str, now: bool) -> None:
    """Ask a run to save a checkpoint and stop at the next update."""
    run = find_run(name)
    state = run.status().state
    if state not in ("starting", "running", "stalled"):
        raise InputError(Problem("run.not-running", f"this run is {state}", where=run.name))
    run.request("stop-now" if now else "stop")
    click.echo(f"asked {run.name} to stop; go on later with  localtune run --resume {run.name}", err=True)
