"""Questions to llama.cpp about one GGUF file: token ids, log-probabilities, stops, text.

In an `exact` server everything is computed on the processor with a float32 cache and without flash attention: within
1e-5 of a float32 forward pass of the same weights, where llama.cpp's defaults differ by 6e-3 (measured on a model of
260,032 weights). Log-probabilities are natural and those of the whole softmax, before any bias or sampler.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from localtune.batch import Floats, Ints
from localtune.llamacpp.child import Child
from localtune.llamacpp.options import ServerOptions

Messages = Sequence[Mapping[str, Any]]
"""Each with role and content."""
CERTAIN = 1000.0
"""A bias in nats that no logit outweighs."""
MOST = 100.0
"""Scale of an adapter. Far above it numbers overflow, and llama.cpp's cache holds on to what is no number."""
SLOWEST = 60.0
"""Seconds for a token that is drawn, where the weights are read from a slow disk each time."""
RENDERING = 10.0
"""Seconds for the text of a conversation, after which its template never ends; honest ones take milliseconds."""


@dataclass(frozen=True)
class Completed:
    """A greedy continuation."""

    ids: tuple[int, ...]
    """What was drawn, the end-of-generation token included."""
    text: str
    stopped: bool
    """It ended by an end-of-generation token, not by the limit."""


@dataclass(frozen=True)
class Ended:
    """How a stream of text ended."""

    tokens: int
    """Drawn, the end-of-generation token included."""
    stopped: bool
    """By an end-of-generation token, not by the limit."""


class LlamaServer(AbstractContextManager["LlamaServer"]):
    """One GGUF file in memory of a child process. Leaving the context ends the child.

    Every question raises `InputError` where llama.cpp refuses it (too long, no such token), `RunFailed` when the child
    died or hangs, and what `check` raises.
    """

    def __init__(
        self,
        path: Path,
        *,
        context: int = 0,
        threads: int | None = None,
        exact: bool = True,
        adapters: Sequence[Path] = (),
        check: Callable[[], None] | None = None,
    ) -> None:
        """Load `path`; `context` tokens at most, 0 = the model's own length, which is also the most there is.

        `adapters` are LoRA files, all of which count in full until `scales` says otherwise. `check` is called before
        every request to llama.cpp, and may raise to end the work.
        Raises `InputError` for a file that llama.cpp does not load, `MachineError` without xllamacpp.
        """
        self._scales = self._computed_with = [1.0] * len(adapters)
        self._child = Child(path, ServerOptions(context, threads, exact, adapters, self._scales), check)
        try:
            self._meta = self._child.ask("GET", "/v1/models")["data"][0]["meta"]
        except BaseException:
            self.close()
            raise

    @property
    def context(self) -> int:
        """Tokens of prompt and answer together."""
        return int(self._meta["n_ctx"])

    @property
    def vocabulary(self) -> int:
        """Rows of the output layer."""
        return int(self._meta["n_vocab"])

    def scales(self, scales: Sequence[float]) -> None:
        """How much each adapter counts from the next question on, from -`MOST` to `MOST`; 0 = off."""
        if len(scales) != len(self._scales) or not all(abs(scale) <= MOST for scale in scales):
            raise ValueError(f"{len(self._scales)} numbers from -{MOST:g} to {MOST:g}, not {scales!r:.200}")
        self._scales = list(scales)

    def tokenize(self, text: str, *, special: bool, parse: bool) -> list[int]:
        """Ids of `text`; `special` adds BOS where the file says so, `parse` reads control strings as control tokens."""
        body = {"content": text, "add_special": special, "parse_special": parse}
        return [int(token) for token in self._child.ask("POST", "/tokenize", body)["tokens"]]

    def template(self, messages: Messages) -> str:
        """The text the chat endpoint makes of `messages`, ready for an answer; without BOS where the ids get one.

        A file without a template is rendered with llama.cpp's own default, ChatML. Raises `RunFailed` also for a
        template that takes longer than `RENDERING`.
        """
        body = {"messages": list(messages)}
        return str(self._child.ask("POST", "/apply-template", body, within=RENDERING)["prompt"])

    def template_ids(self, messages: Messages) -> list[int]:
        """What the chat endpoint feeds the model for `messages`."""
        return self.tokenize(self.template(messages), special=True, parse=True)

    def next_logprobs(self, ids: Sequence[int], *, top: int, force: int, cache: bool = False) -> tuple[Ints, Floats]:
        """The `top` most likely tokens after `ids`, int32 [n], and their log-probabilities, float32 [n].

        `force` is appended where it is not among them: n is `top` or `top + 1`. `cache` keeps what was computed of a
        common beginning with the call before.
        """
        drawn = self._drawn(ids, force, top, cache)
        if drawn is None:  # llama.cpp says nothing of a token that ends in the middle of a character
            likely = self._beside(ids, top, cache)
            whole = likely if force in likely else self._beside(ids, self.vocabulary, cache)  # 13 MB of 150,000 tokens
        else:
            whole = _by_id(drawn) | {force: drawn["logprob"]}
        found = dict(list(whole.items())[:top]) | {force: whole[force]}
        return np.array(list(found), np.int32), np.array(list(found.values()), np.float32)

    def stops_at(self, ids: Sequence[int], token: int) -> bool:
        """Whether generation ends when `token` is drawn after `ids`."""
        return bool(self._complete(ids, 1, logit_bias=[[token, CERTAIN]])["stop_type"] == "eos")

    def complete(self, ids: Sequence[int], *, tokens: int) -> Completed:
        """The most likely continuation of `ids`, at most `tokens` long."""
        answer = self._complete(ids, tokens, return_tokens=True)
        return Completed(tuple(map(int, answer["tokens"])), answer["content"], answer["stop_type"] == "eos")

    def chat(
        self, messages: Messages, *, temperature: float = 0.0, top_p: float = 1.0, seed: int = 0, tokens: int = 512
    ) -> Generator[str, None, Ended]:
        """The answer to `messages` under the file's own template, as it comes; closing the iterator stops it."""
        self.template(messages)  # of one that never ends nothing would be heard for as long as of a long prompt
        body = self._sampling(temperature, top_p, seed) | {"max_tokens": tokens, "reasoning_format": "none"}
        ended = None
        for event in self._child.stream("/v1/chat/completions", body | {"messages": list(messages)}):
            choice = event["choices"][0]
            if text := choice["delta"].get("content"):
                yield text
            if choice["finish_reason"] is not None:
                ended = Ended(event["timings"]["predicted_n"], choice["finish_reason"] == "stop")
        return self._whole(ended)

    def continuation(
        self, ids: Sequence[int], *, temperature: float = 0.0, top_p: float = 1.0, seed: int = 0, tokens: int = 512
    ) -> Generator[str, None, Ended]:
        """What follows the token `ids`, as it comes; closing the iterator stops it."""
        ended = None
        body = self._sampling(temperature, top_p, seed) | {"prompt": list(map(int, ids)), "n_predict": tokens}
        for event in self._child.stream("/completion", body):
            if event["content"]:
                yield event["content"]
            if event["stop"]:
                ended = Ended(event["tokens_predicted"], event["stop_type"] == "eos")
        return self._whole(ended)

    def close(self) -> None:
        """End the child."""
        self._child.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _lora(self) -> dict[str, Any]:
        """The part of a request that says how much each adapter counts.

        What was computed of a prompt under other scales is not used again: llama.cpp itself does not always mind that.
        """
        if not self._scales:
            return {}
        fresh = {} if self._scales == self._computed_with else {"cache_prompt": False}
        self._computed_with = self._scales
        return {"lora": [{"id": i, "scale": scale} for i, scale in enumerate(self._scales)]} | fresh

    def _sampling(self, temperature: float, top_p: float, seed: int) -> dict[str, Any]:
        """Temperature, then nucleus, and nothing of llama.cpp's other defaults; the largest seed would mean "any"."""
        drawn = {"temperature": temperature, "top_p": top_p, "seed": seed % 0xFFFFFFFF}
        return drawn | {"samplers": ["temperature", "top_p"]} | self._lora()

    def _whole(self, ended: Ended | None) -> Ended:
        if ended is None:
            raise self._child.lost("the answer broke off")
        return ended

    @cached_property
    def _plain(self) -> int:
        return self.tokenize("a", special=False, parse=False)[-1]

    def _beside(self, ids: Sequence[int], top: int, cache: bool) -> dict[int, float]:
        """The `top` log-probabilities where a token is drawn of which llama.cpp does speak."""
        drawn = self._drawn(ids, self._plain, top, cache)
        assert drawn is not None
        return _by_id(drawn)

    def _drawn(self, ids: Sequence[int], token: int, top: int, cache: bool) -> dict[str, Any] | None:
        answer = self._complete(ids, 1, logit_bias=[[token, CERTAIN]], n_probs=max(1, top), cache_prompt=cache)
        probabilities = answer.get("completion_probabilities")
        return probabilities[0] if probabilities else None

    def _complete(self, ids: Sequence[int], tokens: int, **more: Any) -> dict[str, Any]:
        body = {"prompt": list(map(int, ids)), "n_predict": tokens, "temperature": 0.0, "cache_prompt": False}
        answer: dict[str, Any] = self._child.ask(
            "POST", "/completion", body | more | self._lora(), more=SLOWEST * tokens
        )
        return answer


def _by_id(drawn: Mapping[str, Any]) -> dict[int, float]:
    return {int(entry["id"]): entry["logprob"] for entry in drawn["top_logprobs"]}
