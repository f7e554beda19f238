"""Ollama: the Modelfile of a GGUF, `ollama create`, and what a running server says of itself.

The grammar is that of Ollama's own parser (parser/parser.go): a value ends at a line's end, unless it stands in double
quotes, or in three of them, which nothing escapes; runes that Go does not call printable are dropped, but for blanks,
tabs and line ends inside quotes. Here every text stands in three quotes, and one that would come out otherwise is
refused.
"""

import json
import os
import re
import shutil
import subprocess
import unicodedata
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from localtune.data.tokenizer import Tokenizer
from localtune.deliver.chat_format import ChatFormat
from localtune.durable import temporary_of, write_bytes
from localtune.errors import InputError, MachineError, Problem, RunFailed, safe
from localtune.export.identity import Identity
from localtune.export.read import read_gguf
from localtune.model import ModelFiles
from localtune.typed import typed

MODELFILE = "Modelfile"
CONTEXT = 8192
"""Tokens of conversation that memory is kept for, where the model reads as many."""
PORT = 11434
_PARAMETERS = {
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "temp": "temperature",
    "penalty_repeat": "repeat_penalty",
}
"""Key of a GGUF's general.sampling -> Ollama's name."""
_NOTE = (
    "# The file's own chat template, as Ollama writes templates; without tools. Without this line Ollama renders it.\n"
)


def modelfile(
    gguf_name: str,
    *,
    template: str | None = None,
    stops: Sequence[str] = (),
    sampling: Mapping[str, int | float] | None = None,
    license: str | None = None,  # noqa: A002
    context: int | None = None,
) -> str:
    """The text of a Modelfile for the GGUF `gguf_name` beside it.

    `template` is a Go template, `sampling` an `Identity`'s, `context` tokens. Raises `InputError` (ollama.text) for
    what the grammar cannot say.
    """
    lines = [f"FROM {_file(gguf_name)}\n"]
    if template is not None:
        lines += [_NOTE, f"TEMPLATE {_quoted(template, 'template')}\n"]
    lines += [f"PARAMETER stop {_quoted(stop, 'stop')}\n" for stop in dict.fromkeys(stops) if stop]
    if context is not None:
        lines.append(f"PARAMETER num_ctx {context}\n")
    stated = sampling or {}
    lines += [f"PARAMETER {name} {stated[key]:.6g}\n" for key, name in _PARAMETERS.items() if key in stated]
    if license:
        lines.append(f"LICENSE {_quoted(_printable(license), 'licence')}\n")
    return "".join(lines)


def modelfile_of(
    gguf: Path, model: ModelFiles, tokenizer: Tokenizer, identity: Identity, known: ChatFormat | None
) -> str:
    """The Modelfile of an exported file: what the model's own files state, and TEMPLATE where its format is `known`.

    Raises `InputError` as `modelfile` does.
    """
    return modelfile(
        gguf.name,
        template=known.go_template() if known else None,
        stops=stops_of(model, tokenizer),
        sampling=identity.sampling,
        license=licence_text(model.folder) or identity.license,
        context=min(CONTEXT, _context(gguf, model)),
    )


def _context(gguf: Path, model: ModelFiles) -> int:
    """What the file says it reads, which may be less than the model does; the model's where there is no file yet."""
    if not gguf.is_file():
        return model.config.context
    header = read_gguf(gguf)
    return int(header.metadata.get(f"{header.architecture}.context_length", model.config.context))


def stops_of(model: ModelFiles, tokenizer: Tokenizer) -> list[str]:
    """Texts of the tokens that end an answer: every stop id that the model states."""
    ids = model.stop_ids or ((tokenizer.eos_id,) if tokenizer.eos_id is not None else ())
    return [text for number in ids if (text := tokenizer.decode([number], skip_special=False))]


def licence_text(folder: Path) -> str:
    """The licence that lies in a model's folder, at most 100 kB of it; "" without one."""
    for path in sorted(folder.glob("*")):
        if path.is_file() and path.stem.lower() in ("license", "licence"):
            with path.open("rb") as file:
                return file.read(100_000).decode("utf-8", "replace").replace("\r\n", "\n").strip()
    return ""


@dataclass(frozen=True)
class Ollama:
    """What there is of Ollama here."""

    program: str | None
    """Path of `ollama`; None where it is not on PATH."""
    address: str
    """Where its server is asked for."""
    version: str | None
    """Of the server that answers there; None where none does."""
    why: str
    """Why none does; "" where one does."""


def probe(environ: Mapping[str, str] = os.environ) -> Ollama:
    """Look for the program and ask the server at OLLAMA_HOST, else on this machine's loopback, for its version."""
    program = shutil.which("ollama", path=environ.get("PATH"))
    address = address_of(environ.get("OLLAMA_HOST", ""))
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(f"{address}/api/version", timeout=3) as answer:
            version = json.loads(answer.read(10_000))["version"]
        return Ollama(program, address, safe(str(version), 60), "")
    except (KeyError, TypeError, ValueError):
        why = f"what answers at {address} is not Ollama"
    except OSError as error:
        reason = getattr(error, "reason", error)
        why = f"nothing answers at {address} ({safe(getattr(reason, 'strerror', None) or str(reason), 120)})"
    return Ollama(program, address, None, why)


def address_of(host: str) -> str:
    """The URL that OLLAMA_HOST means: [scheme://]host[:port]; an address to listen on everywhere is this machine's."""
    text = host.strip().strip("\"'")
    scheme, found, rest = text.partition("://")
    if not found:
        scheme, rest = "http", text
    try:
        parts = urlsplit(f"//{rest}")
        name, port = parts.hostname or "127.0.0.1", parts.port
    except ValueError:
        return f"http://127.0.0.1:{PORT}"
    if name in ("0.0.0.0", "::"):
        name = "127.0.0.1"
    usual = {"http": 80, "https": 443}.get(scheme, PORT) if found else PORT
    shown = f"[{name}]" if ":" in name else name
    return f"{scheme if scheme in ('http', 'https') else 'http'}://{shown}:{port or usual}"


_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*){0,2}(:[\w.-]+)?", re.ASCII)


def check_name(name: str) -> None:
    """Raise `InputError` (ollama.name) for what Ollama does not take as the name of a model."""
    if not _NAME.fullmatch(name) or len(name) > 200:
        raise InputError(Problem("ollama.name", "is no name of an Ollama model", name, fix="--name my-model"))


def create(name: str, folder: Path, text: str, say: Callable[[str], None]) -> None:
    """Run `ollama create NAME` for the Modelfile `text`, which names files in `folder`; its lines go to `say`.

    Raises `InputError` (ollama.name), `MachineError` without the program, `RunFailed` when it ends with an error.
    """
    check_name(name)
    program = shutil.which("ollama")
    by_hand = typed("ollama", "create", name, "-f", folder / MODELFILE)
    if program is None:
        raise MachineError(Problem("ollama.missing", "there is no ollama on PATH", fix=f"install it, then  {by_hand}"))
    last: list[str] = []
    with (
        _beside(folder, text) as file,
        subprocess.Popen(
            [program, "create", name, "-f", file],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        ) as child,
    ):
        assert child.stdout is not None
        for line in child.stdout:
            if text := safe(_ESCAPES.sub("", line).strip(), 300):
                last = [*last[-4:], text]
                say(text)
    if child.returncode:
        what, fix = f"ollama create ended with {child.returncode}", f"ollama serve, then  {by_hand}"
        raise RunFailed(Problem("ollama.failed", what, str(folder), "\n".join(last), fix))


@contextmanager
def _beside(folder: Path, text: str) -> Iterator[str]:
    """The name of a Modelfile of this text in `folder`, where the paths in it are looked for; gone afterwards."""
    path = temporary_of(folder / MODELFILE)
    try:
        write_bytes(path, text.encode())
        yield path.name
    finally:
        path.unlink(missing_ok=True)


_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_PRINTED = "LMNPS"
"""Classes of Unicode that Go's strconv.IsPrint calls printable, beside the blank."""


def _file(name: str) -> str:
    _refuse_lost(name, "file name")
    if not name or Path(name).name != name or name.startswith('"') or name.strip() != name:
        raise _unwritable("file name", "it is not the name of a file beside the Modelfile")
    return f"./{name}"


def _quoted(text: str, what: str) -> str:
    _refuse_lost(re.sub("[\t\r\n]", "", text), what)
    if '"""' in text:
        raise _unwritable(what, "it holds three double quotes, which end a text there")
    return f'"""{text}"""'


def _refuse_lost(text: str, what: str) -> None:
    lost = next((char for char in text if not _is_printed(char)), None)
    if lost is not None:
        raise _unwritable(what, f"it holds U+{ord(lost):04X}, which Ollama leaves out")


def _is_printed(char: str) -> bool:
    return char == " " or unicodedata.category(char)[0] in _PRINTED


def _printable(text: str) -> str:
    """A licence with blanks for what Ollama leaves out, and no three quotes."""
    kept = "".join(char if _is_printed(char) or char in "\t\n" else " " for char in text)
    return kept.replace('"""', "'''")


def _unwritable(what: str, why: str) -> InputError:
    return InputError(Problem("ollama.text", f"a Modelfile cannot hold this {what}: {why}", fix=f"change the {what}"))
