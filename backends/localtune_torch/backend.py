"""The PyTorch backend: NVIDIA cards through CUDA, and any processor. The other side of `localtune.backend.Backend`."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from localtune.adapter import Full, Lora, Trainable
from localtune.backend import Device, MemorySpec, OptimizerSpec, Precision, Refusal, Settings
from localtune.errors import InputError, Problem
from localtune.model import ModelFiles
from localtune.objectives import Objective
from localtune.saved import adapter_of
from localtune_torch import device, loading, lora, refusals
from localtune_torch.memory import memory_or_error, reset_peak, within
from localtune_torch.session import TorchSession


class TorchBackend:
    """transformers' models and peft's layers under our own loss, update and loop."""

    def probe(self) -> Device:
        """See `device.probe`."""
        return device.probe()

    def supports(self, model: ModelFiles, settings: Settings) -> list[Refusal]:
        """See `refusals`."""
        return refusals.refusals(model, settings)

    def open(
        self,
        model: ModelFiles,
        trainable: Trainable,
        start: Path | None,
        *,
        precision: Precision,
        objective: Objective | None,
        optimizer: OptimizerSpec | None,
        memory: MemorySpec,
        seed: int,
    ) -> TorchSession:
        """Load `model`; with `Nothing`, `start` is an adapter that only answers.

        On a card, `memory.limit` holds until the session ends. Raises `InputError` for weights or an adapter that do
        not fit, `ResourceError` when memory does not suffice.
        """
        where = device.compute_device()
        reset_peak(where)
        adapter = adapter_of(trainable, start)
        with ExitStack() as closing:
            closing.enter_context(within(where, memory.limit))
            with memory_or_error(where, "loading the model"), torch.random.fork_rng(_cards(where)):
                transformer = loading.load(model, precision, where)
                autocast = precision.compute != "float32"
                adapted = lora.attach(transformer, adapter, seed, autocast=autocast) if adapter else None
                transformer.requires_grad_(False)
                if isinstance(trainable, Full):
                    transformer.requires_grad_(True)
                elif isinstance(trainable, Lora):
                    for parameter in lora.adapter_tensors(adapted).values():
                        parameter.requires_grad_(True)
                if memory.checkpointing == "blocks":
                    _checkpoint_blocks(transformer)
                session = TorchSession(
                    model,
                    transformer,
                    adapted,
                    trainable,
                    adapter,
                    device=where,
                    precision=precision,
                    objective=objective,
                    optimizer_spec=optimizer,
                    memory=memory,
                    seed=seed,
                )
            if start is not None:
                session.load(start)
            session.closing = closing.pop_all()
        return session


def _cards(where: torch.device) -> list[torch.device]:
    return [where] if where.type == "cuda" else []


def _checkpoint_blocks(transformer: Any) -> None:
    from functools import partial

    from torch.utils.checkpoint import checkpoint as recompute
    from transformers.modeling_layers import GradientCheckpointingLayer

    blocks = [module for module in transformer.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not blocks:
        what = f"{type(transformer).__name__} has no blocks to recompute"
        raise InputError(Problem("train.checkpointing", what, fix="--set train.checkpointing=none"))
    for block in blocks:
        block.gradient_checkpointing = True
        block._gradient_checkpointing_func = partial(recompute, use_reentrant=False)
