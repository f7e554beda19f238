"""The way out for a model that cannot be written here: the converter in a llama.cpp checkout of the user's own.

It runs with the Python of a virtual environment inside the checkout, or the one that runs this. What it writes is not
taken on trust: the file is read back and compared like every other.
"""

import os
import re
import sys
from pathlib import Path

from localtune.errors import InputError, MachineError, Problem
from localtune.export.program import Ended, failure, run
from localtune.model.json_object import read_object
from localtune.typed import typed

TOKENIZER_CONFIG = "tokenizer_config.json"
SCRIPT = "convert_hf_to_gguf.py"
CONVERTED = ("F32", "F16", "BF16", "Q8_0")
"""The encodings it writes."""
_REQUIREMENTS = Path("requirements", "requirements-convert_hf_to_gguf.txt")
_MISSING = re.compile(r"ModuleNotFoundError: No module named '([\w.]+)'")


def convert(checkout: Path, model: Path, target: Path, encoding: str) -> None:
    """Write the model in the folder `model` to `target`, a temporary name that is gone again when this fails.

    Raises `InputError` for what is no checkout, an encoding the converter does not write, or a tokenizer with code of
    its own, which it would run, `MachineError` where its Python lacks a package, `ResourceError` for a full disk and
    `RunFailed` with its own words for anything else.
    """
    script = checkout / SCRIPT
    if not script.is_file():
        what, fix = f"holds no {SCRIPT}", "git clone https://github.com/ggml-org/llama.cpp, and name that folder"
        raise InputError(Problem("gguf.converter", what, str(checkout), fix=fix))
    if encoding not in CONVERTED:
        what = f"llama.cpp's converter does not write {encoding[:40]!r}; it writes {', '.join(CONVERTED)}"
        raise InputError(Problem("gguf.encoding", what, "--gguf", fix=f"--gguf {','.join(CONVERTED[1:])}"))
    _refuse_own_code(model)
    python = _python(checkout)
    paths = [str(script.absolute()), str(model.absolute()), "--outfile", str(target.absolute())]
    try:
        ended = run([python, *paths, "--outtype", encoding.lower()])
        if ended.code or not target.is_file():
            _refuse_missing(ended, python, checkout)
            raise failure("gguf.converter", ended, str(script), target)
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def _refuse_own_code(model: Path) -> None:
    """The converter trusts what the folder names; its other files have been checked when it was opened."""
    path = model / TOKENIZER_CONFIG
    if path.is_file() and "auto_map" in read_object(path):
        what = "auto_map: this tokenizer wants to run its own code, which the converter would do"
        fix = "choose a model whose tokenizer needs none, or make a copy of the folder without that key"
        raise InputError(Problem("model.code", what, str(path), fix=fix))


def _refuse_missing(ended: Ended, python: str, checkout: Path) -> None:
    missing = _MISSING.search(ended.output)
    if missing:
        what = f"llama.cpp's converter needs the package {missing[1]}, which this Python lacks"
        fix = typed(python, "-m", "pip", "install", "-r", checkout / _REQUIREMENTS)
        raise MachineError(Problem("gguf.converter", what, python, fix=fix))


def _python(checkout: Path) -> str:
    inner = Path("Scripts", "python.exe") if os.name == "nt" else Path("bin", "python")
    for folder in (".venv", "venv"):
        if (checkout / folder / inner).is_file():
            return str((checkout / folder / inner).absolute())
    return sys.executable
