"""Who answers: a session of a backend, or llama.cpp with a GGUF file.

A session reads a conversation exactly as training rendered it: the model's own template, control tokens only where the
template writes them. llama.cpp renders the template in the file by its own Jinja and reads a control token wherever one
is written. Without a template both continue one text as it is.
"""

from collections.abc import Generator, Sequence

from localtune.backend import Sampling, Session
from localtune.chat.adapters import Adapters
from localtune.chat.answer import Wishes
from localtune.chat.pieces import Pieces
from localtune.data.conversations import Message
from localtune.data.render import Renderer
from localtune.data.rendering import Rendering
from localtune.errors import InputError, Problem
from localtune.llamacpp import Ended, LlamaServer


class SessionSpeaker:
    """A model in a backend's memory; with `adapter=False` the base beneath the adapter."""

    def __init__(
        self,
        session: Session,
        renderer: Renderer | Rendering,
        stop: Sequence[int],
        context: int,
        *,
        adapter: bool = True,
    ) -> None:
        self._session, self._renderer, self._adapter = session, renderer, adapter
        self._stop, self._context = tuple(stop), context

    def reply(self, messages: Sequence[Message], wishes: Wishes) -> Generator[str, None, Ended]:
        """See `Speaker`. Prompt and answer together are at most `context` tokens."""
        ids = self._renderer.conversation_ids(messages)
        room = self._context - len(ids)
        if room < 1:
            what = f"the conversation has {len(ids):,} tokens, the model reads {self._context:,}"
            raise InputError(Problem("chat.context", what, fix="shorten the conversation"))
        tokens = min(wishes.max_tokens, room)
        sampling = Sampling(self._stop, tokens, wishes.temperature, wishes.top_p, wishes.seed)
        pieces, drawn, stopped = Pieces(self._renderer.tokenizer), 0, False
        for _, token in self._session.generate([ids], sampling, adapter=self._adapter):
            drawn, stopped = drawn + 1, token in self._stop
            if not stopped and (text := pieces.add(token)):
                yield text
        if text := pieces.rest():
            yield text
        return Ended(drawn, stopped)


class GgufSpeaker:
    """A GGUF file in llama.cpp; `template` says whether the file has a chat template.

    With `adapters` it answers as they count when it is asked, or as it is wished for; with `base` without them.
    """

    def __init__(
        self, server: LlamaServer, *, template: bool, adapters: Adapters | None = None, base: bool = False
    ) -> None:
        self._server, self._template, self._adapters, self._base = server, template, adapters, base

    def reply(self, messages: Sequence[Message], wishes: Wishes) -> Generator[str, None, Ended]:
        """See `Speaker`. Raises `InputError` also for adapters that are not there."""
        self._server.scales(self._scales(wishes))
        more = {
            "temperature": wishes.temperature,
            "top_p": wishes.top_p,
            "seed": wishes.seed,
            "tokens": wishes.max_tokens,
        }
        if self._template:
            turns = [{"role": message.role, "content": message.content} for message in messages]
            return (yield from self._server.chat(turns, **more))  # type: ignore[arg-type]
        if [message.role for message in messages] != ["user"]:
            what = "the file has no chat template, so it cannot read a system turn or earlier turns"
            raise InputError(Problem("template.missing", what, fix="ask with one text alone"))
        ids = self._server.tokenize(messages[0].content, special=True, parse=False)
        return (yield from self._server.continuation(ids, **more))  # type: ignore[arg-type]

    def _scales(self, wishes: Wishes) -> list[float]:
        if self._adapters is None or self._base:
            return [0.0] * len(self._adapters.paths if self._adapters else ())
        return list(self._adapters.scales) if wishes.lora is None else self._adapters.of(wishes.lora)
