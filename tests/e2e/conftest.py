"""What every test from end to end may use."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from localtune import places
from tests.command import end_runs
from tests.e2e.in_process import InProcess


@pytest.fixture
def localtune(tmp_path: Path) -> Iterator[InProcess]:
    """The command line, with an empty folder of runs; nothing runs on when the test has ended."""
    runs = tmp_path / "runs"
    runs.mkdir()
    yield InProcess(runs)
    end_runs(runs)


@pytest.fixture
def few_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quarter of the positions, each of which is a question to llama.cpp, where no run has recorded its own."""
    monkeypatch.setattr(places, "POSITIONS", 16)
