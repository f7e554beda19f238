"""Weights in memory, training or answering: the other side of `localtune.backend.Session`.

One update: every micro-batch contributes its objective's sum over the update's denominator, known before the first; the
gradients add up; one transfer brings loss and norm to the host; the update is applied only if both are finite. What
trains is float32, computed in bfloat16 through autocast where asked. Dropout is keyed by (seed, step, micro-batch), and
the global random state is left as it was found. On a CPU the same calls give the same bits.
"""

import hashlib
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch

from localtune.adapter import Full, Lora, Trainable
from localtune.backend import MemorySpec, OptimizerSpec, Precision, Sampling, SegmentScores, StepResult
from localtune.batch import Batch, Floats
from localtune.errors import InputError, Problem
from localtune.model import ModelFiles
from localtune.objectives import Objective, denominator_of
from localtune.prompt_blocks import cached_bytes, room
from localtune.saved import same_adapter
from localtune.targets import Targets, check_tokens, positions, targets
from localtune_torch import checkpoint, generation, loss, optimizer, packing, selfcheck
from localtune_torch.lora import adapter_tensors
from localtune_torch.memory import memory_or_error, peak_bytes

CPU = torch.device("cpu")


class TorchSession:
    """An opened model; `adapted` is peft's wrapper around `transformer`, or None without an adapter."""

    def __init__(
        self,
        files: ModelFiles,
        transformer: Any,
        adapted: Any,
        trainable: Trainable,
        lora: Lora | None,
        *,
        device: torch.device,
        precision: Precision,
        objective: Objective | None,
        optimizer_spec: OptimizerSpec | None,
        memory: MemorySpec,
        seed: int,
    ) -> None:
        self.transformer = transformer
        self.device = device
        self.closing = ExitStack()
        """What is undone when the session ends."""
        self._files, self._adapted, self._trainable, self._lora = files, adapted, trainable, lora
        self._bfloat16 = precision.compute == "bfloat16"
        self._room = room(files.config, cached_bytes(precision), memory.limit)
        self._objective, self._spec, self._memory, self._seed = objective, optimizer_spec, memory, seed
        self.trained = self._trained()
        self._optimizer = (
            optimizer.optimizer_of(optimizer_spec, self.trained.values(), device)
            if optimizer_spec and self.trained
            else None
        )
        self._head = loss.own_head(transformer)
        transformer.eval()
        with torch.no_grad(), self._computing():
            selfcheck.check_head(transformer, self._decode, self._head, device)
            self._packs = selfcheck.keeps_segments_apart(transformer, self._decode, device)

    # training

    def train_step(self, micro_batches: Sequence[Batch], *, step: int, lr: float) -> StepResult:
        """See `localtune.backend.Session`. Raises `ValueError` for an update without targets."""
        if self._objective is None or self._spec is None or self._optimizer is None:
            raise RuntimeError("this session was opened to answer: it has nothing that trains")
        started = time.perf_counter()
        denominator = denominator_of(self._objective, micro_batches)
        self.transformer.train()
        try:
            with memory_or_error(self.device, "training"):
                sums = [
                    self._backward(self._objective, batch, denominator, self._randomness(step, number))
                    for number, batch in enumerate(micro_batches)
                ]
                total = torch.stack(sums).double().sum()
                norm_on_device = optimizer.gradient_norm(self.trained.values())
                loss_sum, norm = torch.stack([total, norm_on_device.double()]).tolist()
                applied = math.isfinite(loss_sum) and math.isfinite(norm)
                if applied:
                    optimizer.update(self._optimizer, lr=lr, norm=norm, clip=self._spec.clip)
        finally:
            self._optimizer.zero_grad(set_to_none=True)
        seconds = time.perf_counter() - started
        return StepResult(loss_sum, denominator, norm, applied, peak_bytes(self.device), seconds)

    def _backward(
        self, objective: Objective, batch: Batch, denominator: float, randomness: AbstractContextManager[None]
    ) -> torch.Tensor:
        with randomness:
            total = self.objective_sum(objective, batch)
            if total.requires_grad:
                (total / denominator).backward()  # type: ignore[no-untyped-call]
        return total.detach()

    def objective_sum(self, objective: Objective, batch: Batch) -> torch.Tensor:
        """The objective's sum over `batch`, a scalar with its gradient."""
        where = targets(batch)
        with self._computing():
            hidden, ids = self._hidden_before(batch, where)
            logprobs = loss.target_logprobs(
                self._head, hidden, ids, self._memory.loss_chunk, trains=loss.head_trains(self.transformer)
            )
        total: torch.Tensor = objective.total(torch, packing.values(batch, where, logprobs))
        return total

    # answering

    def score(self, batch: Batch, *, adapter: bool = True) -> SegmentScores:
        """See `localtune.backend.Session`."""
        where = targets(batch)
        with self._answering(adapter, "scoring"):
            hidden, ids = self._hidden_before(batch, where)
            logprobs, hits = loss.judged(self._head, hidden, ids, self._memory.loss_chunk)
        return SegmentScores.of(batch, where, logprobs.cpu().numpy(), hits.cpu().numpy())

    def logits(self, tokens: Sequence[int], at: Sequence[int], *, adapter: bool = True) -> Floats:
        """See `localtune.backend.Session`."""
        row = np.asarray([tokens], np.int32)
        check_tokens(row, self._files.config.vocabulary)
        with self._answering(adapter, "computing logits"):
            ids = packing.tensor(row, self.device, torch.int64)
            hidden = self._decode(ids, torch.arange(len(tokens), device=self.device)[None])[0]
            logits = self._head(hidden[torch.as_tensor(list(at), dtype=torch.int64, device=self.device)])
            return logits.float().cpu().numpy()

    def generate(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling, *, adapter: bool = True
    ) -> Iterator[tuple[int, int]]:
        """See `localtune.backend.Session`."""
        for prompt in prompts:
            check_tokens(np.asarray(prompt, np.int32), self._files.config.vocabulary)

        def forward(tokens: torch.Tensor, mask: torch.Tensor, places: torch.Tensor, cache: Any) -> Any:
            with self._answering(adapter, "generating"):
                return self.transformer(
                    input_ids=tokens,
                    attention_mask=mask,
                    position_ids=places,
                    past_key_values=cache,
                    use_cache=True,
                    logits_to_keep=1,
                )

        yield from generation.generate(forward, self.device, prompts, sampling, self._room)

    # files

    def save(self, folder: Path, *, state: bool) -> None:
        """See `localtune.backend.Session` and `checkpoint`. A session in which nothing trains has nothing to save."""
        if self._lora is not None:
            checkpoint.save_adapter(folder, self._lora, adapter_tensors(self._adapted), self._files)
        elif not isinstance(self._trainable, Full):
            raise RuntimeError("nothing trains in this session, so there is nothing to save")
        elif state:
            checkpoint.save_weights(folder, self.trained)
        else:
            checkpoint.save_model(folder, self.transformer, self._files)
        if state and self._optimizer is not None:
            checkpoint.save_state(folder, self._optimizer, self.trained)

    def restore(self, folder: Path) -> None:
        """See `localtune.backend.Session`. Raises `InputError` for files of another adapter or model."""
        if self._lora is not None:
            same_adapter(self._lora, folder)
        self.load(folder)
        if self._optimizer is not None:
            checkpoint.load_state(folder, self._optimizer, self.trained)

    def load(self, folder: Path) -> None:
        """Read the weights of `folder` into what trains, or into the adapter of a session that answers."""
        checkpoint.load_weights(folder, adapter_tensors(self._adapted) if self._lora is not None else self.trained)
        self.transformer.train()  # peft drops what DoRA derived from the weights before

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.transformer = self._adapted = self._optimizer = self._head = None  # type: ignore[assignment]
        self.trained = {}
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self.closing.close()

    # the parts of a pass

    def _trained(self) -> dict[str, torch.nn.Parameter]:
        if isinstance(self._trainable, Lora):
            return adapter_tensors(self._adapted)
        return dict(self.transformer.named_parameters()) if isinstance(self._trainable, Full) else {}

    def _hidden_before(self, batch: Batch, where: Targets) -> tuple[torch.Tensor, torch.Tensor]:
        """Hidden states [N, H] at the positions before the targets, and the targets' ids [N]."""
        check_tokens(batch.tokens, self._files.config.vocabulary)
        if not self._packs and any(len(row) > 1 for row in batch.sources):
            what = f"packed examples would see each other in {type(self.transformer).__name__}"
            raise InputError(Problem("train.pack", what, fix="--set train.pack=false"))
        tokens = packing.tensor(batch.tokens, self.device, torch.int64)
        places = packing.tensor(positions(batch.segments), self.device, torch.int64)
        flat = where.rows * batch.tokens.shape[1] + where.columns
        index = packing.tensor(flat, self.device, torch.int64)
        hidden = self._decode(tokens, places)
        return hidden.reshape(-1, hidden.shape[-1])[index - 1], tokens.reshape(-1)[index]

    def _decode(self, tokens: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        output = self.transformer.base_model(
            input_ids=tokens, position_ids=places, attention_mask=None, use_cache=False
        )
        hidden: torch.Tensor = output.last_hidden_state
        return hidden

    def _computing(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, torch.bfloat16) if self._bfloat16 else nullcontext()

    @contextmanager
    def _answering(self, adapter: bool, doing: str) -> Iterator[None]:
        if not adapter and isinstance(self._trainable, Full):
            raise RuntimeError("the base weights no longer exist in a full fine-tune: open the base model instead")
        self.transformer.eval()
        with ExitStack() as stack:
            stack.enter_context(memory_or_error(self.device, doing))
            stack.enter_context(torch.no_grad())
            stack.enter_context(self._computing())
            if not adapter and self._adapted is not None:
                self._adapted.base_model.disable_adapter_layers()
                stack.callback(self._adapted.base_model.enable_adapter_layers)
            yield

    @contextmanager
    def _randomness(self, step: int, number: int) -> Iterator[None]:
        if self._lora is None or self._lora.dropout == 0:
            yield
            return
        key = hashlib.sha256(f"{self._seed}:{step}:{number}".encode()).digest()
        with torch.random.fork_rng([] if self.device == CPU else [self.device]):
            torch.manual_seed(int.from_bytes(key[:8], "little") >> 1)
            yield
