"""`localtune fuse`: from a finished run, or an adapter, to a complete model folder."""

from collections.abc import Generator
from pathlib import Path

import click

from localtune.adapter import CONFIG_FILE, base_of
from localtune.cli.making import ended, made, path_of, shown
from localtune.cli.options import confirm_download
from localtune.errors import InputError, Problem
from localtune.events import Event
from localtune.model import resolve
from localtune.products.fused import fuse_run, fused_adapter, requantised
from localtune.typed import typed


@click.command()
@click.argument("name", metavar="RUN|ADAPTER", default="last")
@click.option("-m", "--model", help="Base of an ADAPTER folder; default: the one its configuration names.")
@click.option("--force", is_flag=True, help="Fuse an ADAPTER into MODEL also where its configuration names another.")
@click.option("-o", "--output", help="Folder of the fused model; default: fused in the run's folder.")
@click.option("--no-proof", is_flag=True, help="Do not compare it with what was trained.")
@click.option(
    "--requantize", is_flag=True, help="Store it in as few bits as it trained in, or refuse where that loses training."
)
@click.option("--json", "as_json", is_flag=True, help="Events as JSON lines on stdout.")
def fuse(
    name: str,
    model: str | None,
    force: bool,
    output: str | None,
    no_proof: bool,
    requantize: bool,
    as_json: bool,
) -> None:
    """Put the adapter of a run into the base's own weights: a complete model folder."""
    if (Path(name) / CONFIG_FILE).is_file():
        if requantize:
            what = "an adapter of no run here does not say on which grid it was trained"
            raise InputError(Problem("fuse.adapter", what, name, fix="leave --requantize out"))
        folder = shown(_fusing(Path(name), model, path_of(output), force), as_json)
        again = typed(folder)
    else:
        job = ended(name)
        path = path_of(output)
        folder = shown(requantised(job, path) if requantize else fuse_run(job, path, check=not no_proof), as_json)
        again = job.run.name
    if not as_json:
        click.echo(made(folder))
        click.echo(f"next: localtune export {again} --gguf Q8_0   or   localtune chat {typed(folder)}", err=True)


def _fusing(adapter: Path, model: str | None, output: Path | None, force: bool) -> Generator[Event, None, Path]:
    base = model or base_of(adapter)
    if base is None or output is None:
        fix = f"localtune fuse {typed(adapter)} -m MODEL -o FUSED"
        what = "an adapter of no run here needs its base and a folder for the result"
        raise InputError(Problem("fuse.adapter", what, str(adapter), fix=fix))
    found = resolve(base, Path.cwd(), confirm=confirm_download)
    return (yield from fused_adapter(adapter, found, output, force=force))
