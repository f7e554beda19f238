"""Looks are bounded and apart: one that fails or hangs takes no other with it."""

import threading
import time
from collections.abc import Iterator

from localtune.doctor import Finding, Look, can_train, examine


def test_a_look_that_fails_says_so_and_the_others_go_on() -> None:
    def broken() -> Iterator[Finding]:
        yield Finding("first", "ok", "seen")
        raise PermissionError(13, "Permission denied", "/there")

    def fine() -> Iterator[Finding]:
        yield Finding("fine", "ok", "")

    found = examine([Look("a", "broken", broken, 2), Look("b", "fine", fine, 2)])
    assert [(finding.name, finding.status, finding.group) for finding in found] == [
        ("first", "ok", "a"),
        ("broken", "warning", "a"),
        ("fine", "ok", "b"),
    ]
    assert found[1].text == "could not be looked at: Permission denied /there"


def test_a_look_that_hangs_is_given_up_after_its_seconds() -> None:
    release = threading.Event()

    def hangs() -> Iterator[Finding]:
        release.wait()
        yield Finding("late", "ok", "")

    began = time.monotonic()
    found = examine([Look("a", "hangs", hangs, 0.2, needed=True), Look("a", "also", hangs, 0.2)])
    assert time.monotonic() - began < 2
    release.set()
    assert [finding.text for finding in found] == ["gave no answer within 0.2 s"] * 2
    assert not can_train(found)
    assert can_train(found[1:])


def test_words_of_an_error_that_may_hold_a_secret_stay_out() -> None:
    def broken() -> Iterator[Finding]:
        raise RuntimeError("token hf_secret was refused")
        yield

    (found,) = examine([Look("a", "broken", broken, 2)])
    assert found.text == "could not be looked at: RuntimeError"
