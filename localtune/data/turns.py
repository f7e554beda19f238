"""Which characters of a rendered conversation are learned: located exactly, or refused with the reason.

An answer begins where the prompt that generation would see ends: render(turns before, generation prompt) must be a
prefix of the text. It ends with the end-of-turn token after its content, not with the newline behind it. Where a
template writes an answer differently once the conversation goes on (it strips thinking, moves the system turn), the
answer is learned in a text of its own that ends with it, so what is learned is always what would be generated.
Generation tags in the template are taken as they are, the end token included.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from localtune.data.control import Control
from localtune.data.conversations import Message
from localtune.data.template import ChatTemplate, Refused
from localtune.errors import safe

Learn = Literal["answers", "all", "last"]
_END = "\U0010fff4"
_REACH = 300
"""Characters at the end of a text in which its last control token is looked for."""
_GENERATION = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")


@dataclass(frozen=True)
class Script:
    """A text and what is learned of it."""

    text: str
    """Rendered; what looked like a control token is held."""
    learned: tuple[tuple[int, int], ...]
    """Character spans [start, end), ascending."""
    closed: bool
    """The template ended the last answer with a control token; otherwise eos must follow the text."""


@dataclass(frozen=True)
class Turn:
    """The last answer of a rendered conversation."""

    text: str
    start: int
    content_end: int
    end: int
    """Behind the end-of-turn token; `content_end` where there is none."""


class Unmaskable(Exception):
    """What is learned cannot be located exactly; the text says why."""

    earlier = False
    """It is an answer before the last one, so `learn: last` would do."""


class Turns:
    """The answers of conversations under one template. Contents must be held by the same `control`."""

    def __init__(self, template: ChatTemplate, control: Control) -> None:
        self._template = template
        self._control = control
        self._marked = bool(_GENERATION.search(template.source))
        self._tail: tuple[str, int] | None = None
        """Text behind the content of a last answer, and where its end-of-turn token ends."""

    @property
    def end_of_turn(self) -> str:
        """The token that ends an answer, as last seen; "" when the template writes none."""
        tail, length = self._tail or ("", 0)
        found = self._control.pattern.search(tail[:length])
        return found.group() if found else ""

    def scripts(self, messages: Sequence[Message], learn: Learn) -> list[Script]:
        """The texts to train on, the whole conversation first. Raises `Unmaskable` or `Refused`."""
        if learn == "all":
            return [self._whole(messages)]
        answers = [i for i, message in enumerate(messages) if message.role == "assistant"]
        messages = messages[: answers[-1] + 1]
        if self._marked:
            return [self._from_marks(messages, learn)]
        if learn == "last":
            answers = answers[-1:]
        return self._from_prompts(messages, answers)

    def prompt(self, messages: Sequence[Message]) -> str:
        """What generation sees before it answers `messages`."""
        return self._template.render(_plain(messages), prompt=True).text

    def answer(self, messages: Sequence[Message]) -> Turn:
        """The answer that is the last of `messages`, in their text."""
        text = self._template.render(_plain(messages)).text
        try:
            prompt = self.prompt(messages[:-1])
        except Refused as refused:
            raise Unmaskable(f"the template writes no prompt for it: {refused}") from None
        if not text.startswith(prompt):
            raise Unmaskable(_difference(prompt, text))
        content_end, end = self._ends(messages, text)
        if content_end < len(prompt):
            raise Unmaskable("the answer ends inside the prompt")
        return Turn(text, len(prompt), content_end, end)

    def _from_prompts(self, messages: Sequence[Message], answers: list[int]) -> list[Script]:
        last = self.answer(messages)
        spans, own = [], []
        for i in answers[:-1]:
            turn = self._earlier(messages[: i + 1])
            if last.text.startswith(turn.text[: turn.end]):
                spans.append((turn.start, turn.end))
            else:
                own.append(_script(turn, ()))
        return [_script(last, tuple(spans)), *own]

    def _earlier(self, messages: Sequence[Message]) -> Turn:
        try:
            return self.answer(messages)
        except (Unmaskable, Refused) as error:
            problem = Unmaskable(f"answer {len(messages)}: {error}")
            problem.earlier = True
            raise problem from None

    def _from_marks(self, messages: Sequence[Message], learn: Learn) -> Script:
        rendered = self._template.render(_plain(messages))
        if not rendered.marks:
            raise Unmaskable("the template has generation tags but marks nothing in this conversation")
        spans = [self._with_end(rendered.text, span) for span in rendered.marks]
        end = spans[-1][1]
        closed = _ends_with_control(self._control, rendered.text[:end])
        text = rendered.text if closed else rendered.text[:end]
        if closed:
            found = self._control.pattern.findall(text[:end])
            self._tail = found[-1], len(found[-1])
        return Script(text, tuple(spans[-1:] if learn == "last" else spans), closed)

    def _with_end(self, text: str, span: tuple[int, int]) -> tuple[int, int]:
        start, end = span
        found = self._control.pattern.match(text, end)
        return (start, found.end()) if found and not _ends_with_control(self._control, text[:end]) else span

    def _whole(self, messages: Sequence[Message]) -> Script:
        text = self._template.render(_plain(messages)).text
        closed = messages[-1].role != "assistant" or _ends_with_control(self._control, text)
        return Script(text, ((0, len(text)),), closed)

    def _ends(self, messages: Sequence[Message], text: str) -> tuple[int, int]:
        """Where content and end-of-turn token of the last message end."""
        if self._tail and text.endswith(self._tail[0]):
            content_end = len(text) - len(self._tail[0])
            return content_end, content_end + self._tail[1]
        content_end = self._content_end(messages, text)
        found = self._control.pattern.search(text, content_end)
        if found:
            self._tail = text[content_end:], found.end() - content_end
        return content_end, found.end() if found else content_end

    def _content_end(self, messages: Sequence[Message], text: str) -> int:
        """Found by rendering again with a mark at the end of the content, which must change nothing else."""
        last = messages[-1]
        for content in (last.content, last.content.rstrip()):  # templates may trim
            marked = Message(last.role, content + _END + last.content[len(content) :])
            probe = self._template.render(_plain([*messages[:-1], marked])).text
            if probe.count(_END) == 1 and probe.replace(_END, "") == text:
                return probe.index(_END)
        raise Unmaskable("its end cannot be located, because the template rewrites what the answer says")


def _script(turn: Turn, earlier: tuple[tuple[int, int], ...]) -> Script:
    closed = turn.end > turn.content_end
    text = turn.text if closed else turn.text[: turn.content_end]
    return Script(text, (*earlier, (turn.start, turn.end)), closed)


def _ends_with_control(control: Control, text: str) -> bool:
    found = list(control.pattern.finditer(text, max(0, len(text) - _REACH)))
    return bool(found) and not text[found[-1].end() :].strip()


def _plain(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]


def _difference(prompt: str, text: str) -> str:
    at = next((i for i, (a, b) in enumerate(zip(prompt, text, strict=False)) if a != b), min(len(prompt), len(text)))
    seen, trained = safe(repr(prompt[at : at + 40]), 60), safe(repr(text[at : at + 40]), 60)
    return f"generation would see {seen} where the conversation goes on with {trained}"
