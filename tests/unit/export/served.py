"""A GGUF in llama.cpp: ids of texts, log-probabilities, stops and rendered templates."""

import json
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pytest


class Served:
    """llama.cpp's own server with one file, on a loopback port."""

    def __init__(self, path: Path, context: int = 256) -> None:
        engine: Any = pytest.importorskip("xllamacpp")
        parameters = engine.CommonParams()
        parameters.model.path = str(path)
        parameters.n_ctx, parameters.n_parallel, parameters.n_ctx_checkpoints = context, 1, 0
        parameters.warmup, parameters.verbosity = False, -1
        parameters.cpuparams.n_threads = 1
        parameters.cache_type_k = parameters.cache_type_v = engine.ggml_type.GGML_TYPE_F32
        parameters.flash_attn_type = engine.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self._server: Any = engine.Server(parameters)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server = None

    def ids(self, text: str, *, special: bool = False) -> list[int]:
        """Ids of a text; with `special` BOS is added as the file says, control tokens are read either way."""
        asked = {"content": text, "add_special": special, "parse_special": True}
        return list(self._post("/tokenize", asked)["tokens"])

    def plain_ids(self, text: str) -> list[int]:
        """Ids of a text in which control tokens are plain text."""
        asked = {"content": text, "add_special": False, "parse_special": False}
        return list(self._post("/tokenize", asked)["tokens"])

    def prompt(self, messages: Sequence[dict[str, str]]) -> str:
        """What the chat template makes of messages."""
        return str(self._post("/apply-template", {"messages": list(messages)})["prompt"])

    def logprobs(self, ids: Sequence[int], vocabulary: int, plain: int) -> npt.NDArray[np.float64]:
        """Log-probabilities of the next token after every prefix of `ids`, [len(ids), vocabulary].

        `plain` is a token that shows as text; it is forced, which changes no reported number.
        """
        rows = np.full((len(ids), vocabulary), -np.inf)
        for end in range(1, len(ids) + 1):
            asked = {
                **{"prompt": list(ids[:end]), "n_predict": 1, "n_probs": vocabulary, "temperature": 0},
                **{"cache_prompt": False, "logit_bias": [[plain, 1000.0]]},
            }
            for entry in self._post("/completion", asked)["completion_probabilities"][0]["top_logprobs"]:
                rows[end - 1, entry["id"]] = entry["logprob"]
        return rows

    def stop(self, ids: Sequence[int], forced: int) -> str:
        """Why an answer ends in which `forced` is the only token: "eos", or "limit" if it goes on."""
        asked = {"prompt": list(ids), "n_predict": 3, "temperature": 0, "logit_bias": [[forced, 1000.0]]}
        return str(self._post("/completion", asked)["stop_type"])

    def _post(self, path: str, asked: dict[str, Any]) -> Any:
        body = json.dumps(asked).encode()
        request = urllib.request.Request(
            self._server.listening_address + path, body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)
