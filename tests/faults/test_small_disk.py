"""Products on a real disk that is too small: nothing under a final name, nothing left, and the bytes that are needed.

Three levels: room for 1 %, 50 % and 99 % of what is written. Once as the system does it, where room is taken before it
is used, and once as where it cannot be, so that the disk is full in the middle.
"""

import os
import random
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from localtune import durable
from localtune.data.tokenizer import Tokenizer
from localtune.errors import ResourceError
from localtune.export import Exportable, prepare
from localtune.job import Job, read_job
from localtune.merging import merge
from localtune.model import resolve
from localtune.products import gguf, writing
from localtune.products.fused import fused, fused_adapter
from localtune.products.source import of_folder
from localtune.runs.files import folder_size
from tests import goals
from tests.command import MODEL, returned
from tests.faults import untrained
from tests.faults.small_disk import small_disk

SIZE = 24 << 20
LEVELS = (0.01, 0.5, 0.99)


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Job]:
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOCALTUNE_RUNS", str(folder / "runs"))
        yield read_job(untrained.make_run(folder / "data"))


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file system of `SIZE` bytes."""
    with small_disk(tmp_path_factory.mktemp("small") / "disk", SIZE) as folder:
        yield folder


def _fused(job: Job, folder: Path) -> None:
    returned(fused(job, folder / "fused", check=False))


def _fused_adapter(job: Job, folder: Path) -> None:
    returned(fused_adapter(job.run.adapter, job.model, folder / "fused"))


def _exported(job: Job, folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gguf, "prepare", lambda *named: _ready())
        returned(gguf.export(returned(of_folder(str(MODEL), folder / "out", check=False)), ["F16"]))


@cache
def _ready() -> Exportable:
    """Its template is asked once, in a process of its own."""
    model = resolve(str(MODEL), Path())
    return prepare(model, Tokenizer(model.folder), ["F16"])


def _merged(job: Job, folder: Path) -> None:
    with writing(folder):
        merge([job.run.adapter, job.run.adapter], folder / "merged")


PRODUCTS: dict[str, Callable[[Job, Path], None]] = {"fused model": _fused, "GGUF": _exported, "merged adapter": _merged}
if goals.FULL:
    PRODUCTS["fused adapter"] = _fused_adapter


def _leave(folder: Path, room: int) -> Path:
    """Fill the disk of `folder` but for `room` bytes; the file that does."""
    filler = folder / "filler"
    with filler.open("wb") as file:
        file.write(bytes(max(0, shutil.disk_usage(folder).free - room)))
    return filler


@pytest.mark.parametrize("reserved", [True, False], ids=["room is taken first", "full in the middle"])
@pytest.mark.parametrize("name", PRODUCTS)
def test_a_full_disk_leaves_no_product_and_says_the_bytes_that_are_needed(
    name: str, reserved: bool, job: Job, disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    goal: goals.Reached,
) -> None:  # fmt: skip
    make, tried = PRODUCTS[name], 0
    make(job, tmp_path)
    (product,) = tmp_path.iterdir()
    size = folder_size(product)
    if not reserved:
        monkeypatch.setattr(durable, "free_space", lambda folder: 1 << 60)
        monkeypatch.setattr(os, "posix_fallocate", lambda *range: None)
    for seed in range(goals.times(1, 10)):
        for level in LEVELS:
            room = int(size * level * random.Random(seed).uniform(0.98, 1)) if seed else int(size * level)
            filler = _leave(disk, room)
            with pytest.raises(ResourceError, match=r"[\d,]+ bytes are needed"):
                make(job, disk)
            left = [path for path in disk.rglob("*") if path.is_file() and path != filler]
            assert not left, f"{level:.0%} of {size} bytes"
            filler.unlink()
            tried += 1
    make(job, disk)
    assert folder_size(disk / product.name) == size
    shutil.rmtree(disk / product.name)
    goal("disk", f"{name}: 0 of {tried} left anything, made when there was room; {'' if reserved else 'not '}reserved")
