"""The boundary between the core and what computes: two nouns, few verbs.

A `Backend` says what this machine can do and opens a `Session`: weights in memory, training or answering. Numpy goes
in, numpy and floats come out. Order, masks, packing, micro-batches, learning rate, cadence and stopping belong to the
core, so every backend sees the same batches; a backend that would train a different model says so in `supports`.

Sizes are bytes. Losses are sums in nats; the core divides once.
"""

import importlib
import platform
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol, Self

import numpy as np
import numpy.typing as npt

from localtune.adapter import Trainable
from localtune.batch import Batch, Floats
from localtune.errors import MachineError, Problem
from localtune.model import ModelFiles
from localtune.objectives import Objective
from localtune.targets import Targets
from localtune.typed import typed


@dataclass(frozen=True)
class Device:
    """What this machine offers to one backend."""

    backend: str
    kind: Literal["cpu", "cuda", "metal", "none"]
    name: str
    """Such as "NVIDIA RTX 4060" or "CPU (8 threads)"."""
    memory_limit: int
    """Bytes a run may use: free memory of the card, or what the system can give."""
    dtypes: tuple[str, ...]
    """Compute types, fastest first."""
    versions: dict[str, str]
    reason: str
    """Why this device was chosen, or why the backend is unusable (kind "none")."""


@dataclass(frozen=True)
class Refusal:
    """A setting that would train a different model here."""

    setting: str
    """Its key in a recipe, such as "train.quantize"."""
    reason: str
    fix: str = ""


Storage = Literal[
    "float32", "bfloat16", "float16", "nf4", "int8", "affine2", "affine3", "affine4", "affine6", "affine8",
    "mxfp4", "nvfp4", "mxfp8", "checkpoint",
]  # fmt: skip
"""How a base lies in memory.

affineN is MLX's affine mode: N bits, and a scale and a bias in the compute type for each group of 64 (of 32 where 64
does not divide the width). "checkpoint" is a base that is already quantised in its files, used as it is.
"""


@dataclass(frozen=True)
class Precision:
    """How the base is stored and in what type it computes. What trains is float32."""

    storage: Storage
    compute: Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class OptimizerSpec:
    """One update after global-norm clipping, with decoupled weight decay; the closed forms are those of T9.

    AdamW (Loshchilov & Hutter 2019) with bias correction, Adafactor (Shazeer & Stern 2018), Lion (Chen et al. 2023).
    """

    name: Literal["adamw", "adafactor", "lion"] = "adamw"
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    clip: float = 1.0
    """Largest gradient norm; 0 = no clipping."""


@dataclass(frozen=True)
class MemorySpec:
    """How the plan reaches the backend."""

    limit: int
    """Bytes; 0 = none set."""
    checkpointing: Literal["none", "blocks"] = "none"
    """Recompute each block in the backward pass instead of keeping its activations."""
    loss_chunk: int = 1024
    """Targets whose logits exist at once."""


@dataclass(frozen=True)
class Settings:
    """The part of a plan that decides what would be trained."""

    trainable: Trainable
    precision: Precision
    objective: Objective | None
    optimizer: OptimizerSpec | None
    memory: MemorySpec
    max_tokens: int
    packed: bool


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn, by the inverse CDF of one uniform keyed by (seed, row, position)."""

    stop: tuple[int, ...]
    """Token ids that end an answer; they are yielded."""
    max_tokens: int
    temperature: float = 0.0
    """0 = greedy."""
    top_p: float = 1.0
    seed: int = 0

    def uniform(self, row: int, position: int) -> float:
        """The number in [0, 1) that draws the token at `position` of the sequence of `row`, the same on every backend.

        Philox 4x64-10 (Salmon et al. 2011) with the seed as key and (row, position) as counter.
        """
        return float(np.random.Generator(np.random.Philox(key=self.seed, counter=[0, 0, row, position])).random())


@dataclass(frozen=True)
class StepResult:
    """One update."""

    loss: float
    """Sum over the targets."""
    weight: float
    """What the sum was divided by."""
    gradient_norm: float
    """Global L2 norm before clipping."""
    applied: bool
    """False: loss or gradient was not finite, and no weight changed."""
    peak_bytes: int
    seconds: float


@dataclass(frozen=True, eq=False)
class SegmentScores:
    """Scores of the S segments of a batch, in row-major order; float32 [S] each."""

    nll: Floats
    """Weighted sum of negative log-likelihoods, nats."""
    weight: Floats
    """Sum of the weights."""
    targets: Floats
    """Number of targets."""
    hits: Floats
    """Targets that were the most likely token."""

    @classmethod
    def of(cls, batch: Batch, where: Targets, logprobs: Floats, hits: npt.NDArray[np.bool_]) -> Self:
        """From the log-probability [N] of each target of `batch`, and whether it was the most likely token [N]."""
        weights = batch.weights[where.rows, where.columns].astype(np.float64)
        amounts = (-logprobs.astype(np.float64) * weights, weights, np.ones(len(weights)), hits)
        return cls(*(np.bincount(where.segments, a, minlength=batch.count).astype(np.float32) for a in amounts))


class Session(Protocol):
    """Weights in memory. A context manager; leaving it frees them."""

    def train_step(self, micro_batches: Sequence[Batch], *, step: int, lr: float) -> StepResult:
        """Exactly one update from the sum over `micro_batches`; randomness is keyed by (seed, step)."""
        ...

    def score(self, batch: Batch, *, adapter: bool = True) -> SegmentScores:
        """Log-likelihoods without a gradient; `adapter=False` is the base model in the same memory."""
        ...

    def logits(self, tokens: Sequence[int], at: Sequence[int], *, adapter: bool = True) -> Floats:
        """float32 [len(at), V]: what follows the positions `at` of one sequence."""
        ...

    def generate(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling, *, adapter: bool = True
    ) -> Iterator[tuple[int, int]]:
        """(row, token) as they are drawn, all prompts at once with a KV cache.

        What a row says does not depend on the other rows. A row ends after a stop token or `max_tokens`.
        """
        ...

    def save(self, folder: Path, *, state: bool) -> None:
        """Write the weights that train into the existing `folder`, with `state` the optimizer's too. No pickle."""
        ...

    def restore(self, folder: Path) -> None:
        """Continue from what `save(folder, state=True)` wrote."""
        ...

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Backend(Protocol):
    """One way to compute."""

    def probe(self) -> Device:
        """What this machine offers, or why the backend is unusable. Loads no model."""
        ...

    def supports(self, model: ModelFiles, settings: Settings) -> list[Refusal]:
        """Everything that would train a different model here than elsewhere; empty = nothing."""
        ...

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
    ) -> Session:
        """Load `model` and put `trainable` on it; `start` names a folder of initial weights (an adapter).

        `objective` and `optimizer` are None for a session that only answers. Raises `ResourceError` when memory does
        not suffice and `InputError` for weights that do not fit the configuration.
        """
        ...


BACKENDS = {"torch": "localtune_torch.backend:TorchBackend", "mlx": "localtune_mlx.backend:MlxBackend"}
"""Name -> module:class; a module is imported when it is named."""


def in_order() -> tuple[str, ...]:
    """The backends as "auto" tries them: MLX first on Apple silicon, PyTorch first elsewhere."""
    return ("mlx", "torch") if on_apple_silicon() else ("torch", "mlx")


def on_apple_silicon() -> bool:
    """Whether MLX computes on Metal here, and comes with localtune."""
    return sys.platform == "darwin" and platform.machine() == "arm64"


def installation(name: str) -> str:
    """The command that installs what the backend called `name` needs here, or in words that there is none."""
    if name != "mlx":
        return typed("pip", "install", f"localtune[{name}]")
    if on_apple_silicon():
        return "pip install mlx mlx-lm"
    if sys.platform == "linux":
        return typed("pip", "install", "localtune[mlx-cpu]")
    return "MLX is for Apple silicon and Linux: --backend torch"


def device_lost(device: str, doing: str, said: str) -> MachineError:
    """What to raise where a device ended our work: only another process may get it back."""
    first = said.strip().splitlines()[0] if said.strip() else ""
    fix = "localtune run --resume last   or, if it happens again, start the machine anew"
    return MachineError(Problem("device.lost", f"{device} was lost while {doing}", evidence=first, fix=fix))


def load_backend(name: str) -> Backend:
    """The backend called `name`. Raises `MachineError` naming what is missing and the command that installs it."""
    module, _, attribute = BACKENDS[name].partition(":")
    try:
        backend: Backend = getattr(importlib.import_module(module), attribute)()
    except ImportError as error:
        what = f"the {name} backend is not installed: {error}"
        raise MachineError(Problem("backend.missing", what, fix=installation(name))) from None
    return backend
