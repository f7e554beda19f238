"""What every test may use."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.command import MODEL, Command, end_runs

os.environ.setdefault("OMP_NUM_THREADS", "1")
settings.register_profile("same", derandomize=True)
settings.register_profile("random", derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))
"""The same examples every time, so that a change alone can make a test fail; `random` looks for new ones."""
_CACHE = tempfile.TemporaryDirectory(prefix="localtune-tests-")
os.environ["LOCALTUNE_CACHE"] = _CACHE.name  # tests leave nothing in the user's own


@pytest.fixture
def localtune(tmp_path: Path) -> Iterator[Command]:
    """The command line, with an empty folder of runs; nothing runs on when the test has ended."""
    assert MODEL.is_dir()
    runs = tmp_path / "runs"
    runs.mkdir()
    yield Command(runs)
    end_runs(runs)
