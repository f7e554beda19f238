"""Examples become segments: token ids, and how much each of them counts.

Exact: the ids of a conversation are those of its rendered text, tokenised once and whole, without special tokens of
the tokenizer (templates write their own BOS). A token is learned if it begins inside a learned span of characters; a
token that straddles the beginning of an answer belongs to the prompt and is counted. The end of an answer is learned,
also when padding has the same id. Control tokens come from the template alone (see `control`).

On a model without a template a prompt has exactly the ids it has alone, BOS before it as the tokenizer does; the
completion and EOS are learned. A passage is BOS, text, EOS; all is learned but BOS. In passages control strings keep
their meaning, because a passage is its author's own markup. A preference is two segments, the chosen one first; what
both say in common is not learned.
"""

import datetime
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tokenizers

from localtune.batch import Segment
from localtune.data.bounds import Bounds, Unbounded
from localtune.data.control import is_held
from localtune.data.conversations import Conversation, Example, Infill, Message, Pair, Passage
from localtune.data.infill import holes, infill
from localtune.data.lost import Lost
from localtune.data.messages import Tools, held, held_value, texts
from localtune.data.parts import Simple, joined, parts
from localtune.data.parts import Tokenised as Tokenised
from localtune.data.refusals import needs_template, reserved, unusable
from localtune.data.rows import SKIP, Place
from localtune.data.template import RESERVED, ChatTemplate, Refused, Starved
from localtune.data.tokenizer import Tokenizer
from localtune.data.turns import Learn, Nothing, Script, Span, Turns, Unmaskable
from localtune.data.weighing import finish, weigh
from localtune.errors import InputError, Problem, safe


@dataclass(frozen=True)
class Question:
    """What is asked of a model and what it should say."""

    prompt: tuple[int, ...]
    """Ids that generation sees."""
    answer: str
    """What follows the prompt, without the end of the turn."""


class Renderer:
    """Turns examples into segments and remembers what is worth saying about them in `seen`."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        learn: Learn,
        today: datetime.date | None = None,
        bounds: Bounds | None = None,
    ) -> None:
        """Raises `InputError` for a chat template that is not valid."""
        self.tokenizer = tokenizer
        self.learn = learn
        self.seen: Counter[str] = Counter()
        """own-segment, eos-appended, no-bos, straddled, turns, markup: in how many rows."""
        self._bounds: Bounds = bounds or Unbounded()
        self.turns: Turns | None = None
        if tokenizer.template is not None:
            template = ChatTemplate(tokenizer.template, tokenizer.names, today)
            self.turns = Turns(template, tokenizer.control, self._bounds)

    def render(self, examples: Sequence[Example]) -> list[Tokenised | Problem]:
        """One result per example, in order; a problem where a row cannot be trained on exactly.

        Raises `InputError` for what holds for every row, such as a missing template or end token.
        """
        taken = [parts(example, self.learn) for example in examples]
        done = iter(self._simple([part for row in taken for part in row]))
        return [joined(example, [next(done) for _ in row]) for example, row in zip(examples, taken, strict=True)]

    def question(self, example: Conversation | Pair) -> Question | Problem:
        """The prompt up to the last answer, and that answer as the template writes it."""
        turns = self._as_turns(example)
        if _is_reserved(example):
            return reserved(example.place)
        if turns is None or self.turns is None:
            assert isinstance(example, Pair)
            return Question(tuple(self._raw_prompts([example.prompt])[0]), example.completion)
        messages, tools, _ = self._hold(turns.messages, turns.tools)
        last = max(i for i, message in enumerate(messages) if message.role == "assistant")
        try:
            with self._bounds:
                self._bounds.row(example.place)
                prompt = self.turns.prompt(messages[:last], tools)
                try:
                    turn = self.turns.answer(messages[: last + 1], tools)
                    answer = self.tokenizer.control.restore(turn.text[turn.start : turn.content_end])
                except Unmaskable:
                    if turns.messages[last].calls:
                        raise
                    answer = turns.messages[last].content
            return Question(tuple(self._prompt_ids(prompt)), answer)
        except (Refused, Unmaskable, Lost, ValueError, MemoryError) as error:
            return unusable(turns.place, error, self.learn)

    def prompt_ids(self, prompt: str, system: str | None) -> tuple[int, ...]:
        """What generation sees for one typed prompt. Raises `InputError` if the template refuses it."""
        if self.turns is None:
            return tuple(self._raw_prompts([prompt])[0])
        messages = ([Message("system", system)] if system else []) + [Message("user", prompt)]
        return self.conversation_ids(messages, f"the sample {safe(repr(prompt), 60)}", "watch.samples")

    def conversation_ids(
        self,
        messages: Sequence[Message],
        what: str = "the conversation",
        where: str = "",
        tools: Sequence[dict[str, Any]] = (),
    ) -> tuple[int, ...]:
        """What generation sees before it answers `messages`; without a template that can be one user's message only.

        Raises `InputError` if the template, or its absence, refuses them.
        """
        if _is_reserved(Conversation(Place(where, 0), tuple(messages), tools=tuple(tools))):
            said = f"{what} holds a character from U+10FFF0 to U+10FFFD; they mark places while a text is rendered"
            raise InputError(Problem("data.reserved", said, where, fix="leave it out"))
        try:
            if self.turns is not None:
                turns, schemas, _ = self._hold(messages, tools)
                with self._bounds:
                    self._bounds.row(Place(where, 0))
                    text = self.turns.prompt(turns, schemas)
                return tuple(self._prompt_ids(text))
            if [message.role for message in messages] == ["user"]:
                return tuple(self._raw_prompts([messages[0].content])[0])
        except (Refused, ValueError) as error:
            code = "template.memory" if isinstance(error, Starved) else "template.refused"
            raise InputError(Problem(code, f"the chat template refuses {what}: {error}", where)) from None
        needed = "the model has no chat template, so it cannot read a system turn or earlier turns"
        raise InputError(Problem("template.missing", needed, where, fix="ask with one text alone"))

    def _simple(self, examples: Sequence[Simple]) -> list[Tokenised | Problem]:
        done: dict[int, Tokenised | Problem] = {}
        chats: dict[int, Conversation] = {}
        for i, example in enumerate(examples):
            turns = self._as_turns(example)
            if not isinstance(example, Passage) and _is_reserved(example):
                done[i] = reserved(example.place)
            elif turns is not None:
                chats[i] = turns
                self.seen["turns"] += isinstance(example, Pair)
        left = {i: example for i, example in enumerate(examples) if i not in chats and i not in done}
        pairs = {i: example for i, example in left.items() if isinstance(example, Pair)}
        passages = {i: example for i, example in left.items() if isinstance(example, Passage)}
        infills = {i: example for i, example in left.items() if isinstance(example, Infill)}
        done |= dict(zip(chats, self._conversations(list(chats.values())), strict=True))
        done |= dict(zip(pairs, self._pairs(list(pairs.values())), strict=True))
        done |= dict(zip(passages, self._passages(list(passages.values())), strict=True))
        done |= dict(zip(infills, self._infills(list(infills.values())), strict=True))
        return [done[i] for i in range(len(examples))]

    def _as_turns(self, example: Simple) -> Conversation | None:
        if isinstance(example, Pair):
            if self.turns is not None:
                return example.as_conversation()
            if example.system:
                raise InputError(needs_template("a system turn", example.place))
        if isinstance(example, Conversation) and self.turns is None:
            raise InputError(needs_template("a conversation", example.place))
        return example if isinstance(example, Conversation) else None

    def _hold(self, messages: Sequence[Message], tools: Tools) -> tuple[list[Message], Tools, int]:
        pairs = [held(message, self.tokenizer.control) for message in messages]
        schemas, inside = held_value(tools, self.tokenizer.control) if tools else ((), 0)
        return [message for message, _ in pairs], schemas, sum(n for _, n in pairs) + inside

    def _conversations(self, rows: Sequence[Conversation]) -> list[Tokenised | Problem]:
        with self._bounds:
            plans = [self._scripts(row) for row in rows]
        plain = [s.text for plan in plans if not isinstance(plan, Problem) for s in plan[0] if not is_held(s.text)]
        encodings = dict(zip(plain, self.tokenizer.encode_texts(plain), strict=True))
        results: list[Tokenised | Problem] = []
        for row, plan in zip(rows, plans, strict=True):
            if isinstance(plan, Problem):
                results.append(plan)
                continue
            scripts, count = plan
            try:
                segments = [
                    self._held_segment(row.place, script)
                    if is_held(script.text)
                    else self._segment(row.place, script, script.learned, encodings[script.text])
                    for script in scripts
                ]
            except ValueError as error:
                results.append(Problem("data.control", str(error), str(row.place), fix=SKIP))
            else:
                self.seen["no-bos"] += tuple(segments[0].tokens[:1]) != self.tokenizer.prefix[:1] != ()
                results.append(Tokenised(row.place, tuple(segments), count))
        return results

    def _scripts(self, row: Conversation) -> tuple[list[Script], int] | Problem:
        assert self.turns is not None
        self._bounds.row(row.place)
        try:
            messages, tools, count = self._hold(row.messages, row.tools)
            scripts = self.turns.scripts(messages, self.learn, tools)
        except (Refused, Unmaskable, Lost, Nothing, MemoryError) as error:
            return unusable(row.place, error, self.learn)
        self.seen["own-segment"] += len(scripts) > 1
        self.seen["eos-appended"] += not scripts[0].closed
        return scripts, count

    def _held_segment(self, place: Place, script: Script) -> Segment:
        """The same with framed control tokens; spans move with the text."""
        control, pieces, spans, length, position = self.tokenizer.control, [], [], 0, 0
        for start, end, weight in script.learned:
            before, inside = control.frame(script.text[position:start]), control.frame(script.text[start:end])
            spans.append((length + len(before), length + len(before) + len(inside), weight))
            pieces += [before, inside]
            length, position = spans[-1][1], end
        text = "".join([*pieces, control.frame(script.text[position:])])
        ids, encoding = self.tokenizer.encode_framed(text)
        return self._segment(place, script, spans, encoding, ids)

    def _segment(
        self,
        place: Place,
        script: Script,
        spans: Sequence[Span],
        encoding: tokenizers.Encoding,
        ids: list[int] | None = None,
    ) -> Segment:
        weights, straddled = weigh(encoding, spans)
        self.seen["straddled"] += straddled
        end = () if script.closed else (self._eos(place),)
        return finish(place, encoding.ids if ids is None else ids, weights, end, script.weight)

    def _pairs(self, rows: Sequence[Pair]) -> list[Tokenised | Problem]:
        if not rows:
            return []
        control, eos = self.tokenizer.control, self.tokenizer.names.get("eos_token", "")
        completions = [row.completion.removesuffix(eos) if eos else row.completion for row in rows]
        try:
            prompts = self._raw_prompts([row.prompt for row in rows])
            answers = self.tokenizer.encode_raw(completions, continuing=True)
        except ValueError as error:
            raise InputError(Problem("data.control", str(error), rows[0].place.file)) from None
        results: list[Tokenised | Problem] = []
        for row, completion, prompt, answer in zip(rows, completions, prompts, answers, strict=True):
            weights = np.zeros(len(prompt) + len(answer), np.float32)
            weights[0 if self.learn == "all" else len(prompt) :] = 1.0
            held = sum(1 for text in (row.prompt, completion) for _ in control.pattern.finditer(text))
            segment = finish(row.place, [*prompt, *answer], weights, (self._eos(row.place),))
            results.append(Tokenised(row.place, (segment,), held))
        return results

    def _passages(self, rows: Sequence[Passage]) -> list[Tokenised | Problem]:
        results: list[Tokenised | Problem] = []
        for row, encoding in zip(rows, self.tokenizer.encode_texts([row.text for row in rows]), strict=True):
            eos, ids = self._eos(row.place), self.tokenizer.with_prefix(encoding.ids)
            end = () if ids[-1:] == [eos] else (eos,)
            self.seen["markup"] += bool(self.tokenizer.control.pattern.search(row.text))
            segment = finish(row.place, ids, np.ones(len(ids), np.float32), end)
            results.append(Tokenised(row.place, (segment,)))
        return results

    def _infills(self, rows: Sequence[Infill]) -> list[Tokenised | Problem]:
        if not rows:
            return []
        around, results = holes(self.tokenizer, str(rows[0].place)), list[Tokenised | Problem]()
        for row in rows:
            try:
                segment, held = infill(self.tokenizer, around, row)
                results.append(Tokenised(row.place, (segment,), held))
            except ValueError as error:
                results.append(Problem("data.control", str(error), str(row.place), fix=SKIP))
        return results

    def _raw_prompts(self, prompts: Sequence[str]) -> list[list[int]]:
        return [self.tokenizer.with_prefix(ids) for ids in self.tokenizer.encode_raw(prompts, continuing=False)]

    def _prompt_ids(self, text: str) -> list[int]:
        if is_held(text):
            return self.tokenizer.encode_framed(self.tokenizer.control.frame(text))[0]
        return self.tokenizer.encode(text, special=False)

    def _eos(self, place: Place) -> int:
        if self.tokenizer.eos_id is None:
            what = "the tokenizer names no end token, so the model could not learn to stop"
            fix = "set eos_token in tokenizer_config.json"
            raise InputError(Problem("tokenizer.eos", what, str(place), fix=fix))
        return self.tokenizer.eos_id


def _is_reserved(example: Example) -> bool:
    return any(not text.isascii() and RESERVED.search(text) for text in texts(example))
