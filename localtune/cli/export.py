"""`localtune export`: from a finished run, or a model folder, to files to chat with."""

import shlex
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import click

from localtune.adapter import CONFIG_FILE, Full, base_of
from localtune.cli.making import ended, path_of, shown
from localtune.cli.options import confirm_download
from localtune.deliver.llama_cpp import commands
from localtune.errors import InputError, Problem
from localtune.events import Event
from localtune.export.encodings import ENCODINGS
from localtune.export.quantize_tool import kinds
from localtune.job import Job, unfinished
from localtune.mlx_lm_adapter import FOLDER, copy_for_mlx_lm
from localtune.model import ModelFiles, resolve
from localtune.products import making, writing
from localtune.products.adapter_gguf import export_adapter
from localtune.products.delivery import TARGETS, check_targets, deliver, describe
from localtune.products.gguf import Tools, export, source_of_run
from localtune.products.source import Source, of_folder
from localtune.runs.files import folder_size, is_complete
from localtune.sizes import readable


@dataclass(frozen=True)
class _Asked:
    """What an export is to make, and where it goes."""

    encodings: list[str]
    output: Path | None
    check: bool
    tools: Tools
    targets: tuple[str, ...]
    name: str | None


@click.command("export")
@click.argument("name", metavar="RUN|FOLDER", default="last")
@click.option("--gguf", show_default="Q8_0", metavar="TYPES", help=f"Of {', '.join(ENCODINGS)}; see --imatrix.")
@click.option("--adapter", is_flag=True, help="Instead: the adapter alone as a GGUF, for  llama.cpp --lora.")
@click.option("--mlx-lm", is_flag=True, help="Instead: a copy of the adapter, of a run or in FOLDER, for mlx_lm.")
@click.option("--to", "targets", metavar="PROGRAMS", help=f"Hand the first file over: {', '.join(TARGETS)}.")
@click.option("--name", "called", help="What it is called there; default: as the run.")
@click.option("--imatrix", metavar="FILE", help="For types that llama-quantize on PATH makes, such as IQ4_XS.")
@click.option("--converter", metavar="FOLDER", help="A llama.cpp checkout that converts a model we do not.")
@click.option("-o", "--output", help="Folder of the files; default: one in the run's folder, or here.")
@click.option("--no-proof", is_flag=True, help="Do not compare the files with what was trained.")
@click.option("--json", "as_json", is_flag=True, help="Events as JSON lines on stdout.")
def export_command(
    name: str,
    gguf: str | None,
    adapter: bool,
    mlx_lm: bool,
    targets: str | None,
    called: str | None,
    imatrix: str | None,
    converter: str | None,
    output: str | None,
    no_proof: bool,
    as_json: bool,
) -> None:
    """Write GGUF files of a run, or of a model folder, and prove that they say what was trained."""
    if adapter or mlx_lm:
        if (adapter and mlx_lm) or any((gguf, targets, called, imatrix, converter)):
            raise click.UsageError("--adapter and --mlx-lm each stand alone: give --gguf in a command of its own")
        (_copy_for_mlx_lm if mlx_lm else _adapter_alone)(name, path_of(output), as_json, check=not no_proof)
        return
    tools = Tools(path_of(converter), path_of(imatrix))
    chosen = tuple(dict.fromkeys(filter(None, map(str.strip, (targets or "").split(",")))))
    check_targets(chosen, called)
    asked = _Asked(_encodings(gguf or "Q8_0"), path_of(output), not no_proof, tools, chosen, called)
    files = shown(_exporting(name, asked), as_json)
    for path in files if not as_json else []:
        click.echo(f"{path}  {readable(path.stat().st_size)}")
    if not as_json:
        ways = [f"localtune chat {shlex.quote(str(files[0]))}", *commands(files[0])]
        click.echo(f"next: {'   or   '.join(ways)}", err=True)


def _exporting(name: str, asked: _Asked) -> Generator[Event, None, list[Path]]:
    if (Path(name) / "config.json").is_file():
        source = yield from of_folder(name, asked.output or Path.cwd() / "export", check=asked.check)
        return (yield from _exported(source, asked, None))
    job = ended(name)
    with making(job.run):
        source = yield from source_of_run(job, asked.output, check=asked.check)
        return (yield from _exported(source, asked, job))


def _exported(source: Source, asked: _Asked, job: Job | None) -> Generator[Event, None, list[Path]]:
    files = yield from export(source, asked.encodings, tools=asked.tools)
    yield from describe(source, files, job)
    yield from deliver(source, files[0], asked.targets, asked.name)
    return files


def _adapter_alone(name: str, output: Path | None, as_json: bool, *, check: bool) -> None:
    job = ended(name)
    path = shown(export_adapter(job, output, check=check), as_json)
    if not as_json:
        click.echo(f"{path}  {readable(path.stat().st_size)}")
        click.echo(
            f"next: localtune chat BASE.gguf --lora {shlex.quote(str(path))}   (BASE.gguf: localtune export BASE)",
            err=True,
        )


def _copy_for_mlx_lm(name: str, output: Path | None, as_json: bool, *, check: bool) -> None:
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
    """The types asked for, each once: ours, then llama-quantize's. Raises `InputError`, `MachineError`."""
    asked = list(dict.fromkeys(name.strip().upper() for name in text.split(",") if name.strip()))
    others = [name for name in asked if name not in ENCODINGS]
    if not asked or any(not _is_type(name) for name in others):
        what = f"{', '.join(others) or 'nothing'} is no type of a GGUF file"
        raise InputError(Problem("export.type", what, "--gguf", fix=f"any of {','.join(ENCODINGS)}"))
    unknown = [name for name in others if name not in kinds()]
    if unknown:
        what = f"{', '.join(unknown)} is neither written here nor by the llama-quantize on PATH"
        raise InputError(Problem("export.type", what, "--gguf", fix=f"any of {','.join((*ENCODINGS, *kinds()))}"))
    return asked


def _is_type(name: str) -> bool:
    """Whether it looks like one of llama-quantize's, which may not be there to be asked."""
    return name.startswith(("IQ", "Q", "TQ", "MXFP")) and name.isascii() and len(name) < 16
