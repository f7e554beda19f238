"""`localtune push`: an adapter, a fused model or GGUF files to a repository of the Hugging Face hub."""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from localtune.adapter import Full
from localtune.cli.making import ended
from localtune.cli.options import to_json
from localtune.deliver.hub_folder import Sent, chosen, kind_of
from localtune.deliver.push import Pushed, push, ready
from localtune.errors import InputError, LocaltuneError, MachineError, Problem
from localtune.job import Job
from localtune.modelcard import Kind
from localtune.products import RECORD
from localtune.products.card import card_of, record_of
from localtune.products.recorded import recorded, refuse_stale_card
from localtune.runs.files import is_complete
from localtune.sizes import readable
from localtune.typed import typed


@click.command("push")
@click.argument("name", metavar="RUN|FOLDER", default="last")
@click.option("--to", "repository", required=True, metavar="OWNER/NAME", help="Repository; made if it is not there.")
@click.option(
    "--what", type=click.Choice(["adapter", "fused", "gguf"]), help="Default: a run's adapter; what FOLDER holds."
)
@click.option("--public", is_flag=True, help="Let everybody read it; default: private.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="The result as JSON on stdout.")
def push_command(name: str, repository: str, what: Kind | None, public: bool, yes: bool, as_json: bool) -> None:
    """Send a product to the Hugging Face hub: private unless asked otherwise, and listed before."""
    token = ready(repository)
    files = _files(name, what, token)
    _show(files, repository, public)
    _ask(name, repository, yes)
    done = _sent(files, repository, token, public, bars=sys.stderr.isatty() and not as_json)
    if as_json:
        listed = [{"name": sent.name, "size": sent.size} for sent in files]
        click.echo(to_json(asdict(done) | {"files": listed}))
        return
    click.echo(f"{done.url}  {'private' if done.private else 'public'}, {readable(done.size)}")


def _sent(files: Sequence[Sent], repository: str, token: str, public: bool, *, bars: bool) -> Pushed:
    """Push, with the library's progress bars only where somebody sees them move."""
    if not bars:
        from huggingface_hub.utils.tqdm import disable_progress_bars

        disable_progress_bars()
    try:
        return push(files, repository, token, public=public)
    except LocaltuneError:
        if bars:
            click.echo(err=True)  # a bar's line is open
        raise


def _files(name: str, what: Kind | None, token: str) -> tuple[Sent, ...]:
    """What is sent of a folder, or of a run's product with a card made for it."""
    folder = Path(name).expanduser()
    if folder.is_dir() and not (folder / "plan.json").is_file():
        return _of_folder(folder, what, token)
    job = ended(name)
    full = isinstance(job.trainable, Full)
    kind: Kind = what or ("fused" if full else "adapter")
    product, record = _product(job, kind)
    made = kind == "fused" and not full and (product / "README.md").is_file()
    card = None if made else card_of(job, None, kind, checks=record)
    return chosen(product, kind, card=card, only=record.get("files"), secrets=(token,))


_A = {"adapter": "an adapter", "fused": "a model", "gguf": "GGUF files"}


def _of_folder(folder: Path, what: Kind | None, token: str) -> tuple[Sent, ...]:
    found = kind_of(folder)
    if what not in (None, found):
        fix = typed("localtune", "push", folder, "--what", found, "--to", "OWNER/NAME")
        raise InputError(Problem("push.folder", f"holds {_A[found]}, not {_A[what or found]}", str(folder), fix=fix))
    if found != "gguf":
        return chosen(folder, found, secrets=(token,))
    refuse_stale_card(folder)
    return chosen(folder, found, only=recorded(folder).get("files"), secrets=(token,))


def _product(job: Job, kind: Kind) -> tuple[Path, dict[str, Any]]:
    """The folder of a run's product and the record of it. Raises `InputError` with the command that makes it."""
    run, full = job.run, isinstance(job.trainable, Full)
    if kind == "adapter" and full:
        what, fix = "every weight was trained: there is no adapter", f"localtune push {run.name} --what fused --to …"
        raise InputError(Problem("push.full", what, run.name, fix=fix))
    folders = {"adapter": run.adapter, "fused": run.model if full else run.fused, "gguf": run.export}
    commands = {"adapter": f"run --resume {run.name}", "fused": f"fuse {run.name}", "gguf": f"export {run.name}"}
    folder = folders[kind]
    record = recorded(folder) if kind == "gguf" else record_of(folder, RECORD)
    whole = bool(record.get("files")) if kind == "gguf" else is_complete(folder, verify=True)
    if not whole:
        what = f"has no {kind} yet, or it was changed since it was made"
        raise InputError(Problem("push.no-product", what, run.name, fix=f"localtune {commands[kind]}"))
    return folder, record


def _show(files: Sequence[Sent], repository: str, public: bool) -> None:
    reader = "everybody can read it" if public else "private"
    click.echo(f"to {repository} ({reader}):", err=True)
    width = max(len(sent.name) for sent in files)
    for sent in files:
        click.echo(f"  {sent.name:<{width}}  {readable(sent.size)}", err=True)
    click.echo(f"  {len(files)} files, {readable(sum(sent.size for sent in files))}", err=True)


def _ask(name: str, repository: str, yes: bool) -> None:
    """Go on only with --yes, or a yes typed in a terminal."""
    if yes:
        return
    again = typed("localtune", "push", name, "--to", repository, "--yes")
    if not sys.stdin.isatty():
        what = "nobody can be asked here, and nothing is sent unasked"
        raise InputError(Problem("push.unasked", what, repository, fix=again))
    if not click.confirm("send these files?", default=False, err=True):
        raise MachineError(Problem("push.declined", "nothing was sent", repository, fix=again))
