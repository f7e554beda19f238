"""A GGUF in llama.cpp: ids of texts, log-probabilities, stops and rendered templates."""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import pytest

from localtune.llamacpp.server import LlamaServer


class Served:
    """llama.cpp's server with one file, in a process of its own: inside this one it now and then never ends."""

    def __init__(self, path: Path, context: int = 256) -> None:
        pytest.importorskip("xllamacpp")
        self._server = LlamaServer(path, context=context, threads=1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()

    @property
    def context(self) -> int:
        """Tokens of prompt and answer together."""
        return self._server.context

    def ids(self, text: str, *, special: bool = False) -> list[int]:
        """Ids of a text; with `special` BOS is added as the file says, control tokens are read either way."""
        return self._server.tokenize(text, special=special, parse=True)

    def plain_ids(self, text: str) -> list[int]:
        """Ids of a text in which control tokens are plain text."""
        return self._server.tokenize(text, special=False, parse=False)

    def prompt(self, messages: Sequence[dict[str, str]]) -> str:
        """What the chat template makes of messages."""
        return self._server.template(messages)

    def logprobs(self, ids: Sequence[int], vocabulary: int, plain: int) -> npt.NDArray[np.float64]:
        """Log-probabilities of the next token after every prefix of `ids`, [len(ids), vocabulary].

        `plain` is a token that shows as text; it is forced, which changes no reported number.
        """
        rows = np.full((len(ids), vocabulary), -np.inf)
        for end in range(1, len(ids) + 1):
            tokens, logprobs = self._server.next_logprobs(ids[:end], top=vocabulary, force=plain)
            rows[end - 1, tokens] = logprobs
        return rows

    def stop(self, ids: Sequence[int], forced: int) -> str:
        """Why an answer ends in which `forced` is the only token: "eos", or "limit" if it goes on."""
        return "eos" if self._server.stops_at(ids, forced) else "limit"
