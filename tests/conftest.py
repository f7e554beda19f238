"""What every test may use."""

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests import goals
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


@pytest.fixture
def goal(record_property: Callable[[str, object], None]) -> goals.Reached:
    """Says what a test has reached of a promise in `tests.goals`."""

    def reached(key: str, figure: str) -> None:
        assert key in goals.GOALS
        record_property("goal", [key, figure])

    return reached


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In the full form only what records a figure runs, and everything in tests/faults."""
    if not goals.FULL:
        return
    wanted = [item for item in items if "faults" in item.path.parts or "goal" in getattr(item, "fixturenames", ())]
    config.hook.pytest_deselected(items=[item for item in items if item not in wanted])
    items[:] = wanted


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The table of promises, in the full form."""
    if not goals.FULL:
        return
    reached = [
        (value[0], value[1] if report.passed else f"FAILED: {value[1]}")
        for state in ("passed", "failed")
        for report in terminalreporter.stats.get(state, ())
        for name, value in report.user_properties
        if name == "goal"
    ]
    terminalreporter.section("promises, targets and figures")
    for line in goals.table(reached):
        terminalreporter.line(line)
