"""What goes beside exported files, and where else they go: Modelfile and card, Ollama, LM Studio.

What somebody else wrote is never replaced: a Modelfile or README.md that was not written here stays, and a warning
says so.
"""

import shutil
import time
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

from localtune.deliver import lm_studio, ollama
from localtune.deliver.chat_format import known_format
from localtune.deliver.lm_studio import models_folder, place
from localtune.deliver.ollama import MODELFILE, create, modelfile_of, probe
from localtune.errors import InputError, MachineError, Problem
from localtune.events import Event, Phase, Product, Warn
from localtune.job import Job
from localtune.modelcard import CARD
from localtune.products import RECORD, writing
from localtune.products.card import card_of, record_of
from localtune.products.source import Source
from localtune.runs.files import write_bytes

OLLAMA, LM_STUDIO = "ollama", "lm-studio"
TARGETS = (OLLAMA, LM_STUDIO)
"""Programs of this machine that take a file."""
_NAMED = {OLLAMA: ollama.check_name, LM_STUDIO: lm_studio.check_name}
_MADE = "# Made by localtune: a next export writes it again; remove this line to keep your changes.\n"
_UNKNOWN = (
    "no TEMPLATE for Ollama is known that says what this chat template says: Ollama will go by the one in the file, as "
    "far as it recognises it; look before you trust it:  ollama show NAME --template"
)
_MADE_CARD = "\n<!-- Made by localtune: a next export writes it again; remove this line to keep your changes. -->\n"


def check_targets(targets: Sequence[str], name: str | None = None) -> None:
    """Raise before anything is made where a target cannot take a file called `name`; a name of ours suits them all.

    `InputError` (export.target, ollama.name, lm-studio.name), `MachineError` (lm-studio.missing, ollama.missing).
    """
    for target in targets:
        if target not in TARGETS:
            fix = f"--to {','.join(TARGETS)}"
            raise InputError(Problem("export.target", f"{target[:40]!r} takes no files here", "--to", fix=fix))
        if name is not None:
            _NAMED[target](name)
    if LM_STUDIO in targets:
        models_folder()
    if OLLAMA in targets:
        _refuse_without_ollama()


def describe(source: Source, files: Sequence[Path], job: Job | None) -> Iterator[Event]:
    """Write the Modelfile of the first of `files`, and for a run the card of all."""
    first = files[0]
    with writing(source.folder):
        try:
            known = known_format(source.tokenizer)
            text = modelfile_of(first, source.model, source.tokenizer, source.identity, known)
        except InputError as error:
            yield Warn("export.modelfile", f"no Modelfile is written: {error.problems[0].what}")
        else:
            yield from _written(source.folder / MODELFILE, _MADE + text, _MADE)
            if known is None and source.tokenizer.template is not None:
                yield Warn("deliver.template", _UNKNOWN)
        if job is not None:
            card = card_of(job, None, "gguf", checks=record_of(source.folder, RECORD))
            yield from _written(source.folder / CARD, card + _MADE_CARD, _MADE_CARD)


def deliver(
    source: Source, file: Path, targets: Sequence[str], name: str | None = None
) -> Generator[Event, None, None]:
    """Hand the exported `file` to each of `targets`; in Ollama it is called `name`, by default as it was tuned."""
    for target in targets:
        began = time.monotonic()
        if target == LM_STUDIO:
            where = place(file, model=name)
            yield Product("LM Studio", str(where), where.stat().st_size, time.monotonic() - began)
            continue
        called = name or _called(source)
        if why := probe().why:
            yield Warn("ollama.server", f"Ollama's server may not be running: {why}")
        yield Phase("handing over", f"{file.name} to Ollama as {called}")
        said: list[str] = []
        text = modelfile_of(file, source.model, source.tokenizer, source.identity, known_format(source.tokenizer))
        create(called, source.folder, text, said.append)
        for line in said:
            yield Phase("ollama", line)
        yield Product("Ollama", called, file.stat().st_size, time.monotonic() - began)


def is_made_card(path: Path) -> bool:
    """Whether a card that was written here lies at `path`."""
    return path.is_file() and _holds(path, _MADE_CARD)


def _holds(path: Path, mark: str) -> bool:
    return mark in path.read_text(encoding="utf-8", errors="replace")


def _written(path: Path, text: str, mark: str) -> Iterator[Event]:
    """Write `path` unless a file without `mark` is there."""
    if path.is_file() and not _holds(path, mark):
        yield Warn("export.kept", f"{path.name} is there already and is not from here: it stays as it is")
        return
    write_bytes(path, text.encode())


def _called(source: Source) -> str:
    """A name for Ollama: of the fine-tune, else of the model; letters, digits and dashes, at most 80."""
    name = source.identity.finetune or source.identity.basename
    words = "".join(c if c.isascii() and c.isalnum() else " " for c in name.lower()).split()
    return "-".join(words)[:80].strip("-") or "model"


def _refuse_without_ollama() -> None:
    if shutil.which("ollama") is None:
        fix = "install Ollama, or leave out --to: the Modelfile beside the file is for  ollama create NAME -f Modelfile"
        raise MachineError(Problem("ollama.missing", "there is no ollama on PATH", fix=fix))
