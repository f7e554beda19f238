"""Chat for another program: JSON lines in, JSON lines out, in UTF-8, format 1.

The first line out says who can be asked, and comes when the first of them is in memory:

    {"event": "ready", "format": 1, "name": "support-bot-20260101-120000", "who": ["tuned", "base"], "template": true}

With LoRA files beside a GGUF it also has their names, and how much each counts: "lora": {"formal": 1.0, "brief": 0.0}.

A line in asks; all but `id` and `messages` may be left out. `who` is by default the first that `ready` named:

    {"id": 7, "messages": [{"role": "user", "content": "hi"}], "who": "tuned",
     "temperature": 0, "top_p": 1, "seed": 0, "max_tokens": 1024}

A system turn is the first of the messages. `"lora": {"formal": 0.7, "brief": 0.3}` says how much each LoRA counts in
this answer, those that are not named not at all; only of "tuned", and only where `ready` named some.

Requests are answered in order, each with tokens and one `done`, or with one `error`. `stopped` is "end" (the model
ended its answer), "length" (`max_tokens`, or the model reads no more) or "cancelled"; `tokens` and `tokens_per_second`
are null of a cancelled answer. `text` is what the model said: never half a character, and not escaped for a screen.

    {"event": "token", "id": 7, "text": "He"}
    {"event": "done", "id": 7, "stopped": "end", "tokens": 12, "seconds": 0.61, "tokens_per_second": 19.7}
    {"event": "error", "id": 7, "code": "chat.context", "text": "error[chat.context]: …"}

`{"keep": 7, "good": true}` keeps the answer with that id, one of the last hundred, as a row to test or train with:
with all that was heard before it, in good.jsonl or bad.jsonl of the folder that `localtune chat` keeps such rows in. It
is said where, or is refused with an `error`; an answer is kept once, and one that was cut off is not good.

    {"event": "kept", "id": 7, "good": true, "path": "/…/feedback/good.jsonl"}

`{"cancel": 7}` ends an answer that is under way or waits; of an id that is not asked for it does nothing. A line that
is none of these is answered with an `error` whose id is null where none can be read. The end of stdin ends the program
when all that was asked is answered.
"""

import contextlib
import json
import queue
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Annotated, Any, BinaryIO, TextIO

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from localtune.chat.adapters import Adapters
from localtune.chat.answer import Answer, Wishes
from localtune.chat.kept import Kept
from localtune.chat.opening import Chat
from localtune.data.conversations import Message, Role
from localtune.errors import InputError, LocaltuneError, Problem

FORMAT = 1
LINE = 4_000_000
"""Bytes of the longest line that is read."""
Id = int | str


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _Turn(_Strict):
    role: Role
    content: str


class _Request(_Strict):
    id: Id
    messages: Annotated[list[_Turn], Field(min_length=1)]
    who: str | None = None
    temperature: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Wishes.temperature
    top_p: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = Wishes.top_p
    seed: Annotated[int, Field(ge=0, lt=2**63)] = Wishes.seed
    max_tokens: Annotated[int, Field(ge=1, lt=2**31)] = Wishes.max_tokens
    lora: dict[str, float] | None = None


class _Cancel(_Strict):
    cancel: Id


class _Keep(_Strict):
    keep: Id
    good: bool


_Line = _Request | _Keep | _Cancel


class _BadLine(Exception):
    """A line that asks for nothing."""

    def __init__(self, who_asked: Id | None, text: str) -> None:
        super().__init__(text)
        self.id = who_asked


class Pipe:
    """Requests from one stream, answers to another."""

    def __init__(self, lines: BinaryIO, out: TextIO) -> None:
        self._lines, self._out = lines, out
        self._asked: queue.SimpleQueue[_Request | _Keep | _BadLine | None] = queue.SimpleQueue()
        self._waiting: set[Id] = set()
        self._cancelled: set[Id] = set()
        self._lock = threading.Lock()
        self._kept = Kept()

    def serve(self, chat: Chat) -> None:
        """Answer until the lines end. Raises what loading the first speaker raises, before anything is said."""
        chat.speaker(chat.who[0])
        lora = {"lora": dict(zip(chat.adapters.names, chat.adapters.scales, strict=True))} if chat.adapters else {}
        self._say(event="ready", format=FORMAT, name=chat.name, who=list(chat.who), template=chat.template, **lora)
        threading.Thread(target=self._read, daemon=True).start()
        while (asked := self._asked.get()) is not None:
            if isinstance(asked, _BadLine):
                self._say(event="error", id=asked.id, code="chat.request", text=str(asked))
                continue
            number = asked.keep if isinstance(asked, _Keep) else asked.id
            try:
                if isinstance(asked, _Keep):
                    path = self._kept.rate(number, chat.feedback, good=asked.good, template=chat.template)
                    self._say(event="kept", id=number, good=asked.good, path=str(path.resolve()))
                else:
                    self._answer(chat, asked)
            except LocaltuneError as error:
                self._say(event="error", id=number, code=error.problems[0].code, text=str(error))
            finally:
                if isinstance(asked, _Request):
                    self._settle(asked.id)

    def _settle(self, number: Id) -> None:
        with self._lock:
            self._waiting.discard(number)
            self._cancelled.discard(number)

    def _answer(self, chat: Chat, asked: _Request) -> None:
        messages = [Message(turn.role, turn.content) for turn in asked.messages]
        wishes = Wishes(asked.temperature, asked.top_p, asked.seed, asked.max_tokens, asked.lora)
        who = asked.who or chat.who[0]
        if asked.lora is not None and (chat.adapters is None or who == "base"):
            what = "there is no adapter to choose" if chat.adapters is None else "the base answers without adapters"
            raise InputError(Problem("chat.lora", what, fix="leave out lora"))
        if asked.lora is not None and chat.adapters is not None:
            _refuse_unknown(asked.lora, chat.adapters)
        answer = Answer(chat.speaker(who), messages, wishes)
        if not self._is_cancelled(asked.id):
            with contextlib.closing(iter(answer)) as pieces:
                for piece in pieces:
                    if self._is_cancelled(asked.id):
                        break
                    self._say(event="token", id=asked.id, text=piece)
        ended = answer.ended
        self._kept.note(asked.id, messages, answer.text, whole=ended is not None and ended.stopped)
        self._say(
            event="done",
            id=asked.id,
            stopped="cancelled" if ended is None else "end" if ended.stopped else "length",
            tokens=ended.tokens if ended else None,
            seconds=round(answer.seconds, 3),
            tokens_per_second=round(answer.speed, 2) if ended else None,
        )

    def _is_cancelled(self, number: Id) -> bool:
        with self._lock:
            return number in self._cancelled

    def _read(self) -> None:
        """In a thread of its own, so that a cancellation is heard while an answer is under way."""
        for line in self._whole_lines():
            try:
                asked = _parsed(line)
                with self._lock:
                    if isinstance(asked, _Cancel):
                        self._cancelled |= {asked.cancel} & self._waiting
                        continue
                    if isinstance(asked, _Keep):
                        self._asked.put(asked)
                        continue
                    if asked.id in self._waiting:
                        raise _BadLine(asked.id, f"the id {asked.id!r} is still being answered")
                    self._waiting.add(asked.id)
            except _BadLine as bad:
                self._asked.put(bad)
            else:
                self._asked.put(asked)
        self._asked.put(None)

    def _whole_lines(self) -> Iterator[bytes]:
        while line := self._lines.readline(LINE):
            if len(line) == LINE and not line.endswith(b"\n"):
                while (rest := self._lines.readline(LINE)) and not rest.endswith(b"\n"):
                    pass
                self._asked.put(_BadLine(None, f"the line is longer than {LINE:,} bytes"))
            elif line.strip():
                yield line

    def _say(self, **event: Any) -> None:
        self._out.write(json.dumps(event) + "\n")
        self._out.flush()


def _refuse_unknown(wanted: Mapping[str, float], adapters: Adapters) -> None:
    """Raise `InputError` for adapters that are not there, with what a program can write instead."""
    try:
        adapters.of(wanted)
    except InputError as error:
        fix = json.dumps({"lora": {adapters.names[0]: 1.0}})
        raise InputError(*(replace(problem, fix=fix) for problem in error.problems)) from None


def _parsed(line: bytes) -> _Line:
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _BadLine(None, f"not UTF-8: {error.reason} at byte {error.start + 1} of the line") from None
    if "\0" in text:
        raise _BadLine(None, "not UTF-8: the line holds zero bytes, as UTF-16 does")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _BadLine(None, f"not JSON: {error}") from None
    named = value if isinstance(value, dict) else {}
    kind: type[_Line] = _Cancel if "cancel" in named else _Keep if "keep" in named else _Request
    given = named.get("keep") if kind is _Keep else named.get("id")
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        said = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'line'}: {e['msg']}" for e in error.errors())
        known = given if isinstance(given, Id) and not isinstance(given, bool) else None
        raise _BadLine(known, said) from None
