"""A `Renderer` in processes that can be killed, on all cores.

Results are those of `Renderer`, in order. A chat template is a program of a stranger's: a row for which it takes longer
than 2 seconds, or 256 MB more than the process held (Linux: refused; elsewhere: looked at from outside, roughly), or
at which the process crashes, ends as `InputError` that names the row, and nothing else of this machine suffers. At
most `AHEAD` blocks a process are held at once. Few rows are rendered by one process, because starting one takes about
as long as a thousand rows.
"""

import datetime
import os
import queue
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from localtune.data.bounds import SECONDS
from localtune.data.child import Child, Died
from localtune.data.conversations import Conversation, Example, Message, Pair
from localtune.data.messages import texts
from localtune.data.paint import Piece, paint
from localtune.data.parts import Tokenised
from localtune.data.refusals import ORIGINAL, memory
from localtune.data.render import Question
from localtune.data.tokenizer import Tokenizer
from localtune.data.turns import Learn
from localtune.data.wire import packed, packed_turns, unpacked_results
from localtune.errors import InputError, Problem

AHEAD = 2
MOST = 8
"""Processes, whatever the machine."""
_SMALL, _LARGE, _LONG = 256, 8192, 1 << 22
_FEW = 1000
"""Rows for which one more process is worth its start."""


def blocks(examples: Iterable[Example]) -> Iterator[list[Example]]:
    """`examples` in blocks that grow: few rows are shared by all processes, and many are tokenised in large blocks,
    which is faster. Memory goes by characters, so a block also ends behind `_LONG` of them.
    """
    block, size, most = list[Example](), 0, _SMALL
    for example in examples:
        block.append(example)
        size += sum(map(len, texts(example)))
        if len(block) == most or size > _LONG:
            yield block
            block, size, most = [], 0, min(2 * most, _LARGE)
    if block:
        yield block


@dataclass(frozen=True)
class _Block:
    """What became of a block."""

    results: list[Tokenised | Problem]
    seen: Counter[str]
    end: str


class Rendering:
    """Turns examples into segments as `Renderer` does, and outlives templates that do not behave.

    A context manager; leaving it ends the processes. Processes start when they are first needed, so a template that is
    not valid raises `InputError` at the first use.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        learn: Learn,
        today: datetime.date | None = None,
        workers: int | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.learn = learn
        self.seen: Counter[str] = Counter()
        """As `Renderer.seen`, of the blocks that were handed out."""
        self.end_of_turn = ""
        """The token that ends an answer, as last seen."""
        self._workers = workers or min(os.cpu_count() or 1, MOST)
        opening = {"folder": str(tokenizer.folder.resolve()), "learn": learn, "today": today and today.isoformat()}
        self._children = [Child(opening) for _ in range(self._workers)]
        self._idle: queue.LifoQueue[Child] = queue.LifoQueue()
        self._idle.put(self._children[0])
        self._used, self._rows = 1, 0
        self._pool = ThreadPoolExecutor(self._workers, thread_name_prefix="rendering")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the processes, whatever they do."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        for child in self._children:
            child.stop()
        self._pool.shutdown(wait=True)

    def render(self, blocks: Iterable[Sequence[Example]]) -> Iterator[list[Tokenised | Problem]]:
        """One list per block, in order: one result per example, as `Renderer.render`. Lazy.

        Raises `InputError` for what holds for every row, and for a row at which the template does not behave.
        """
        waiting: deque[Future[_Block]] = deque()
        for block in blocks:
            self._grow(len(block))
            waiting.append(self._pool.submit(self._block, block))
            while len(waiting) >= AHEAD * self._used:
                yield self._taken(waiting.popleft())
        while waiting:
            yield self._taken(waiting.popleft())

    def question(self, example: Conversation | Pair) -> Question | Problem:
        """As `Renderer.question`."""
        said = self._ask({"question": packed(example)}, str(example.place), "the row")
        if said["kind"] == "question":
            return Question(tuple(said["value"]["prompt"]), said["value"]["answer"])
        problem = Problem(**said["value"])
        if problem.code == "template.memory":
            raise InputError(problem)
        return problem

    def prompt_ids(self, prompt: str, system: str | None) -> tuple[int, ...]:
        """As `Renderer.prompt_ids`."""
        return tuple(self._ask({"prompt": [prompt, system]}, "watch.samples", "a sample"))

    def conversation_ids(
        self,
        messages: Sequence[Message],
        what: str = "the conversation",
        where: str = "",
        tools: Sequence[dict[str, Any]] = (),
    ) -> tuple[int, ...]:
        """As `Renderer.conversation_ids`."""
        return tuple(self._ask({"ids": [packed_turns(messages), what, where, list(tools)]}, where, what))

    def paint(self, example: Example) -> list[list[Piece]] | Problem:
        """The pieces of each segment of `example`, or why it cannot be used."""
        ((result,),) = self.render([[example]])
        if isinstance(result, Problem):
            return result
        return [paint(self.tokenizer, segment) for segment in result.segments]

    def _grow(self, rows: int) -> None:
        """Allow one more process for every `_FEW` rows."""
        self._rows += rows
        while self._used < self._workers and self._rows > _FEW * self._used:
            self._idle.put(self._children[self._used])
            self._used += 1

    def _taken(self, waiting: Future[_Block]) -> list[Tokenised | Problem]:
        block = waiting.result()
        self.seen += block.seen
        self.end_of_turn = block.end or self.end_of_turn
        return block.results

    def _ask(self, question: dict[str, Any], where: str, what: str) -> Any:
        child = self._idle.get()
        try:
            return child.ask(question)[0]
        except Died as death:
            raise _misbehaved(death, where, what) from None
        finally:
            self._idle.put(child)

    def _block(self, examples: Sequence[Example]) -> _Block:
        child = self._idle.get()
        try:
            return _rendered(child, examples)
        except Died as death:
            places = {example.place.id: str(example.place) for example in examples}
            if death.why == "endless" or len(examples) == 1:
                only = str(examples[0].place) if len(examples) == 1 else ""
                raise _misbehaved(death, places.get(death.row, only), "the row") from None
        finally:
            self._idle.put(child)
        return self._one_by_one(examples)

    def _one_by_one(self, examples: Sequence[Example]) -> _Block:
        """A block at which the process died: the row at which it dies again is named, if there is one."""
        blocks = [self._block([example]) for example in examples]
        seen: Counter[str] = sum((block.seen for block in blocks), Counter())
        return _Block([block.results[0] for block in blocks], seen, next((b.end for b in blocks[::-1] if b.end), ""))


def _rendered(child: Child, examples: Sequence[Example]) -> _Block:
    answer, raw = child.ask({"rows": [packed(example) for example in examples]})
    results = unpacked_results(examples, answer["rows"], raw)
    for result in results:
        if isinstance(result, Problem) and result.code == "template.memory":
            raise InputError(result)
    return _Block(results, Counter(answer["seen"]), answer["end"])


def _misbehaved(death: Died, where: str, what: str) -> InputError:
    if death.why == "endless":
        said = f"the chat template has not come to an end within {SECONDS:g} seconds"
    elif death.why == "memory":
        said = memory(what)
    else:
        said = "the process that renders the chat template ended"
    evidence = death.said if death.why == "failed" else ""
    return InputError(Problem(f"template.{death.why}", said, where, evidence, ORIGINAL))
