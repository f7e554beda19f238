"""What every test may use."""

import os
from pathlib import Path

import pytest

from tests.command import MODEL, Command

os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture
def localtune(tmp_path: Path) -> Command:
    """The command line, with an empty folder of runs."""
    assert MODEL.is_dir()
    runs = tmp_path / "runs"
    runs.mkdir()
    return Command(runs)
