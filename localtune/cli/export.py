"""`localtune export`: from a finished run, or a model folder, to files to chat with."""

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import click

from localtune.adapter import CONFIG_FILE, Full, base_of
from localtune.cli.making import ended, made, path_of, shown
from localtune.cli.options import confirm_download
from localtune.deliver.llama_cpp import commands
from localtune.errors import InputError, Problem
from localtune.events import Event
from localtune.export.encodings import ENCODINGS
from localtune.export.quantize_tool import kinds
from localtune.fitting import refuse_other_base
from localtune.job import Job, unfinished
from localtune.mlx_lm_adapter import FOLDER, copy_for_mlx_lm
from localtune.model import ModelFiles, resolve
from localtune.products import making, writing
from localtune.products.adapter_gguf import export_adapter, export_adapter_folder
from localtune.products.delivery import TARGETS, check_targets, deliver, describe
from localtune.products.gguf import Tools, export, source_of_run
from localtune.products.source import Source, of_folder
from localtune.runs.files import is_complete
from localtune.typed import typed


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
@click.option("--adapter", is_flag=True, help="Instead: the adapter, of a run or in FOLDER, for  llama.cpp --lora.")
@click.option("--mlx-lm", is_flag=True, help="Instead: a copy of the adapter, of a run or in FOLDER, for mlx_lm.")
@click.option("-m", "--model", help="Base of an adapter in FOLDER; default: the one its configuration names.")
@click.option("--force", is_flag=True, help="Take that base also where the configuration names another.")
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
    model: str | None,
    force: bool,
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
        found = _adapter_in(Path(name), model, force, "--mlx-lm" if mlx_lm else "--adapter")
        (_copy_for_mlx_lm if mlx_lm else _adapter_alone)(name, found, path_of(output), as_json, check=not no_proof)
        return
    _refuse_base(model, force)
    tools = Tools(path_of(converter), path_of(imatrix))
    chosen = tuple(dict.fromkeys(filter(None, map(str.strip, (targets or "").split(",")))))
    check_targets(chosen, called)
    asked = _Asked(_encodings(gguf or "Q8_0"), path_of(output), not no_proof, tools, chosen, called)
    files = shown(_exporting(name, asked), as_json)
    for path in files if not as_json else []:
        click.echo(made(path))
    if not as_json:
        ways = [f"localtune chat {typed(files[0])}", *commands(files[0])]
        click.echo(f"next: {'   or   '.join(ways)}", err=True)


def _exporting(name: str, asked: _Asked) -> Generator[Event, None, list[Path]]:
    if any((Path(name) / file).is_file() for file in ("config.json", CONFIG_FILE)):
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


_Found = tuple[Path, ModelFiles]
"""An adapter that is no run's, and its base."""


def _adapter_in(folder: Path, model: str | None, force: bool, kind: str) -> _Found | None:
    """The PEFT adapter in `folder`, to be exported as the option `kind` says; None for the name of a run."""
    if not (folder / CONFIG_FILE).is_file():
        _refuse_base(model, force)
        return None
    base = model or base_of(folder)
    if base is None:
        fix = typed("localtune", "export", folder, kind, "-m", "MODEL")
        raise InputError(Problem("export.base", "the adapter does not say what its base is", str(folder), fix=fix))
    found = resolve(base, Path.cwd(), confirm=confirm_download)
    if not force:
        refuse_other_base(folder, found, "export", folder, kind)
    return folder, found


def _refuse_base(model: str | None, force: bool) -> None:
    if model is not None or force:
        raise click.UsageError("-m and --force are for the adapter in a FOLDER, with --adapter or --mlx-lm")


def _adapter_alone(name: str, found: _Found | None, output: Path | None, as_json: bool, *, check: bool) -> None:
    if found is None:
        path = shown(export_adapter(ended(name), output, check=check), as_json)
    else:
        path = shown(export_adapter_folder(*found, output or Path.cwd() / "export"), as_json)
    if not as_json:
        click.echo(made(path))
        chat = typed("localtune", "chat", "BASE.gguf", "--lora", path)
        click.echo(f"next: {chat}   (BASE.gguf: localtune export BASE)", err=True)


def _copy_for_mlx_lm(name: str, found: _Found | None, output: Path | None, as_json: bool, *, check: bool) -> None:
    adapter, model, target = (*found, Path.cwd() / FOLDER) if found else _adapter_of(name)
    folder = output or target
    with writing(folder.parent):
        shown(copy_for_mlx_lm(adapter, model, folder), as_json)
    if not as_json:
        click.echo(made(folder))
        again = typed("mlx_lm.generate", "--model", model.folder, "--adapter-path", folder, "--prompt", "Hello")
        click.echo(f"next: {again}", err=True)


def _adapter_of(name: str) -> tuple[Path, ModelFiles, Path]:
    """The adapter of a run, with its base and where its copy goes."""
    job = ended(name)
    if isinstance(job.trainable, Full):
        what = "every weight was trained: mlx-lm reads the product as it is"
        fix = typed("mlx_lm.generate", "--model", job.run.model)
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
