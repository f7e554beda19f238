"""The quickstart's model in few bits, as mlx_lm.convert -q leaves it."""

import shutil
from pathlib import Path

import pytest

from localtune.model import resolve
from tests.command import MODEL


def few_bits(folder: Path, *, group_size: int, bits: int) -> Path:
    """Writes it into `folder`; skips the test where there is no mlx-lm."""
    pytest.importorskip("mlx_lm")
    from tests.contract.test_mlx_quantised import converted

    converted(resolve(str(MODEL), MODEL, offline=True), folder, group_size=group_size, bits=bits, mode="affine")
    for path in MODEL.iterdir():
        if not (folder / path.name).exists() and path.suffix != ".safetensors":
            shutil.copyfile(path, folder / path.name)
    return folder
