"""The MLX backend: Apple silicon through Metal, and any processor. The other side of `localtune.backend.Backend`."""

import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

from localtune.adapter import Full, Nothing, Trainable
from localtune.backend import Device, MemorySpec, OptimizerSpec, Precision, Refusal, Settings
from localtune.model import ModelFiles
from localtune.objectives import Objective
from localtune.saved import adapter_of
from localtune_mlx import device, loading, refusals
from localtune_mlx.lora import Adapter, Place
from localtune_mlx.memory import memory_or_error, reset_peak, within
from localtune_mlx.recompute import recompute_blocks
from localtune_mlx.session import MlxSession


class MlxBackend:
    """mlx-lm's models and MLX's quantised kernels under our own layers, loss, update and loop."""

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
    ) -> MlxSession:
        """Load `model`; with `Nothing`, `start` is an adapter that only answers.

        `memory.limit` holds until the session ends. Raises `InputError` for weights or an adapter that do not fit,
        `ResourceError` when memory does not suffice.
        """
        _without_a_compiler()
        reset_peak()
        lora = adapter_of(trainable, start)
        with ExitStack() as closing:
            closing.enter_context(within(memory.limit))
            with memory_or_error("loading the model"):
                loaded = loading.load(model, precision)
                adapter = Adapter(loaded, lora, seed) if lora else None
                places = adapter.places() if adapter else _all(loaded) if isinstance(trainable, Full) else {}
                if memory.checkpointing == "blocks":
                    recompute_blocks(loaded, places)
                session = MlxSession(
                    model,
                    loaded,
                    adapter,
                    trainable,
                    places,
                    precision=precision,
                    objective=objective,
                    optimizer_spec=None if isinstance(trainable, Nothing) else optimizer,
                    memory=memory,
                    seed=seed,
                )
            if start is not None:
                session.load(start)
            session.closing = closing.pop_all()
        return session


def _without_a_compiler() -> None:
    """On a processor MLX compiles with the system's C++ compiler; where there is none, it must not try."""
    if not device.on_gpu() and shutil.which("g++") is None:
        mx.disable_compile()


def _all(model: Any) -> dict[str, Place]:
    """Every weight by its name in the checkpoint."""
    found: dict[str, Place] = {}
    for name in dict(tree_flatten(model.parameters())):
        module, _, key = name.rpartition(".")
        found[name] = (loading.at(model, module), key)
    return found
