"""Which characters of a rendered conversation are learned: located exactly, or refused with the reason.

An answer begins where the prompt that generation would see ends: render(turns before, generation prompt) must be a
prefix of the text. It ends with the end-of-turn token after its content, or after its tool calls, not with the newline
behind it. Where a template writes an answer differently once the conversation goes on (it strips thinking, moves the
system turn), the answer is learned in a text of its own that ends with it, so what is learned is always what would be
generated. Generation tags in the template are taken as they are, the end token included. What a row holds and the
template does not write (tools, calls, reasoning, words beside a call) is never passed over: it is `Lost`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from localtune.data.bounds import Bounds, Unbounded
from localtune.data.control import ENDS, SPOKEN, Control
from localtune.data.conversations import Message
from localtune.data.lost import check_parts, check_reasoning, check_written
from localtune.data.messages import (
    CONTENT_END,
    REASONING_END,
    Tools,
    is_text,
    marked,
    plain,
    without_marks,
)
from localtune.data.template import ChatTemplate, Refused
from localtune.errors import safe

Learn = Literal["answers", "all", "last"]
Span = tuple[int, int, float]
"""Characters [start, end) and the weight of the tokens that begin in them."""
_REACH = 300
"""Characters at the end of a text in which its last control token is looked for."""
_GENERATION = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")


@dataclass(frozen=True)
class Script:
    """A text and what is learned of it."""

    text: str
    """Rendered; what looked like a control token is held."""
    learned: tuple[Span, ...]
    """Ascending; the rest has weight 0."""
    closed: bool
    """The template ended the last answer with a control token; otherwise eos must follow the text."""
    weight: float = 1.0
    """Of that eos."""


@dataclass(frozen=True)
class Turn:
    """The last answer of a rendered conversation."""

    text: str
    start: int
    content_end: int
    """Behind all that is said, calls included."""
    end: int
    """Behind the end-of-turn token; `content_end` where there is none."""


class Unmaskable(Exception):
    """What is learned cannot be located exactly; the text says why."""

    earlier = False
    """It is an answer before the last one, so `learn: last` would do."""


class Nothing(Exception):
    """No answer of the row counts."""


class Turns:
    """The answers of conversations under one template. Contents must be held by the same `control`."""

    def __init__(self, template: ChatTemplate, control: Control, bounds: Bounds | None = None) -> None:
        self._template = template
        self._bounds = bounds or Unbounded()
        self._control = control
        self._marked = bool(_GENERATION.search(template.source))
        self._tail: tuple[str, int] | None = None
        """Text behind the content of a last answer, and where its end-of-turn token ends."""
        self._reads_reasoning: bool | None = None
        self.end_of_turn = ""
        """The token that ends an answer, as last seen; "" when the template writes none."""

    def scripts(self, messages: Sequence[Message], learn: Learn, tools: Tools = ()) -> list[Script]:
        """The texts to train on, the whole conversation first.

        Raises `Unmaskable`, `Lost`, `Nothing` or `Refused`.
        """
        answers = [i for i, message in enumerate(messages) if message.role == "assistant"]
        counting = [i for i in (answers[-1:] if learn == "last" else answers) if messages[i].weight > 0]
        if not counting:
            raise Nothing("every answer that would be learned has the weight 0")
        if learn != "all":
            messages = messages[: counting[-1] + 1]
        if tools or not all(map(is_text, messages)):
            check_parts(messages, tools, self._render, every=learn == "all" or self._marked)
        if learn == "all":
            scripts = [self._whole(messages, answers, tools)]
        elif self._marked:
            scripts = [self._from_marks(messages, learn, tools)]
        else:
            scripts = self._from_prompts(messages, counting, tools)
        check_written(messages, scripts[0].text, tools, self._render, every=learn == "all")
        return scripts

    def prompt(self, messages: Sequence[Message], tools: Tools = ()) -> str:
        """What generation sees before it answers `messages`."""
        return self._render(messages, tools, prompt=True)

    def answer(self, messages: Sequence[Message], tools: Tools = ()) -> Turn:
        """The answer that is the last of `messages`, in their text."""
        text = self._render(messages, tools)
        try:
            prompt = self.prompt(messages[:-1], tools)
        except Refused as refused:
            raise Unmaskable(f"the template writes no prompt for it: {refused}") from None
        if not text.startswith(prompt):
            raise Unmaskable(_difference(prompt, text))
        content_end, end = self._ends(messages, text, tools)
        if content_end < len(prompt):
            raise Unmaskable("the answer ends inside the prompt")
        return Turn(text, len(prompt), content_end, end)

    def _render(self, messages: Sequence[Message], tools: Tools, *, prompt: bool = False) -> str:
        self._bounds.again()
        return self._template.render(self._plain(messages), prompt=prompt, tools=list(tools) or None).text

    def _plain(self, messages: Sequence[Message]) -> list[dict[str, object]]:
        return [
            {"role": m.role, "content": m.content}
            if is_text(m)
            else plain(m, reads_reasoning=not m.reasoning or self._reads())
            for m in messages
        ]

    def _reads(self) -> bool:
        """Whether the template writes `reasoning_content`."""
        if self._reads_reasoning is None:
            answer = plain(Message("assistant", "b", reasoning=REASONING_END), reads_reasoning=True)
            try:
                text = self._template.render([{"role": "user", "content": "a"}, answer]).text
            except Refused:
                text = ""
            self._reads_reasoning = REASONING_END in text
        return self._reads_reasoning

    def _from_prompts(self, messages: Sequence[Message], answers: list[int], tools: Tools) -> list[Script]:
        last = self.answer(messages, tools)
        spans, own = [], []
        for i in answers[:-1]:
            turn, weight = self._earlier(messages[: i + 1], tools), messages[i].weight
            if last.text.startswith(turn.text[: turn.end]):
                spans.append((turn.start, turn.end, weight))
            else:
                own.append(_script(turn, (), weight))
        return [_script(last, tuple(spans), messages[-1].weight), *own]

    def _earlier(self, messages: Sequence[Message], tools: Tools) -> Turn:
        try:
            return self.answer(messages, tools)
        except (Unmaskable, Refused) as error:
            problem = Unmaskable(f"answer {len(messages)}: {error}")
            problem.earlier = True
            raise problem from None

    def _from_marks(self, messages: Sequence[Message], learn: Learn, tools: Tools) -> Script:
        rendered = self._template.render(self._plain(messages), tools=list(tools) or None)
        if not rendered.marks:
            raise Unmaskable("the template has generation tags but marks nothing in this conversation")
        weights = [message.weight for message in messages if message.role == "assistant"]
        if set(weights) == {1.0}:
            weights = [1.0] * len(rendered.marks)
        elif len(weights) != len(rendered.marks):
            raise Unmaskable("its generation tags are not one for each answer, so the answers' weights have no place")
        ends = [self._with_end(rendered.text, span) for span in rendered.marks]
        spans = [(start, end, weight) for (start, end), weight in zip(ends, weights, strict=True) if weight > 0]
        end = ends[-1][1]
        closed = _last_control(self._control, rendered.text[:end])
        if closed:
            self.end_of_turn = closed.group()
        text = rendered.text if closed else rendered.text[:end]
        return Script(text, tuple(spans[-1:] if learn == "last" else spans), bool(closed), weights[-1])

    def _with_end(self, text: str, span: tuple[int, int]) -> tuple[int, int]:
        start, end = span
        found = self._control.pattern.match(text, end)
        return (start, found.end()) if found and not _last_control(self._control, text[:end]) else span

    def _whole(self, messages: Sequence[Message], answers: list[int], tools: Tools) -> Script:
        text = self._render(messages, tools)
        closed = messages[-1].role != "assistant" or bool(_last_control(self._control, text))
        spans: list[Span] = []
        position = 0
        for i in answers:
            if messages[i].weight == 1:
                continue
            turn = self._earlier(messages[: i + 1], tools)
            if turn.start < position or not text.startswith(turn.text[: turn.end]):
                raise Unmaskable(f"answer {i + 1} has a weight, and stands elsewhere in the whole conversation")
            spans += [(position, turn.start, 1.0), (turn.start, turn.end, messages[i].weight)]
            position = turn.end
        spans.append((position, len(text), 1.0))
        return Script(text, tuple(s for s in spans if s[0] < s[1] and s[2] > 0), closed, messages[-1].weight)

    def _ends(self, messages: Sequence[Message], text: str, tools: Tools) -> tuple[int, int]:
        """Where content and end-of-turn token of the last message end."""
        if messages[-1].calls:
            return self._call_ends(messages, text, tools)
        if self._tail and text.endswith(self._tail[0]) and not messages[-1].reasoning:
            content_end = len(text) - len(self._tail[0])
            return content_end, content_end + self._tail[1]
        content_end = self._content_end(messages, text, tools)
        found = self._control.pattern.search(text, content_end)
        if found:
            self._tail = text[content_end:], found.end() - content_end
            self.end_of_turn = found.group()
        return content_end, found.end() if found else content_end

    def _content_end(self, messages: Sequence[Message], text: str, tools: Tools) -> int:
        """Found by rendering again with a mark at the end of the content, which must change nothing else."""
        last = messages[-1]
        for content in dict.fromkeys((last.content, last.content.rstrip())):  # templates may trim
            probe = self._render([*messages[:-1], marked(last, len(content))], tools)
            if last.reasoning.strip():
                check_reasoning(probe)
            if probe.count(CONTENT_END) == 1 and without_marks(probe) == text:
                return len(without_marks(probe[: probe.index(CONTENT_END)]))
        raise Unmaskable("its end cannot be located, because the template rewrites what the answer says")

    def _call_ends(self, messages: Sequence[Message], text: str, tools: Tools) -> tuple[int, int]:
        """Calls end where the text does: with an end-of-turn token and blanks."""
        if messages[-1].reasoning.strip():
            check_reasoning(self._render([*messages[:-1], marked(messages[-1])], tools))
        found = _last_control(self._control, text)
        if found is None or found.group() not in ENDS | {self._template.names.get("eos_token", "")}:
            raise Unmaskable("the end of its tool call cannot be located: no end-of-turn token comes last")
        self.end_of_turn = found.group()
        return found.start(), found.end()


def _script(turn: Turn, earlier: tuple[Span, ...], weight: float) -> Script:
    closed = turn.end > turn.content_end
    text = turn.text if closed else turn.text[: turn.content_end]
    return Script(text, (*earlier, (turn.start, turn.end, weight)), closed, weight)


def _last_control(control: Control, text: str) -> re.Match[str] | None:
    """The control token that only blanks follow."""
    last = next(reversed([*control.pattern.finditer(text, max(0, len(text) - _REACH))]), None)
    return last if last and last.group() not in SPOKEN and not text[last.end() :].strip() else None


def _difference(prompt: str, text: str) -> str:
    at = next((i for i, (a, b) in enumerate(zip(prompt, text, strict=False)) if a != b), min(len(prompt), len(text)))
    seen, trained = safe(repr(prompt[at : at + 40]), 60), safe(repr(text[at : at + 40]), 60)
    return f"generation would see {seen} where the conversation goes on with {trained}"
