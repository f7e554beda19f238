"""ggml's own quantiser, out of the extension library of the installed xllamacpp: bytes that are llama.cpp's.

The function `ggml_quantize_chunk` is called by its C name, which the library exports under Linux and macOS and not
under Windows. The package itself is not imported. Before it is used, a process of its own tries it on blocks whose
bytes are known and on others whose error is: a library that crashes, hangs, or computes something else is left alone.
"""

import ctypes
import functools
import importlib.util
import subprocess
import sys
from collections.abc import Callable
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import NoReturn

import gguf
import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from localtune.batch import Floats
from localtune.export import kquants
from localtune.export.kquants import Bytes

Kernel = Callable[[Floats, GGMLQuantizationType], Bytes]
"""As `kquants.quantise`."""
_SECONDS = 60
"""The trial takes half a second; this is for a machine under load."""

EXACT_CODES = {
    GGMLQuantizationType.Q8_0: (-127, 127),
    GGMLQuantizationType.Q5_0: (-16, 15),
    GGMLQuantizationType.Q5_1: (0, 31),
    GGMLQuantizationType.Q4_K: (-8, 7),
    GGMLQuantizationType.Q5_K: (-16, 15),
    GGMLQuantizationType.Q6_K: (-32, 31),
}
"""Types that are tried -> the least and the largest code: whole numbers between them are kept exactly with a scale of
1, so that no order of sums and no fused multiplication can change a byte."""
_ERROR = 0.01
"""How much larger the root mean square error may be than that of `kquants`, relatively."""


@functools.cache
def kernel() -> Kernel | None:
    """The quantiser of ggml; None where there is none, or where it does not pass its trial."""
    return trusted(library())


def trusted(path: Path | None) -> Kernel | None:
    """The quantiser in the library `path`, once it has passed its trial in a process of its own."""
    if path is None:
        return None
    command = [sys.executable, "-P", "-c", "from localtune.export.kernel import try_out; try_out()", str(path)]
    try:
        tried = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS, check=False)
        return loaded(path) if tried.returncode == 0 else None
    except (OSError, AttributeError, subprocess.SubprocessError):
        return None


def library() -> Path | None:
    """The extension library of the installed xllamacpp."""
    try:
        found = importlib.util.find_spec("xllamacpp")
    except (ImportError, ValueError):
        return None
    for folder in (found.submodule_search_locations or []) if found else []:
        for path in sorted(Path(folder).glob("xllamacpp*")):
            if path.name.endswith(tuple(EXTENSION_SUFFIXES)):
                return path
    return None


def loaded(path: Path) -> Kernel:
    """The quantiser in the library `path`, untried. Raises `OSError` or `AttributeError`."""
    function = ctypes.CDLL(str(path)).ggml_quantize_chunk
    function.restype = ctypes.c_size_t
    pointer, count = ctypes.c_void_p, ctypes.c_int64
    function.argtypes = [ctypes.c_int, pointer, pointer, count, count, count, pointer]

    def quantise(rows: Floats, kind: GGMLQuantizationType) -> Bytes:
        block, size = GGML_QUANT_SIZES[kind]
        values = np.ascontiguousarray(rows, np.float32)
        if values.shape[1] % block:
            raise ValueError(f"blocks of {block} do not divide rows of {values.shape[1]}")
        found = np.empty((len(values), values.shape[1] // block * size), np.uint8)
        written = function(int(kind), values.ctypes.data, found.ctypes.data, 0, *values.shape, None)
        if written != found.nbytes:
            raise ValueError(f"{kind.name} gave {written} bytes, not {found.nbytes}")
        return found

    return quantise


def try_out() -> NoReturn:
    """The trial of the library named on the command line: this process ends with 0 if it passes."""
    try:
        sys.exit(0 if passes(loaded(Path(sys.argv[1]))) else 1)
    except (OSError, AttributeError, ValueError):
        sys.exit(1)


def passes(quantise: Kernel) -> bool:
    """Whether `quantise` gives the known bytes, and the error it should have, in every type."""
    return all(_exact(quantise, kind) and _as_good(quantise, kind) for kind in EXACT_CODES)


def _exact(quantise: Kernel, kind: GGMLQuantizationType) -> bool:
    low, high = EXACT_CODES[kind]
    rows = np.random.default_rng(1).integers(low, high + 1, (3, 512)).astype(np.float32)
    rows[:, ::16], rows[:, 1::16] = low, high
    return np.array_equal(quantise(rows, kind), kquants.quantise(rows, kind))


def _as_good(quantise: Kernel, kind: GGMLQuantizationType) -> bool:
    rows = np.random.default_rng(2).standard_normal((8, 1024)).astype(np.float32)
    theirs, ours = (
        np.mean((gguf.quants.dequantize(one(rows, kind), kind) - rows) ** 2) for one in (quantise, kquants.quantise)
    )
    return bool(theirs <= ours * (1 + _ERROR) ** 2)
