"""Events and times in words."""

from typing import Any

from localtune.events import Done, Evaluation, Match, Phase, Proof, Step, Warn
from localtune.words import duration, event_lines, proof_lines


def test_times_have_two_units() -> None:
    said = [duration(seconds) for seconds in (9.2, 876, 7500, 270_000, float("nan"))]
    assert said == ["9s", "14m36s", "2h05m", "3d03h", "0s"]


def test_the_best_update_and_the_memory_are_said_at_the_end() -> None:
    lines = list(event_lines(Done(60, "steps", 48, 35.0, 700_000_000, 770_000_000)))
    assert lines == [
        "ended at step 60 (steps), best at step 48 after 35s",
        "memory  peak 700 MB, planned 770 MB (+10%)",
    ]


def test_an_update_is_no_line_and_nothing_divides_by_no_row() -> None:
    assert list(event_lines(Step(1, 2, 0.1, 1.0, 1.0, 1e-4, 0.5, True, 10, 5, 100, 0.1))) == []
    assert list(event_lines(Match(0, "base", "", 0, 0, 1.0))) == ["base   exact match 0/0"]
    evaluation = Evaluation(3, "valid", "tuned", 1000.0, 5, 0.5, True, 1.0)
    assert list(event_lines(evaluation)) == [
        "tuned  valid loss at step 3: 1000.0000  perplexity inf  accuracy 50.0%  best so far"
    ]


def test_no_text_of_an_event_steers_a_terminal() -> None:
    events = (Phase("\x1b[1m", "\x1b[2m"), Warn("\x1b", "\x1b"), Proof("\x1b", False, [{"name": "\x1b"}], {}, 1.0))
    assert "\x1b" not in "".join(line for event in events for line in event_lines(event))


def test_a_proof_names_what_was_not_compared_and_aligns_its_columns() -> None:
    checks: list[dict[str, Any]] = [
        {"name": "file", "passed": True, "text": "alike"},
        {"name": "training", "passed": None, "text": "no"},
    ]
    lines = list(proof_lines("Q8_0", True, checks, {"base": 4.25}, 3.0))
    assert [line.text for line in lines] == [
        "proof of Q8_0: passed, but for training in 3s",
        "  file      ok      alike",
        "  training  —       no",
        "  loss              base 4.2500",
    ]
    assert [line.passed for line in lines] == [True, True, None, None]
