"""The smallest real session: one logit per token, trained by momentum descent in numpy.

It has weights, an optimizer state that matters, exact losses, and saves and restores both, so the train loop can be
tested in milliseconds.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from safetensors.numpy import load_file, save_file

from localtune.backend import Sampling, SegmentScores, StepResult
from localtune.batch import Batch, Floats

VOCABULARY = 16


class Unigram:
    """Satisfies `localtune.backend.Session`."""

    def __init__(self) -> None:
        self.theta = np.zeros(VOCABULARY)
        self.momentum = np.zeros(VOCABULARY)
        self.poisoned: set[int] = set()
        """Updates whose gradient is made not finite."""

    def _logprobs(self) -> np.ndarray:
        return np.asarray(self.theta - np.log(np.exp(self.theta).sum()))

    def train_step(self, micro_batches: Sequence[Batch], *, step: int, lr: float) -> StepResult:
        total = sum(batch.weight for batch in micro_batches)
        logprobs, gradient, loss = self._logprobs(), np.zeros(VOCABULARY), 0.0
        for batch in micro_batches:
            counts = np.bincount(batch.tokens.ravel(), batch.weights.ravel(), VOCABULARY)
            loss -= float(counts @ logprobs)
            gradient += (counts.sum() * np.exp(logprobs) - counts) / total
        if step in self.poisoned:
            return StepResult(float("nan"), total, float("nan"), False, 1, 0.001)
        self.momentum = 0.9 * self.momentum + gradient
        self.theta = self.theta - lr * self.momentum
        return StepResult(loss, total, float(np.linalg.norm(gradient)), True, 1, 0.001)

    def score(self, batch: Batch, *, adapter: bool = True) -> SegmentScores:
        logprobs, rows = self._logprobs(), []
        for tokens, segments, weights in zip(batch.tokens, batch.segments, batch.weights, strict=True):
            for segment in range(1, int(segments.max()) + 1):
                mine = weights * (segments == segment)
                hits = np.count_nonzero((mine > 0) & (tokens == logprobs.argmax()))
                rows.append((-(mine * logprobs[tokens]).sum(), mine.sum(), np.count_nonzero(mine), hits))
        columns = np.array(rows, np.float32).T
        return SegmentScores(*columns)

    def logits(self, tokens: Sequence[int], at: Sequence[int], *, adapter: bool = True) -> Floats:
        return np.tile(self.theta.astype(np.float32), (len(at), 1))

    def generate(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling, *, adapter: bool = True
    ) -> Iterator[tuple[int, int]]:
        for row in range(len(prompts)):
            yield row, int(self.theta.argmax())

    def save(self, folder: Path, *, state: bool) -> None:
        save_file({"theta": self.theta}, folder / "weights.safetensors")
        if state:
            save_file({"momentum": self.momentum}, folder / "optimizer.safetensors")

    def restore(self, folder: Path) -> None:
        self.theta = load_file(folder / "weights.safetensors")["theta"]
        self.momentum = load_file(folder / "optimizer.safetensors")["momentum"]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass
