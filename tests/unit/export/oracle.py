"""llama.cpp's own `llama-quantize`, where a machine has one: what type and which bytes it gives every tensor."""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from gguf import GGMLQuantizationType, GGUFReader

Tensors = dict[str, tuple[GGMLQuantizationType, npt.NDArray[np.uint8]]]


def program() -> str:
    """Where it is; skips the test where it is not."""
    found = os.environ.get("LOCALTUNE_LLAMA_QUANTIZE") or shutil.which("llama-quantize")
    if found is None:
        pytest.skip("needs llama-quantize on PATH, or LOCALTUNE_LLAMA_QUANTIZE")
    return found


def quantised_by_llama_cpp(source: Path, target: Path, encoding: str) -> Tensors:
    """The tensors of the file `source` as llama.cpp quantises them."""
    done = subprocess.run([program(), str(source), str(target), encoding], capture_output=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return tensors_of(target)


def tensors_of(path: Path) -> Tensors:
    """Name -> type and bytes of every tensor of a file."""
    found = {}
    for tensor in GGUFReader(path).tensors:
        content = np.ascontiguousarray(tensor.data).view(np.uint8).reshape(-1)
        found[tensor.name] = (tensor.tensor_type, content)
    return found
