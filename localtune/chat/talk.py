"""One conversation: who answers, what was said, and what the last exchange was.

Each voice remembers its own answers. How answers are shown is the caller's; what was said stands, also where it was
cut off.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from localtune.chat.answer import Answer, Wishes
from localtune.chat.kept import row_of
from localtune.chat.opening import Chat
from localtune.data.conversations import Message
from localtune.errors import InputError, Problem, safe

Turns = dict[str, list[Message]]
Show = Callable[[Mapping[str, Answer]], None]
"""Hears each answer to its end and shows it."""


@dataclass
class Exchange:
    """A question and what it was answered with."""

    asked: str
    answers: Mapping[str, Answer]
    before: Turns
    """What every voice had heard, without the system turn."""
    system: str | None
    rated: str = ""
    """"good" or "bad" once the user said so."""


@dataclass
class Talk:
    """A conversation with one voice, or with base and tuned."""

    opened: Chat
    voices: tuple[str, ...]
    wishes: Wishes
    system: str | None
    show: Show
    tell: Callable[[str], None]
    """Says a line that is no answer."""
    turns: Turns = field(default_factory=dict)
    """Of each voice, without the system turn."""
    last: Exchange | None = None
    told: set[Path] = field(default_factory=set)
    """Files of rated answers whose place was said."""

    def load(self) -> None:
        """Bring every voice into memory. Raises `InputError` for a system turn without a template."""
        self.speak_as(self.system)
        self.tell(f"loading {safe(self.opened.name)}")
        for who in self.voices:
            self.opened.speaker(who)
        if not self.opened.template:
            self.tell("no chat template: each text is continued as it is, and nothing is remembered")
        adapters = self.opened.adapters
        for line in (*adapters.notes, *adapters.lines()) if adapters else ():
            self.tell(safe(line))
        self.reset()

    @property
    def mine(self) -> str:
        """The voice that is talked to: the tuned one where two are compared."""
        return self.voices[-1]

    @property
    def remembers(self) -> bool:
        """Whether the next question follows another."""
        return any(self.turns.values())

    def reset(self) -> None:
        """Forget what was said."""
        self.turns, self.last = {who: [] for who in self.voices}, None

    def speak_as(self, system: str | None) -> None:
        """The system turn from the next question on. Raises `InputError` where the model cannot read one."""
        if system is not None and not self.opened.template:
            what = "the model has no chat template, so it cannot read a system turn"
            raise InputError(Problem("template.missing", what, self.opened.name, fix="leave the system turn out"))
        self.system = None if system is None else text_of(system)

    def compare(self, on: bool) -> None:
        """Let the base answer too, with the same conversation behind it. Raises `InputError` where there is none."""
        voices = base_and_tuned(self.opened) if on else self.voices[-1:]
        for who in voices:
            self.opened.speaker(who)
        mine, self.voices = self.mine, voices
        self.turns = {who: list(self.turns.get(who, self.turns[mine])) for who in self.voices}

    def ask(self, text: str) -> None:
        """Show what every voice answers, and remember it. Raises `InputError` for what cannot be read."""
        asked = Message("user", text_of(text))
        answers = {who: self._answer(who, asked) for who in self.voices}
        before, previous = self.turns, self.last
        self.last = Exchange(text, answers, before, self.system)
        try:
            self.show(answers)
        except InputError:
            self.last = self.last if any(answer.text for answer in answers.values()) else previous
            raise
        finally:
            self.turns = {who: [*before[who], *self._said(asked, answer)] for who, answer in answers.items()}

    def again(self) -> None:
        """Ask the last question once more, with the next seed where answers are drawn."""
        if self.last is None:
            raise InputError(Problem("chat.retry", "nothing was asked yet"))
        if self.wishes.temperature:
            self.wishes = replace(self.wishes, seed=(self.wishes.seed + 1) % 2**63)
            self.tell(f"seed {self.wishes.seed}")
        last, turns = self.last, self.turns
        self.turns = {who: list(last.before.get(who, last.before.get(self.mine, ()))) for who in self.voices}
        try:
            self.ask(last.asked)
        except InputError:
            if self.last is last:  # nothing was answered
                self.turns = turns
            raise

    def row(self) -> dict[str, Any]:
        """The conversation as a row of data. Raises `InputError` where there is none."""
        turns = self.turns[self.mine]
        if not turns:
            raise InputError(Problem("chat.save", "there is no conversation yet"))
        return {"messages": [_plain(message) for message in (*_system(self.system), *turns)]}

    def _answer(self, who: str, asked: Message) -> Answer:
        heard = [*_system(self.system), *self.turns[who], asked]
        return Answer(self.opened.speaker(who), heard, self.wishes)

    def _said(self, asked: Message, answer: Answer) -> tuple[Message, ...]:
        return (asked, Message("assistant", answer.text)) if self.opened.template and answer.text else ()


def base_and_tuned(opened: Chat) -> tuple[str, ...]:
    """The voices that are compared. Raises `InputError` where there is no base."""
    if "base" not in opened.who:
        what = f"{opened.name} alone has no base to compare with"
        raise InputError(Problem("chat.compare", what, fix="localtune chat RUN --compare, or a GGUF with --lora"))
    return "base", opened.who[0]


def rated_row(exchange: Exchange, who: str, answer: str, *, template: bool) -> dict[str, Any]:
    """A question with `answer` as a row of data, after all that `who` had heard."""
    heard = [*_system(exchange.system), *exchange.before.get(who, ()), Message("user", exchange.asked)]
    return row_of(heard, answer, template=template)


def text_of(text: str) -> str:
    """What was typed. Raises `InputError` for bytes that are no text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError(Problem("chat.encoding", "the text is not UTF-8", evidence=safe(text, 200))) from None
    return text


def _system(system: str | None) -> tuple[Message, ...]:
    return () if system is None else (Message("system", system),)


def _plain(message: Message) -> dict[str, Any]:
    return {"role": message.role, "content": message.content}
