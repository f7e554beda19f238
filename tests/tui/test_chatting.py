"""A true chat child on the quickstart's model, the conversation that asks it, and its memory beside a training."""

import os
import queue
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from localtune_tui import beside as module
from localtune_tui.beside import beside, needed
from localtune_tui.chatting import ChatChild, Event
from localtune_tui.talk import Talk, Wishes

from tests.command import MODEL, wait_until
from tests.tui.recorded_run import NAME, recorded_run

SECONDS = 120.0


class Heard:
    """What a child says, to be waited for."""

    def __init__(self) -> None:
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()

    def until(self, wanted: Callable[[Event], bool]) -> list[Event]:
        """Everything up to the event that is wanted."""
        found = [self.events.get(timeout=SECONDS)]
        while not wanted(found[-1]):
            found.append(self.events.get(timeout=SECONDS))
        return found


def _is(kind: str) -> Callable[[Event], bool]:
    return lambda event: event["event"] == kind


@pytest.fixture(scope="module")
def model() -> Iterator[tuple[ChatChild, Heard]]:
    """The quickstart's model, in memory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("HF_HUB_OFFLINE", "1")
        heard = Heard()
        child = ChatChild(str(MODEL), heard.events.put)
        heard.until(_is("ready"))
        yield child, heard
        child.end()


def test_a_conversation_is_answered_word_by_word(model: tuple[ChatChild, Heard]) -> None:
    child, heard = model
    talk = Talk()
    talk.begin({"who": ["model"], "template": True})
    child.send(*talk.ask("Say hello."))
    for event in heard.until(_is("done")):
        talk.take(event)
    reply = talk.last
    assert reply is not None
    assert reply.text
    assert reply.stopped == "end"
    assert reply.speed is not None
    assert talk.pending == []


def test_an_answer_is_cancelled(model: tuple[ChatChild, Heard]) -> None:
    child, heard = model
    endless: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}], "temperature": 50.0}
    child.send(endless | {"id": "long"})
    child.send({"cancel": "long"})
    assert heard.until(_is("done"))[-1]["stopped"] in ("cancelled", "end", "length")


def test_a_target_that_is_none_ends_with_the_command_lines_words() -> None:
    heard = Heard()
    ChatChild("there-is-none", heard.events.put)
    (ended,) = heard.until(_is("ended"))
    assert ended["code"] == 2
    assert ended["text"].startswith("error[run.unknown]")
    assert "no run is called 'there-is-none'" in ended["text"]


@pytest.mark.skipif(os.name != "posix", reason="counts the processes of a group")
def test_the_end_leaves_no_process_and_says_nothing() -> None:
    heard = Heard()
    child = ChatChild(str(MODEL), heard.events.put)
    wait_until(lambda: child._child is not None)
    assert child._child is not None
    number = child._child.pid
    child.end()
    child.end()
    child.send({"id": 1})
    wait_until(lambda: not psutil.pid_exists(number))
    wait_until(lambda: not child._thread.is_alive())
    assert heard.events.empty()


def test_each_voice_remembers_its_own_answers_and_a_text_without_template_nothing() -> None:
    talk = Talk()
    talk.begin({"who": ["tuned", "base"], "template": True})
    talk.wishes = Wishes(system="Be brief.")
    base, tuned = talk.ask("one")
    for request, text in ((base, "b"), (tuned, "t")):
        talk.take({"event": "token", "id": request["id"], "text": text})
        talk.take({"event": "done", "id": request["id"], "stopped": "end", "tokens_per_second": 2.0})
    base, tuned = talk.ask("two")
    assert [turn["content"] for turn in base["messages"]] == ["Be brief.", "one", "b", "two"]
    assert [turn["content"] for turn in tuned["messages"]] == ["Be brief.", "one", "t", "two"]
    talk.begin({"who": ["model"], "template": False})
    (alone,) = talk.ask("three")
    assert alone["messages"] == [{"role": "user", "content": "three"}]


def test_an_error_is_the_answers_own_and_a_refused_note_is_not() -> None:
    talk = Talk()
    talk.begin({"who": ["tuned"]})
    (request,) = talk.ask("x" * 10)
    talk.take({"event": "error", "id": request["id"], "code": "chat.context", "text": "too long"})
    assert talk.last is not None
    assert (talk.last.stopped, talk.last.problem) == ("error", "too long")
    (request,) = talk.again()
    talk.take({"event": "done", "id": request["id"], "stopped": "end"})
    talk.take({"event": "error", "id": request["id"], "code": "chat.rating", "text": "noted already"})
    assert talk.last.problem == ""
    assert talk.last.stopped == "end"
    talk.take({"event": "token", "id": "unknown", "text": "x"})
    talk.take({"event": "done"})


def test_what_is_under_way_is_lost_with_the_child() -> None:
    talk = Talk()
    talk.begin({"who": ["tuned"]})
    talk.ask("hi")
    talk.lose()
    assert talk.pending == []
    assert talk.last is not None
    assert talk.last.stopped == "lost"


def test_memory_is_looked_at_only_beside_a_training(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "_available", lambda: 2_000_000_000)
    monkeypatch.setattr(module, "_resident", lambda run: 0)
    done = recorded_run("done-20261121-201034")
    file = tmp_path / "x.gguf"
    file.write_bytes(b"x" * 1_000_000)
    assert beside(str(file)) is None
    recorded_run(steps=40, state="running")
    found = beside(str(file))
    assert found is not None
    assert found.runs == (NAME,)
    assert found.free == 2_000_000_000 - 812_369_408
    assert found.needed == 501_150_000
    assert found.fits
    assert needed(done.name) == round(1.15 * 509_101_568)
    assert needed("nobody") == 0
    assert needed(str(MODEL)) > 500_000_000


def test_an_unreadable_plan_counts_as_nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_available", lambda: 1_000)
    run = recorded_run(steps=40, state="running")
    run.plan.write_text('{"format": 1, "memory": [1, {"name": "base weights"}], "device": 3}', encoding="utf-8")
    found = beside(NAME)
    assert found is not None
    assert (found.needed, found.free) == (0, 1_000)
    assert "has a size that is not known here" in found.sentence
