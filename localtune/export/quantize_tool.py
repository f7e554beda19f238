"""Types that are not written here, by the `llama-quantize` on PATH: IQ types, and any with an importance matrix."""

import re
import shutil
from pathlib import Path

from localtune.errors import InputError, MachineError, Problem
from localtune.export.program import failure, run

PROGRAM = "llama-quantize"
_KIND = re.compile(r"^\s*\d+\s+or\s+([A-Z0-9_]+)\s*:", re.MULTILINE)
_WANTS_IMATRIX = ("requires an importance matrix", "requires an imatrix", "Missing importance matrix")


def kinds() -> tuple[str, ...]:
    """The types that the program of this machine knows, as its help lists them. Raises `MachineError`."""
    found = tuple(dict.fromkeys(_KIND.findall(run([_program(), "--help"]).output)))
    if not found:
        what, fix = "its --help lists no types", "put a llama-quantize of 2024 or later first on PATH"
        raise MachineError(Problem("gguf.llama-quantize", what, _program(), fix=fix))
    return found


def quantize(source: Path, target: Path, kind: str, imatrix: Path | None = None) -> None:
    """Write the F32, F16 or BF16 file `source` as `kind`, with an importance matrix or without, to `target`.

    `target` is a temporary name and gone again when this fails. Raises `InputError` for a type that the program does
    not know or that needs a matrix, `MachineError` where there is no such program, `ResourceError` for a full disk and
    `RunFailed` with the program's own words for anything else.
    """
    check_kind(kind, imatrix)
    matrix = [] if imatrix is None else ["--imatrix", str(imatrix.absolute())]
    try:
        ended = run([_program(), *matrix, str(source.absolute()), str(target.absolute()), kind])
        if ended.code or not target.is_file():
            if any(words in ended.output for words in _WANTS_IMATRIX):
                what, fix = f"{kind} needs an importance matrix", "--imatrix FILE, made by llama-imatrix"
                raise InputError(Problem("gguf.imatrix", what, "--gguf", ended.last, fix))
            raise failure("gguf.llama-quantize", ended, PROGRAM, target)
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def check_kind(kind: str, imatrix: Path | None) -> None:
    """Raise, before anything is made, what `quantize` would: `InputError` (gguf.imatrix, .encoding), `MachineError`."""
    if imatrix is not None and not imatrix.is_file():
        fix = "make one with llama-imatrix, or leave --imatrix out"
        raise InputError(Problem("gguf.imatrix", "is not there", str(imatrix), fix=fix))
    known = kinds()
    if kind not in known:
        what = f"{kind[:40]!r} is not a type that {PROGRAM} knows; these are: {', '.join(known)}"
        raise InputError(Problem("gguf.encoding", what, "--gguf", fix="--gguf Q4_K_M"))


def _program() -> str:
    found = shutil.which(PROGRAM)
    if found is None:
        what = f"{PROGRAM} of llama.cpp is not on PATH, and only it writes this type"
        fix = "brew install llama.cpp, winget install llama.cpp, or https://github.com/ggml-org/llama.cpp/releases"
        raise MachineError(Problem("gguf.no-llama-quantize", what, fix=fix))
    return found
