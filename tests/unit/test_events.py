"""Events survive the way to disk and back, and a torn file never stops a reader."""

import math
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localtune import redacted
from localtune.events import (
    KINDS,
    Checkpoint,
    Event,
    Failed,
    Phase,
    Step,
    Unknown,
    Warn,
    from_json,
    read_events,
    to_json,
)
from localtune.words import event_lines

STEP = Step(3, 10, 0.3, 1.25, 7.0, 1e-4, 0.5, True, 20, 7, 1000, 0.1)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_event_comes_back_as_it_went(kind: str) -> None:
    from hypothesis.strategies import builds

    checks = st.lists(st.fixed_dictionaries({"name": st.text(), "passed": st.none() | st.booleans()}))
    losses = st.dictionaries(st.text(), st.floats(allow_nan=False, allow_infinity=False))
    given_here = {"checks": checks, "losses": losses} if kind == "proof" else {}

    @given(builds(KINDS[kind], **given_here))
    def there_and_back(event: Event) -> None:
        back = from_json(to_json(event))
        assert repr(back) == repr(event)

    there_and_back()


@given(st.floats())
def test_numbers_that_are_not_finite_are_kept(loss: float) -> None:
    back = from_json(to_json(Step(**{**STEP.__dict__, "loss": loss})))
    assert isinstance(back, Step)
    assert back.loss == loss or (math.isnan(back.loss) and math.isnan(loss))


def test_an_event_of_a_later_version_is_unknown_not_an_error() -> None:
    assert isinstance(from_json('{"format": 1, "type": "telepathy"}'), Unknown)
    assert isinstance(from_json('{"format": 2, "type": "step"}'), Unknown)
    assert isinstance(from_json('{"format": 1, "type": "step"}'), Unknown)


def test_a_file_cut_at_any_byte_is_read_up_to_its_last_whole_line(tmp_path: Path) -> None:
    lines = [to_json(STEP, 0.0), to_json(Checkpoint(3, "step-000003", 5, 0.2), 0.0)]
    content = "".join(line + "\n" for line in lines).encode()
    path = tmp_path / "events.jsonl"
    for size in range(len(content) + 1):
        path.write_bytes(content[:size])
        found = [event for event, _ in read_events(path)]
        assert len(found) == content[:size].count(b"\n")


def test_paths_stay_whole_for_programs_and_are_short_where_they_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """A "~" in quotes is no home folder for a shell that is given the text."""
    home, token = os.path.abspath("/home/ann"), "hf_" + "aB3" * 8
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, home)
    redacted.forget()
    try:
        text = f"cp '{home}/my run/x' . {token}"
        for event in (Phase("saving", text), Warn("a.b", text), Failed("a.b", text)):
            back = from_json(to_json(event))
            assert not isinstance(back, Unknown)
            assert text.replace(token, redacted.HIDDEN) in vars(back).values()
            assert "cp '~/my run/x' . ***" in " ".join(event_lines(back))
    finally:
        monkeypatch.undo()
        redacted.forget()


def test_a_foreign_line_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"\xff\xfe garbage\n[1]\n" + to_json(STEP).encode() + b"\n")
    assert [event for event, _ in read_events(path)] == [STEP]
