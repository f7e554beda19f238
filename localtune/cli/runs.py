"""`localtune runs`, `tail` and `stop`: what ran, what runs, and how to end it."""

import sys
from collections.abc import Iterator
from typing import Any

import click

from localtune.cli.follow import exit_code, viewer
from localtune.cli.making import made
from localtune.cli.options import to_json
from localtune.cli.runs_diff import diff
from localtune.cli.runs_report import report
from localtune.cli.show import plan_lines
from localtune.durable import remove_folder
from localtune.errors import InputError, Problem, safe
from localtune.events import Evaluation, Event, Sample, Step
from localtune.job import read_plan
from localtune.recipe import load
from localtune.runs.files import folder_size, read_json
from localtune.runs.folder import ALIVE, Run
from localtune.runs.lock import PRODUCTS, SUPERVISOR, WORKER, RunLock, owned
from localtune.runs.store import all_runs, find_run, root
from localtune.typed import typed
from localtune.words import event_lines


@click.group(invoke_without_command=True)
@click.pass_context
def runs(ctx: click.Context) -> None:
    """List, show, compare, report, find and remove runs; alone it lists them."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(ls)


runs.add_command(diff)
runs.add_command(report)


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
    last, losses = Step(0, 0, 0.0, 0.0, 0.0, 0.0, 0.0, True, 0, 0, 0, 0.0), []
    for event, _ in run.read_events():
        if isinstance(event, Step):
            last = event
        elif isinstance(event, Evaluation) and event.best:
            losses.append(event.loss)
    return {
        "name": run.name,
        "state": run.status().state,
        "step": last.step,
        "steps": last.steps,
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
    for line in plan_lines(read_plan(run), load(run.resolved, environ={}, user_config=None).recipe):
        click.echo(line)
    for event in _notable(run):
        for line in event_lines(event):
            click.echo(line)
    for product in run.products():
        click.echo(made(product))


def _notable(run: Run) -> Iterator[Event]:
    """Everything but updates and all but the last samples."""
    events = [event for event, _ in run.read_events() if not isinstance(event, Step)]
    last = max((event.step for event in events if isinstance(event, Sample)), default=0)
    return (event for event in events if not isinstance(event, Sample) or event.step == last)


@runs.command()
@click.argument("name", metavar="RUN", default="last")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def path(name: str, as_json: bool) -> None:
    """The folder of a run."""
    folder = str(find_run(name).folder)
    click.echo(to_json({"folder": folder}) if as_json else folder)


@runs.command()
@click.argument("name", metavar="RUN")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def rm(name: str, yes: bool) -> None:
    """Remove a run with its checkpoints and products."""
    run = find_run(name)
    if run.status().state in ALIVE:
        raise InputError(owned(run.folder, "a process"))
    for lock in (SUPERVISOR, WORKER, PRODUCTS):
        with RunLock(run.folder, lock):  # raises while somebody trains, or makes something of it
            pass
    if run.folder.parent.resolve() != root().resolve():
        fix = f"LOCALTUNE_RUNS={typed(run.folder.parent)} localtune runs rm {run.name}"
        raise InputError(Problem("run.elsewhere", "this folder is not among the runs", where=str(run.folder), fix=fix))
    if not yes:
        if not sys.stdin.isatty():
            fix = f"localtune runs rm {run.name} --yes"
            raise InputError(Problem("run.confirm", "nothing was removed: there is nobody to ask", fix=fix))
        click.confirm(f"remove {run.folder} ({folder_size(run.folder) / 1e6:.1f} MB)?", abort=True, err=True)
    remove_folder(run.folder)
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
    sys.exit(exit_code(viewer(run, as_json=as_json).to_the_end()))


@click.command()
@click.argument("name", metavar="RUN", default="last")
@click.option("--now", is_flag=True, help="Do not save a checkpoint first.")
def stop(name: str, now: bool) -> None:
    """Ask a run to save a checkpoint and stop at the next update."""
    run = find_run(name)
    state = run.status().state
    if state not in ALIVE:
        fix = "localtune runs ls"
        raise InputError(Problem("run.not-running", f"this run is {state}", where=run.name, fix=fix))
    run.request("stop-now" if now else "stop")
    click.echo(f"asked {run.name} to stop; go on later with  localtune run --resume {run.name}", err=True)
