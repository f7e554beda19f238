"""JSON lines for another program: every line is answered, in order, and none brings the program down."""

import io
import json
import os
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localtune.chat.adapters import Adapters
from localtune.chat.answer import Speaker, Wishes
from localtune.chat.opening import Chat
from localtune.chat.pipe import LINE, Pipe
from localtune.data.conversations import Message
from localtune.errors import InputError, Problem
from localtune.llamacpp import Ended

MESSAGES = [{"role": "user", "content": "hi"}]


class Echo:
    """Says the last message letter by letter; "?" is refused, "…" never ends."""

    def __init__(self, who: str) -> None:
        self.who = who
        self.wishes: list[Wishes] = []

    def reply(self, messages: Sequence[Message], wishes: Wishes) -> Generator[str, None, Ended]:
        self.wishes.append(wishes)
        text = messages[-1].content
        if text == "?":
            raise InputError(Problem("chat.context", "too long"))
        while text == "…":
            yield "…"
        yield f"{self.who}:"
        yield from text[: wishes.max_tokens]
        return Ended(len(text), wishes.max_tokens >= len(text))


def _chat(adapters: Adapters | None = None, feedback: Path = Path("feedback")) -> tuple[Chat, dict[str, Echo]]:
    echoes = {who: Echo(who) for who in ("tuned", "base")}

    def opener(who: str) -> Any:
        def opened(stack: ExitStack) -> Speaker:
            return echoes[who]

        return opened

    return Chat("run", True, {who: opener(who) for who in echoes}, feedback=feedback, adapters=adapters), echoes


def _said(*lines: object) -> list[dict[str, Any]]:
    raw = b"".join(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n" for line in lines)
    out = io.StringIO()
    Pipe(io.BytesIO(raw), out).serve(_chat()[0])
    events = [json.loads(line) for line in out.getvalue().splitlines()]
    assert events[0] == {"event": "ready", "format": 1, "name": "run", "who": ["tuned", "base"], "template": True}
    return events[1:]


def test_requests_are_answered_in_order_with_tokens_and_done() -> None:
    events = _said({"id": 1, "messages": MESSAGES}, {"id": "b", "messages": MESSAGES, "who": "base"})
    kinds = [(e["event"], e["id"], e.get("text")) for e in events]
    first = [("token", 1, "tuned:"), ("token", 1, "h"), ("token", 1, "i"), ("done", 1, None)]
    assert kinds == [*first, ("token", "b", "base:"), ("token", "b", "h"), ("token", "b", "i"), ("done", "b", None)]
    done = events[3]
    assert (done["stopped"], done["tokens"]) == ("end", 2)
    assert done["tokens_per_second"] is not None


def test_an_answer_cut_at_its_limit_says_so() -> None:
    assert _said({"id": 1, "messages": MESSAGES, "max_tokens": 1})[-1]["stopped"] == "length"


def test_wishes_reach_the_speaker() -> None:
    chat, echoes = _chat()
    line = {"id": 1, "messages": MESSAGES, "temperature": 0.5, "top_p": 0.9, "seed": 7, "max_tokens": 3}
    Pipe(io.BytesIO(json.dumps(line).encode()), io.StringIO()).serve(chat)
    assert echoes["tuned"].wishes == [Wishes(0.5, 0.9, 7, 3)]


def test_an_adapter_that_is_not_there_is_answered_with_what_a_program_can_write() -> None:
    out = io.StringIO()
    lines = [{"id": i, "messages": MESSAGES, "lora": lora} for i, lora in enumerate(({"c": 1}, {"b": 1e30}))]
    raw = "\n".join(map(json.dumps, lines)).encode()
    Pipe(io.BytesIO(raw), out).serve(_chat(Adapters((Path("a.gguf"), Path("b.gguf"))))[0])
    _, unknown, far = (json.loads(line) for line in out.getvalue().splitlines())
    assert "no adapter is called 'c'" in unknown["text"]
    assert "cannot count 1e+30 times" in far["text"]
    for event in (unknown, far):
        assert event["code"] == "chat.lora"
        assert '{"lora": {"a": 1.0}}' in event["text"]
        assert "/lora" not in event["text"]


def test_adapters_are_named_and_wished_for_by_name() -> None:
    chat, echoes = _chat(Adapters((Path("a.gguf"), Path("b.gguf"))))
    lines = [
        {"id": 1, "messages": MESSAGES, "lora": {"b": 0.5}},
        {"id": 2, "messages": MESSAGES},
        {"id": 3, "messages": MESSAGES, "lora": {"b": 0.5}, "who": "base"},
        {"id": 4, "messages": MESSAGES, "lora": ["b"]},
    ]
    out = io.StringIO()
    Pipe(io.BytesIO("\n".join(map(json.dumps, lines)).encode()), out).serve(chat)
    ready, *events = map(json.loads, out.getvalue().splitlines())
    assert ready["lora"] == {"a": 1.0, "b": 0.0}
    assert [wishes.lora for wishes in echoes["tuned"].wishes] == [{"b": 0.5}, None]
    errors = {event["id"]: event["text"] for event in events if event["event"] == "error"}
    assert sorted(errors) == [3, 4]
    assert "the base answers without adapters" in errors[3]


def test_an_answer_is_kept_as_good_or_bad_with_what_was_heard(tmp_path: Path) -> None:
    heard = [{"role": "system", "content": "brief"}, *MESSAGES, {"role": "assistant", "content": "ho"}, *MESSAGES]
    lines = [
        {"id": 1, "messages": heard}, {"keep": 1, "good": True}, {"keep": 1, "good": False},
        {"id": 2, "messages": MESSAGES, "max_tokens": 1}, {"keep": 2, "good": True}, {"keep": 2, "good": False},
        {"keep": 3, "good": True}, {"id": 4, "messages": [{"role": "user", "content": "?"}]}, {"keep": 4, "good": True},
        {"keep": 1}, {"keep": [1], "good": True},
    ]  # fmt: skip
    out = io.StringIO()
    Pipe(io.BytesIO("\n".join(map(json.dumps, lines)).encode()), out).serve(_chat(feedback=tmp_path)[0])
    said = [json.loads(line) for line in out.getvalue().splitlines()]
    kept = [(event["id"], event["good"], event["path"]) for event in said if event["event"] == "kept"]
    assert kept == [(1, True, str(tmp_path / "good.jsonl")), (2, False, str(tmp_path / "bad.jsonl"))]
    errors = [(event["id"], event["text"]) for event in said if event["event"] == "error"]
    assert [number for number, _ in errors] == [1, 2, 3, 4, 4, 1, None]
    assert "noted as good already" in errors[0][1]
    assert "cut off" in errors[1][1]
    assert "no such answer" in errors[2][1]
    assert json.loads((tmp_path / "good.jsonl").read_text())["messages"] == [
        *heard[:2], heard[2] | {"weight": 0}, heard[3], {"role": "assistant", "content": "tuned:hi"},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "number", "says"),
    [
        (b"{\n", None, "not JSON"),
        (b"[]\n", None, "line"),
        (b"\xff\n", None, "not UTF-8"),
        (b'{"id": 1, "messages": [{"role": "user", "content": "caf\xe9"}]}\n', None, "not UTF-8"),
        ('{"id": 1}'.encode("utf-16"), None, "not UTF-8"),
        ('{"id": 1}'.encode("utf-16-be"), None, "not UTF-8"),
        ('{"id": 1}'.encode("utf-32-le"), None, "not UTF-8"),
        (b"[" * 100_000 + b"\n", None, "not JSON"),
        (b" " * LINE + b"{}\n", None, "longer than"),
        ({"id": 1}, 1, "messages"),
        ({"messages": MESSAGES}, None, "id"),
        ({"id": True, "messages": MESSAGES}, None, "id"),
        ({"id": 1, "messages": []}, 1, "messages"),
        ({"id": 1, "messages": [{"role": "robot", "content": ""}]}, 1, "messages.0.role"),
        ({"id": 1, "messages": MESSAGES, "temprature": 1}, 1, "temprature"),
        ({"id": 1, "messages": MESSAGES, "temperature": -1}, 1, "temperature"),
        ({"id": 1, "messages": MESSAGES, "top_p": 0}, 1, "top_p"),
        ({"id": 1, "messages": MESSAGES, "seed": -1}, 1, "seed"),
        ({"id": 1, "messages": MESSAGES, "lora": {"a": 1}}, 1, "no adapter to choose"),
        ({"id": 1, "messages": MESSAGES, "who": "nobody"}, 1, "no 'nobody'"),
        ({"id": 1, "messages": [{"role": "user", "content": "?"}]}, 1, "too long"),
        (b'{"id": 1, "messages": [{"role": "user", "content": "\\ud800"}]}\n', 1, "hex escape"),
        ({"cancel": None}, None, "cancel"),
    ],
)
def test_a_bad_line_is_answered_with_an_error_and_the_next_is_heard(line: object, number: object, says: str) -> None:
    bad, *others = _said(line, b"\n", {"id": 2, "messages": MESSAGES})
    assert (bad["event"], bad["id"]) == ("error", number)
    assert says in bad["text"]
    assert "utf-16" not in bad["text"]
    assert others[-1]["event"] == "done"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)
REQUESTS = st.fixed_dictionaries(
    {},
    optional={
        key: VALUES for key in ("id", "messages", "who", "temperature", "seed", "cancel", "max_tokens", "lora", "keep")
    },
)


@settings(max_examples=100, deadline=None)
@given(lines=st.lists(st.binary() | REQUESTS.map(lambda value: json.dumps(value).encode())))
def test_whatever_comes_in_only_events_come_out(lines: list[bytes]) -> None:
    events = _said(b"\n".join(lines) + b"\n", {"id": "last", "messages": MESSAGES})
    assert {event["event"] for event in events} <= {"token", "done", "error"}
    assert events[-1]["id"] == "last"


@contextmanager
def _running() -> Iterator[tuple[Any, Iterator[dict[str, Any]]]]:
    """A pipe to write to, and the events as they come."""
    (read_in, write_in), (read_out, write_out) = os.pipe(), os.pipe()
    with (
        os.fdopen(read_in, "rb") as lines,
        os.fdopen(write_in, "w") as asks,
        os.fdopen(read_out) as events,
        os.fdopen(write_out, "w") as out,
    ):
        thread = threading.Thread(target=lambda: Pipe(lines, out).serve(_chat()[0]), daemon=True)
        thread.start()
        yield asks, (json.loads(line) for line in events)
        asks.close()
        thread.join(10)
        assert not thread.is_alive()


def _ask(asks: Any, *values: object) -> None:
    for value in values:
        asks.write(json.dumps(value) + "\n")
    asks.flush()


def test_an_answer_under_way_and_one_that_waits_can_be_cancelled() -> None:
    endless = [{"role": "user", "content": "…"}]
    with _running() as (asks, events):
        assert next(events)["event"] == "ready"
        _ask(asks, {"id": 1, "messages": endless}, {"id": 2, "messages": endless}, {"cancel": 2})
        assert next(events) == {"event": "token", "id": 1, "text": "…"}
        _ask(asks, {"cancel": "unknown"}, {"id": 1, "messages": MESSAGES}, {"cancel": 1})
        ends = (event for event in events if event["event"] != "token")
        first, second, third = next(ends), next(ends), next(ends)
        assert (first["id"], first["stopped"], first["tokens"]) == (1, "cancelled", None)
        assert (second["id"], second["stopped"]) == (2, "cancelled")
        assert third["text"] == "the id 1 is still being answered"
        _ask(asks, {"id": 1, "messages": MESSAGES})
        assert next(ends)["stopped"] == "end"
