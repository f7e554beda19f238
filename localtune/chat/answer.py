"""One answer as it comes: who speaks, what is wished for, and how it ended."""

import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from localtune.data.conversations import Message
from localtune.llamacpp import Ended


@dataclass(frozen=True)
class Wishes:
    """How an answer is drawn."""

    temperature: float = 0.0
    """0 = greedy."""
    top_p: float = 1.0
    """Only the smallest set of most likely tokens that reaches this probability."""
    seed: int = 0
    max_tokens: int = 1024
    lora: Mapping[str, float] | None = None
    """How much each adapter beside a GGUF counts, by its name, others not at all; None = as chosen for the chat."""


class Speaker(Protocol):
    """A model in memory that answers conversations."""

    def reply(self, messages: Sequence[Message], wishes: Wishes) -> Generator[str, None, Ended]:
        """Pieces of text as they are drawn; closing the generator stops the model.

        Raises `InputError` for a conversation that the model cannot read: too long, refused by its template, or more
        than one user's message where there is no template.
        """
        ...


class Answer:
    """One reply, heard once by iterating over it."""

    def __init__(self, speaker: Speaker, messages: Sequence[Message], wishes: Wishes) -> None:
        self._reply, self._most = speaker.reply(messages, wishes), wishes.max_tokens
        self._began = time.monotonic()
        self.text = ""
        """What was heard."""
        self.ended: Ended | None = None
        """How it ended; None while it goes on and when it was cut off."""
        self.seconds = 0.0
        """From the question to the last piece, the reading of the prompt included."""

    def __iter__(self) -> Generator[str, None, None]:
        try:
            self.ended = yield from self._heard()
        finally:
            self.seconds = time.monotonic() - self._began
            self._reply.close()

    @property
    def cut(self) -> Literal["max_tokens", "context"] | None:
        """The limit that ended it: what was wished for, or the model reads no more. None of every other end."""
        if self.ended is None or self.ended.stopped:
            return None
        return "max_tokens" if self.ended.tokens >= self._most else "context"

    @property
    def speed(self) -> float:
        """Tokens per second of an answer that ended."""
        return self.ended.tokens / self.seconds if self.ended and self.seconds else 0.0

    def _heard(self) -> Generator[str, None, Ended]:
        while True:
            try:
                piece = next(self._reply)
            except StopIteration as end:
                ended: Ended = end.value
                return ended
            self.text += piece
            yield piece
