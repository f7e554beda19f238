"""Whatever the bytes, a parser of ours reads them or says in its own words why not: nothing else comes of them.

Every day hypothesis changes valid files at places; in the full form each parser gets a million inputs in a process of
its own, from atheris where it is installed (`pip install atheris`) and else from a generator of ours.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from localtune.events import Step, Unknown, from_json
from tests.faults.fuzz.mutation import HOWS, PIECES, Edit, mutated
from tests.faults.fuzz.seeds import EVENTS
from tests.faults.fuzz.targets import TARGETS, Target
from tests.goals import FULL, Reached, times

NAMES = [target.name for target in TARGETS]
EXAMPLES = 100
INPUTS = 1_000_000
edits = st.lists(
    st.builds(Edit, st.sampled_from(HOWS), st.floats(0, 1), st.integers(0, 30), st.sampled_from(PIECES) | st.binary()),
    max_size=4,
)


def named(name: str) -> Target:
    return next(target for target in TARGETS if target.name == name)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_changed_file_is_read_or_refused_in_words(name: str) -> None:
    target = named(name)

    @given(st.sampled_from(target.seeds), edits)
    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    def check(seed: bytes, changes: list[Edit]) -> None:
        target.run(mutated(seed, changes))

    check()


@pytest.mark.parametrize("name", NAMES)
def test_the_seeds_are_valid_files_so_that_changes_reach_far(name: str) -> None:
    target = named(name)
    assert any(target.run(seed) for seed in target.seeds)


def test_an_exception_that_a_parser_may_not_raise_is_noticed() -> None:
    with pytest.raises(ZeroDivisionError):
        Target("a parser with a fault", lambda data: 1 // len(data), (b"",)).run(b"")


FOUND: dict[str, tuple[str, bytes]] = {
    "a type that is a list": ("event", b'{"format": 1, "type": ["step"]}'),
    "a number no float holds": ("event", EVENTS[1].replace(b'"seconds": 0.1', b'"seconds": 1' + b"0" * 400)),
    "a line of 100,000 levels": ("event", b"[" * 100_000),
    "half a character on the command line": ("names and --set", b"data.system='\xed\xa0\x80'"),
    "names of templates that are lists": ("tokenizer_config.json", b'{"chat_template": [{"name": ["x"]}]}'),
    "a template that takes all memory": ("chat template", b"{{ 'a' * 10 ** 10 }}"),
    "a template without end": ("chat template", b"{% for a in range(99999) %}" * 3 + b"{% endfor %}" * 3),
}
"""What was no answer once."""


@pytest.mark.parametrize("what", FOUND)
def test_what_fuzzing_has_found_stays_mended(what: str) -> None:
    name, data = FOUND[what]
    if name in NAMES:
        named(name).run(data)


def test_an_event_of_other_types_than_it_states_is_unknown() -> None:
    assert type(from_json(EVENTS[1].decode())) is Step
    wrong = EVENTS[1].replace(b'"applied": true', b'"applied": "yes"').decode()
    assert type(from_json(wrong)) is Unknown


def run(name: str, count: int, report: Path) -> dict[str, object]:
    """What a process that feeds the parser `name` reports."""
    command = [sys.executable, "-m", "tests.faults.fuzz.run", name, str(count), str(report)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert report.is_file(), done.stdout[-2000:] + done.stderr[-2000:]
    found: dict[str, object] = json.loads(report.read_text(encoding="utf-8"))
    return found


@pytest.mark.skipif(not FULL, reason="a million inputs a parser are for the full form")
@pytest.mark.skipif(sys.platform == "win32", reason="time and memory of a process are measured as on POSIX")
@pytest.mark.parametrize("name", NAMES)
def test_a_million_inputs_a_parser_end_as_they_may(name: str, tmp_path: Path, goal: Reached) -> None:
    found = run(name, times(0, INPUTS), tmp_path / "report.json")
    assert found["fault"] == "", found
    grown = int(str(found["grown"])) // 2**20
    figure = f"{name}: {found['inputs']:,} inputs by {found['how']}, 0 faults, slowest {found['slowest']:.2f} s"
    goal("code", f"{figure}, memory +{grown} MB, {found['read']:,} read")
