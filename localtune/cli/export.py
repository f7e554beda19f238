"""`localtune export`: from a finished run, or a model folder, to files to chat with."""

from collections.abc import Generator
from pathlib import Path

import click

from localtune.adapter import CONFIG_FILE, Full, base_of
from localtune.cli.making import ended, path_of, shown
from localtune.cli.options import confirm_download
from localtune.errors import InputError, Problem
from localtune.events import Event
from localtune.job import unfinished
from localtune.memory import readable
from localtune.mlx_lm_adapter import FOLDER, copy_for_mlx_lm
from localtune.model import ModelFiles, resolve
from localtune.products import writing
from localtune.products.gguf import export, export_run
from localtune.products.source import of_folder
from localtune.runs.files import folder_size, is_complete
from localtune.settings import ExportSettings

ENCODINGS = tuple(ExportSettings.model_json_schema()["properties"]["gguf"]["items"]["enum"])


@click.command("export")
@click.argument("name", metavar="RUN|FOLDER", default="last")
@click.option("--gguf", show_default="Q8_0", metavar="TYPES", help=f"Of {', '.join(ENCODINGS)}.")
@click.option("--mlx-lm", is_flag=True, help="Instead: a copy of the adapter, of a run or in FOLDER, for mlx_lm.")
@click.option("-o", "--output", help="Folder of the files; default: one in the run's folder, or here.")
@click.option("--no-proof", is_flag=True, help="Do not compare the files with what was trained.")
@click.option("--json", "as_json", is_flag=True, help="Events as JSON lines on stdout.")
def export_command(
    name: str, gguf: str | None, mlx_lm: bool, output: str | None, no_proof: bool, as_json: bool
) -> None:
    """Write GGUF files of a run, or of a model folder, and prove that they say what was trained."""
    if mlx_lm:
        if gguf is not None:
            raise click.UsageError("--mlx-lm writes no GGUF file: give --gguf in a command of its own")
        _copy_for_mlx_lm(name, path_of(output), as_json)
        return
    files = shown(_exporting(name, _encodings(gguf or "Q8_0"), path_of(output), not no_proof), as_json)
    for path in files if not as_json else []:
        click.echo(f"{path}  {readable(path.stat().st_size)}")
    if not as_json:
        click.echo(f"next: localtune chat {files[0]}   or   llama-cli -m {files[0]}", err=True)


def _exporting(name: str, encodings: list[str], output: Path | None, check: bool) -> Generator[Event, None, list[Path]]:
    if (Path(name) / "config.json").is_file():
        source = yield from of_folder(name, output or Path.cwd() / "export", check=check)
        return (yield from export(source, encodings))
    return (yield from export_run(ended(name), encodings, output, check=check))


def _copy_for_mlx_lm(name: str, output: Path | None, as_json: bool) -> None:
    adapter, model, target = _adapter_of(name)
    folder = output or target
    with writing(folder.parent):
        shown(copy_for_mlx_lm(adapter, model, folder), as_json)
    if not as_json:
        click.echo(f"{folder}  {readable(folder_size(folder))}")
        click.echo(f"next: mlx_lm.generate --model {model.folder} --adapter-path {folder} --prompt Hello", err=True)


def _adapter_of(name: str) -> tuple[Path, ModelFiles, Path]:
    """The adapter of a run, or one in a folder, with its base and where its copy goes."""
    if (Path(name) / CONFIG_FILE).is_file():
        base = base_of(Path(name))
        if base is None:
            what = "the adapter does not say what its base is"
            fix = "put base_model_name_or_path into its configuration"
            raise InputError(Problem("mlx-lm.base", what, name, fix=fix))
        return Path(name), resolve(base, Path.cwd(), confirm=confirm_download), Path.cwd() / FOLDER
    job = ended(name)
    if isinstance(job.trainable, Full):
        what = "every weight was trained: mlx-lm reads the product as it is"
        fix = f"mlx_lm.generate --model {job.run.model}"
        raise InputError(Problem("mlx-lm.full", what, job.run.name, fix=fix))
    if not is_complete(job.run.adapter, verify=True):
        raise unfinished(job.run)
    return job.run.adapter, job.model, job.run.folder / FOLDER


def _encodings(text: str) -> list[str]:
    """The types asked for, each once. Raises `InputError`."""
    asked = [name.strip().upper() for name in text.split(",") if name.strip()]
    unknown = [name for name in asked if name not in ENCODINGS]
    if unknown or not asked:
        what = f"{', '.join(unknown) or 'nothing'} is no type of a GGUF file that is written here"
        raise InputError(Problem("export.type", what, "--gguf", fix=f"any of {','.join(ENCODINGS)}"))
    return list(dict.fromkeys(asked))
