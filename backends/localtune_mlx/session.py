"""Weights in memory, training or answering: the other side of `localtune.backend.Session`.

One update: every micro-batch contributes its objective's sum over the update's denominator, known before the first;
the gradients add up; the update is applied only if loss and norm are finite. What trains is float32, computed in
bfloat16 where asked. Dropout is keyed by (seed, step, micro-batch), and the global random state is never touched. On a
CPU the same calls give the same bits.

On a GPU a micro-batch is one compiled function. Its batch is filled up to one of a bounded number of shapes, since
every new shape is compiled anew (`buckets`); what is filled in weighs nothing.
"""

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import mlx.core as mx
import numpy as np

from localtune.adapter import Full, Trainable
from localtune.backend import MemorySpec, OptimizerSpec, Precision, Sampling, SegmentScores, StepResult
from localtune.batch import Batch, Floats
from localtune.errors import InputError, Problem
from localtune.model import ModelFiles
from localtune.objectives import Objective, denominator_of
from localtune.prompt_blocks import cached_bytes, room
from localtune.saved import same_adapter
from localtune.targets import check_tokens, positions, targets
from localtune_mlx import buckets, checkpoint, generation, loss, optimizer, packing, selfcheck
from localtune_mlx.device import on_gpu
from localtune_mlx.families import longest
from localtune_mlx.loading import DTYPES
from localtune_mlx.lora import Adapter, Place
from localtune_mlx.memory import memory_or_error, peak_bytes

Arrays = dict[str, mx.array]
HEAD_WEIGHTS = ("lm_head.weight", "lm_head.bias", "model.embed_tokens.weight")
"""What a head reads, where it is there."""


class MlxSession:
    """An opened model; `adapter` is what lies beside its layers, or None."""

    def __init__(
        self,
        files: ModelFiles,
        model: Any,
        adapter: Adapter | None,
        trainable: Trainable,
        places: dict[str, Place],
        *,
        precision: Precision,
        objective: Objective | None,
        optimizer_spec: OptimizerSpec | None,
        memory: MemorySpec,
        seed: int,
    ) -> None:
        self.model = model
        self.closing = ExitStack()
        """What is undone when the session ends."""
        self._shapes: set[tuple[int, ...]] = set()
        self._files, self._adapter, self._trainable, self._places = files, adapter, trainable, places
        self._compute = DTYPES[precision.compute]
        self._room = room(files.config, cached_bytes(precision), memory.limit)
        self._objective, self._spec, self._memory, self._seed = objective, optimizer_spec, memory, seed
        self._compiled = on_gpu()
        self._layout = packing.layout_of(files)
        self._head = loss.own_head(model)
        self.trained: Arrays = {name: module[key].astype(mx.float32) for name, (module, key) in places.items()}
        self._put(self.trained)
        self._state = optimizer.initial(optimizer_spec, self.trained) if optimizer_spec else {}
        self._count = 0
        self._gradients_of, self._updated = self._functions()
        selfcheck.check(model, self._decode, self._head, files.config.vocabulary)

    @property
    def shapes(self) -> int:
        """How many shapes of micro-batches were compiled."""
        return len(self._shapes)

    # training

    def train_step(self, micro_batches: Sequence[Batch], *, step: int, lr: float) -> StepResult:
        """See `localtune.backend.Session`. Raises `ValueError` for an update without targets."""
        if self._objective is None or self._spec is None or not self.trained:
            raise RuntimeError("this session was opened to answer: it has nothing that trains")
        started = time.perf_counter()
        denominator = denominator_of(self._objective, micro_batches)
        with memory_or_error("training"):
            total, gradients = self._added(micro_batches, denominator, step)
            norm_array = optimizer.gradient_norm(gradients)
            mx.eval(norm_array)
            norm = float(norm_array)
            applied = math.isfinite(total) and math.isfinite(norm)
            if applied:
                self._apply(gradients, lr, norm_array)
        seconds = time.perf_counter() - started
        return StepResult(total, denominator, norm, applied, peak_bytes(), seconds)

    def _added(self, micro_batches: Sequence[Batch], denominator: float, step: int) -> tuple[float, Arrays]:
        """The objective's sum over the micro-batches, and the gradient of that over the denominator."""
        total, gradients = 0.0, {name: mx.zeros_like(array) for name, array in self.trained.items()}
        for number, batch in enumerate(micro_batches):
            if batch.targets == 0:
                continue
            inputs = self._inputs(batch) | {"denominator": mx.array(denominator)} | self._keys(step, number)
            try:
                (_, part), found = self._gradients_of(self.trained, inputs)
                gradients = {name: gradients[name] + found[name] for name in gradients}
                mx.eval(part, gradients)
            finally:
                self._put(self.trained)
                if self._adapter is not None:
                    self._adapter.drop(None)
            total += float(part)
        return total, gradients

    def _apply(self, gradients: Arrays, lr: float, norm: mx.array) -> None:
        count = mx.array(float(self._count + 1))
        self.trained, self._state = self._updated(self.trained, gradients, self._state, mx.array(lr), count, norm)
        mx.eval(self.trained, self._state)
        self._count += 1
        self._put(self.trained)

    def objective_sum(self, weights: Arrays, inputs: dict[str, Any]) -> mx.array:
        """The objective's sum over one micro-batch with these `weights`, a scalar."""
        assert self._objective is not None
        self._put(weights)
        if self._adapter is not None:
            self._adapter.drop(inputs.get("keys"))
        hidden = self._decode(inputs["tokens"], inputs.get("segments"), inputs.get("places"))
        before = hidden.reshape(-1, hidden.shape[-1])[inputs["before"]]
        chunk = self._memory.loss_chunk
        if isinstance(self._trainable, Full):
            read = {name: weights[name] for name in HEAD_WEIGHTS if name in weights}
            logprobs = loss.trained_logprobs(self._head, self._put, read, before, inputs["ids"], chunk)
        else:
            logprobs = loss.target_logprobs(self._head, before, inputs["ids"], chunk)
        total: mx.array = self._objective.total(mx, buckets.values(inputs, logprobs))
        return total

    def _functions(self) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """Gradients of a micro-batch, and the update; compiled where that pays."""

        def summed(weights: Arrays, inputs: dict[str, Any]) -> tuple[mx.array, mx.array]:
            total = self.objective_sum(weights, inputs)
            return total / inputs["denominator"], total

        def updated(
            weights: Arrays, gradients: Arrays, state: Arrays, lr: mx.array, count: mx.array, norm: mx.array
        ) -> tuple[Arrays, Arrays]:
            assert self._spec is not None
            return optimizer.updated(self._spec, weights, gradients, state, lr=lr, count=count, norm=norm)

        gradients_of = mx.value_and_grad(summed)
        return (mx.compile(gradients_of), mx.compile(updated)) if self._compiled else (gradients_of, updated)

    # answering

    def score(self, batch: Batch, *, adapter: bool = True) -> SegmentScores:
        """See `localtune.backend.Session`."""
        where = targets(batch)
        if not len(where.rows):
            nothing = np.zeros(batch.count, np.float32)
            return SegmentScores(nothing, nothing, nothing, nothing)
        inputs = self._inputs(batch, exact=True)
        with self._answering(adapter, "scoring"):
            hidden = self._decode(inputs["tokens"], inputs.get("segments"), inputs.get("places"))
            before = hidden.reshape(-1, hidden.shape[-1])[inputs["before"]]
            logprobs, hits = loss.judged(self._head, before, inputs["ids"], self._memory.loss_chunk)
        return SegmentScores.of(batch, where, np.array(logprobs), np.array(hits))

    def logits(self, tokens: Sequence[int], at: Sequence[int], *, adapter: bool = True) -> Floats:
        """See `localtune.backend.Session`."""
        row = np.asarray([tokens], np.int32)
        check_tokens(row, self._files.config.vocabulary)
        self._check_length(len(tokens))
        with self._answering(adapter, "computing logits"):
            hidden = self._decode(mx.array(row), None, None)[0]
            return np.array(self._head(hidden[mx.array(np.asarray(at, np.int32))]))

    def generate(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling, *, adapter: bool = True
    ) -> Iterator[tuple[int, int]]:
        """See `localtune.backend.Session`."""
        for prompt in prompts:
            check_tokens(np.asarray(prompt, np.int32), self._files.config.vocabulary)
            self._check_length(len(prompt))

        def forward(tokens: mx.array, past: generation.Past) -> mx.array:
            with self._answering(adapter, "generating"):
                past.expect(tokens.shape[1])
                hidden = self.model.model(tokens, cache=past.layers)
                past.advance(tokens.shape[1])
                logits = self._head(hidden[:, -1])
                mx.eval(logits)
                return logits

        def past(pads: Any) -> generation.Past:
            return generation.Past(pads, len(self.model.layers), self._layout)

        yield from generation.generate(forward, past, prompts, sampling, self._room, longest(self._files))

    # files

    def save(self, folder: Path, *, state: bool) -> None:
        """See `localtune.backend.Session` and `checkpoint`. A session in which nothing trains has nothing to save."""
        if self._adapter is not None:
            checkpoint.save_adapter(folder, self._adapter.lora, self.trained, self._files)
        elif not isinstance(self._trainable, Full):
            raise RuntimeError("nothing trains in this session, so there is nothing to save")
        elif state:
            checkpoint.save_weights(folder, self.trained)
        else:
            checkpoint.save_model(folder, self.trained, self._files)
        if state and self._spec is not None:
            checkpoint.save_state(folder, self._spec.name, self._state, self._count, self.trained)

    def restore(self, folder: Path) -> None:
        """See `localtune.backend.Session`. Raises `InputError` for files of another adapter or model."""
        if self._adapter is not None:
            same_adapter(self._adapter.lora, folder)
        self.load(folder)
        if self._spec is not None:
            shapes = {name: tuple(array.shape) for name, array in self._state.items()}
            self._state, self._count = checkpoint.load_state(folder, self._spec.name, shapes)

    def load(self, folder: Path) -> None:
        """Read the weights of `folder` into what trains, or into the adapter of a session that answers."""
        shapes = {name: tuple(array.shape) for name, array in self.trained.items()}
        self.trained = checkpoint.load_weights(folder, shapes)
        self._put(self.trained)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.model = self._adapter = self._head = None  # type: ignore[assignment]
        self.trained, self._state, self._places = {}, {}, {}
        mx.clear_cache()
        self.closing.close()

    # the parts of a pass

    def _decode(self, tokens: mx.array, segments: Any, places: Any) -> mx.array:
        """Tokens [B, T] to hidden states [B, T, H]; segments and positions [B, T], or None for rows of one segment."""
        sight = packing.Sight(segments, places, self._layout)
        hidden: mx.array = self.model.model(tokens, cache=[sight] * len(self.model.layers))
        return hidden

    def _inputs(self, batch: Batch, *, exact: bool = False) -> dict[str, Any]:
        check_tokens(batch.tokens, self._files.config.vocabulary)
        self._check_length(int(positions(batch.segments).max(initial=0)) + 1)
        whole = self._objective is not None and self._objective.denominator == "segments"
        inputs = buckets.inputs(batch, fill=self._compiled and not exact, segments_exact=whole)
        if self._compiled and not exact:
            self._shapes.add(buckets.signature(inputs))
        return inputs

    def _check_length(self, length: int) -> None:
        """Raise `InputError` for a text beyond what mlx-lm computes as PyTorch does."""
        most = longest(self._files)
        if most is not None and length > most:
            what = f"a text of {length:,} tokens is longer than the sliding window of {most:,}, which mlx-lm ignores"
            raise InputError(Problem("model.window", what, fix="--backend torch, or a shorter text"))

    def _put(self, weights: Arrays) -> None:
        """Let the model compute with `weights`, in the type it computes in (an adapter's stay float32)."""
        full = isinstance(self._trainable, Full)
        for name, array in weights.items():
            module, key = self._places[name]
            module[key] = array.astype(self._compute) if full else array

    @contextmanager
    def _answering(self, adapter: bool, doing: str) -> Iterator[None]:
        if not adapter and isinstance(self._trainable, Full):
            raise RuntimeError("the base weights no longer exist in a full fine-tune: open the base model instead")
        if self._adapter is not None:
            self._adapter.switch(adapter)
        try:
            with memory_or_error(doing):
                yield
        finally:
            if self._adapter is not None:
                self._adapter.switch(True)

    def _keys(self, step: int, number: int) -> dict[str, mx.array]:
        if self._adapter is None or self._adapter.lora.dropout == 0:
            return {}
        key = hashlib.sha256(f"{self._seed}:{step}:{number}".encode()).digest()
        root = mx.random.key(int.from_bytes(key[:8], "little") >> 1)
        return {"keys": mx.random.split(root, len(self._adapter.layers))}
