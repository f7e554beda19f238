"""Examples become segments: token ids, and which of them are learned.

Exact: the ids of a conversation are those of its rendered text, tokenised once and whole, without special tokens of
the tokenizer (templates write their own BOS). A token is learned if it begins inside a learned span of characters; a
token that straddles the beginning of an answer belongs to the prompt and is counted. The end of an answer is learned,
also when padding has the same id. Control tokens come from the template alone (see `control`).

On a model without a template a prompt has exactly the ids it has alone, BOS before it as the tokenizer does; the
completion and EOS are learned. A passage is BOS, text, EOS; all is learned but BOS. In passages control strings keep
their meaning, because a passage is its author's own markup.
"""

import datetime
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import tokenizers

from localtune.batch import Floats, Segment
from localtune.data.control import is_held
from localtune.data.conversations import Conversation, Example, Message, Pair, Passage
from localtune.data.rows import SKIP, Place
from localtune.data.template import RESERVED, ChatTemplate, Refused
from localtune.data.tokenizer import Tokenizer
from localtune.data.turns import Learn, Script, Turns, Unmaskable
from localtune.errors import InputError, Problem, safe


@dataclass(frozen=True, eq=False)
class Tokenised:
    """The segments of one row; usually one."""

    place: Place
    segments: tuple[Segment, ...]
    held: int = 0
    """Strings in the row that look like control tokens and were kept from becoming some."""


@dataclass(frozen=True)
class Question:
    """What is asked of a model and what it should say."""

    prompt: tuple[int, ...]
    """Ids that generation sees."""
    answer: str
    """What follows the prompt, without the end of the turn."""


class Renderer:
    """Turns examples into segments and remembers what is worth saying about them in `seen`."""

    def __init__(self, tokenizer: Tokenizer, *, learn: Learn, today: datetime.date | None = None) -> None:
        """Raises `InputError` for a chat template that is not valid."""
        self.tokenizer = tokenizer
        self.learn = learn
        self.seen: Counter[str] = Counter()
        """own-segment, eos-appended, no-bos, straddled, turns, markup: in how many rows."""
        self.turns: Turns | None = None
        if tokenizer.template is not None:
            self.turns = Turns(ChatTemplate(tokenizer.template, tokenizer.names, today), tokenizer.control)

    def render(self, examples: Sequence[Example]) -> list[Tokenised | Problem]:
        """One result per example, in order; a problem where a row cannot be trained on exactly.

        Raises `InputError` for what holds for every row, such as a missing template or end token.
        """
        done: dict[int, Tokenised | Problem] = {}
        chats: dict[int, Conversation] = {}
        for i, example in enumerate(examples):
            turns = self._as_turns(example)
            if RESERVED.search(_written(example)) and not isinstance(example, Passage):
                done[i] = _reserved(example.place)
            elif turns is not None:
                chats[i] = turns
                self.seen["turns"] += isinstance(example, Pair)
        pairs = {i: e for i, e in enumerate(examples) if isinstance(e, Pair) and i not in chats and i not in done}
        passages = {i: e for i, e in enumerate(examples) if isinstance(e, Passage)}
        done |= dict(zip(chats, self._conversations(list(chats.values())), strict=True))
        done |= dict(zip(pairs, self._pairs(list(pairs.values())), strict=True))
        done |= dict(zip(passages, self._passages(list(passages.values())), strict=True))
        return [done[i] for i in range(len(examples))]

    def question(self, example: Conversation | Pair) -> Question | Problem:
        """The prompt up to the last answer, and that answer as the template writes it."""
        turns = self._as_turns(example)
        if RESERVED.search(_written(example)):
            return _reserved(example.place)
        if turns is None or self.turns is None:
            assert isinstance(example, Pair)
            return Question(tuple(self._raw_prompts([example.prompt])[0]), example.completion)
        held, _ = self._hold(turns.messages)
        last = max(i for i, message in enumerate(held) if message.role == "assistant")
        try:
            prompt = self.turns.prompt(held[:last])
            ids = self._prompt_ids(prompt)
            turn = self.turns.answer(held[: last + 1])
        except Unmaskable:
            return Question(tuple(ids), turns.messages[last].content)
        except (Refused, ValueError) as error:
            return _unusable(turns.place, error)
        return Question(tuple(ids), self.tokenizer.control.restore(turn.text[turn.start : turn.content_end]))

    def prompt_ids(self, prompt: str, system: str | None) -> tuple[int, ...]:
        """What generation sees for one typed prompt. Raises `InputError` if the template refuses it."""
        if self.turns is None:
            return tuple(self._raw_prompts([prompt])[0])
        messages = ([Message("system", system)] if system else []) + [Message("user", prompt)]
        return self.conversation_ids(messages, f"the sample {safe(repr(prompt), 60)}", "watch.samples")

    def conversation_ids(
        self, messages: Sequence[Message], what: str = "the conversation", where: str = ""
    ) -> tuple[int, ...]:
        """What generation sees before it answers `messages`; without a template that can be one user's message only.

        Raises `InputError` if the template, or its absence, refuses them.
        """
        if RESERVED.search("\n".join(message.content for message in messages)):
            reserved = f"{what} holds a character from U+10FFF0 to U+10FFFD; they mark places while a text is rendered"
            raise InputError(Problem("data.reserved", reserved, where, fix="leave it out"))
        try:
            if self.turns is not None:
                return tuple(self._prompt_ids(self.turns.prompt(self._hold(messages)[0])))
            if [message.role for message in messages] == ["user"]:
                return tuple(self._raw_prompts([messages[0].content])[0])
        except (Refused, ValueError) as error:
            raise InputError(Problem("template.refused", f"the chat template refuses {what}: {error}", where)) from None
        needed = "the model has no chat template, so it cannot read a system turn or earlier turns"
        raise InputError(Problem("template.missing", needed, where, fix="ask with one text alone"))

    def _as_turns(self, example: Example) -> Conversation | None:
        if isinstance(example, Pair):
            if self.turns is not None:
                return example.as_conversation()
            if example.system:
                raise InputError(_needs_template("a system turn", example.place))
        if isinstance(example, Conversation) and self.turns is None:
            raise InputError(_needs_template("a conversation", example.place))
        return example if isinstance(example, Conversation) else None

    def _hold(self, messages: Sequence[Message]) -> tuple[list[Message], int]:
        held = [self.tokenizer.control.hold(message.content, message.role) for message in messages]
        pairs = zip(messages, held, strict=True)
        return [replace(m, content=c) if n else m for m, (c, n) in pairs], sum(n for _, n in held)

    def _conversations(self, rows: Sequence[Conversation]) -> list[Tokenised | Problem]:
        plans = [self._scripts(row) for row in rows]
        plain = [s.text for plan in plans if not isinstance(plan, Problem) for s in plan[0] if not is_held(s.text)]
        encodings = dict(zip(plain, self.tokenizer.encode_texts(plain), strict=True))
        results: list[Tokenised | Problem] = []
        for row, plan in zip(rows, plans, strict=True):
            if isinstance(plan, Problem):
                results.append(plan)
                continue
            scripts, held = plan
            try:
                segments = [
                    self._held_segment(row.place, script)
                    if is_held(script.text)
                    else self._segment(row.place, script, encodings[script.text])
                    for script in scripts
                ]
            except ValueError as error:
                results.append(Problem("data.control", str(error), str(row.place), fix=SKIP))
            else:
                self.seen["no-bos"] += tuple(segments[0].tokens[:1]) != self.tokenizer.prefix[:1] != ()
                results.append(Tokenised(row.place, tuple(segments), held))
        return results

    def _scripts(self, row: Conversation) -> tuple[list[Script], int] | Problem:
        assert self.turns is not None
        messages, held = self._hold(row.messages)
        try:
            scripts = self.turns.scripts(messages, self.learn)
        except (Refused, Unmaskable) as error:
            return _unusable(row.place, error)
        self.seen["own-segment"] += len(scripts) > 1
        self.seen["eos-appended"] += not scripts[0].closed
        return scripts, held

    def _segment(self, place: Place, script: Script, encoding: tokenizers.Encoding) -> Segment:
        return self._weighted(place, encoding.ids, encoding, script.learned, script.closed)

    def _held_segment(self, place: Place, script: Script) -> Segment:
        """The same with framed control tokens; spans move with the text."""
        control, pieces, spans, length, position = self.tokenizer.control, [], [], 0, 0
        for start, end in script.learned:
            before, inside = control.frame(script.text[position:start]), control.frame(script.text[start:end])
            spans.append((length + len(before), length + len(before) + len(inside)))
            pieces += [before, inside]
            length, position = spans[-1][1], end
        text = "".join([*pieces, control.frame(script.text[position:])])
        ids, encoding = self.tokenizer.encode_framed(text)
        return self._weighted(place, ids, encoding, tuple(spans), script.closed)

    def _weighted(
        self,
        place: Place,
        ids: list[int],
        encoding: tokenizers.Encoding,
        spans: tuple[tuple[int, int], ...],
        closed: bool,
    ) -> Segment:
        weights = np.zeros(len(ids), np.float32)
        offsets, straddled = encoding.offsets, False
        for start, end in spans:
            first = bisect_left(offsets, (start, 0))
            weights[first : bisect_left(offsets, (end, 0))] = 1.0
            straddled |= first > 0 and offsets[first - 1][1] > start
        self.seen["straddled"] += straddled
        return _finish(place, ids, weights, () if closed else (self._eos(place),))

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
            segment = _finish(row.place, [*prompt, *answer], weights, (self._eos(row.place),))
            results.append(Tokenised(row.place, (segment,), held))
        return results

    def _passages(self, rows: Sequence[Passage]) -> list[Tokenised | Problem]:
        results: list[Tokenised | Problem] = []
        for row, encoding in zip(rows, self.tokenizer.encode_texts([row.text for row in rows]), strict=True):
            eos, ids = self._eos(row.place), self.tokenizer.with_prefix(encoding.ids)
            end = () if ids[-1:] == [eos] else (eos,)
            self.seen["markup"] += bool(self.tokenizer.control.pattern.search(row.text))
            segment = _finish(row.place, ids, np.ones(len(ids), np.float32), end)
            results.append(Tokenised(row.place, (segment,)))
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


def _written(example: Example) -> str:
    """All text of an example."""
    if isinstance(example, Conversation):
        return "\n".join(message.content for message in example.messages)
    return f"{example.prompt}\n{example.completion}\n{example.system}" if isinstance(example, Pair) else example.text


def _reserved(place: Place) -> Problem:
    what = "the row holds a character from U+10FFF0 to U+10FFFD; they mark places while a text is rendered"
    return Problem("data.reserved", what, str(place), fix=SKIP)


def _unusable(place: Place, error: Exception) -> Problem:
    if isinstance(error, Unmaskable):
        what = f"the chat template cannot be masked exactly: {error}"
        fix = f"--set train.learn={'last' if error.earlier else 'all'}"
        return Problem("template.unmaskable", what, str(place), fix=fix)
    return Problem("template.refused", f"the chat template refuses the row: {error}", str(place), fix=SKIP)


def _needs_template(what: str, place: Place) -> Problem:
    fix = "take an instruct model, or rows with prompt and completion or text"
    return Problem("template.missing", f"the model has no chat template, so it cannot read {what}", str(place), "", fix)


def _finish(place: Place, ids: Sequence[int], weights: Floats, end: Sequence[int]) -> Segment:
    """A segment of `ids` and the learned tokens `end`; its first token is never learned."""
    tokens = np.array([*ids, *end], np.int32)
    weights = np.concatenate([weights, np.ones(len(end), np.float32)])
    weights[:1] = 0.0
    return Segment(tokens, weights, place.id)
