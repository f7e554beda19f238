"""What a run will be, decided before it starts: updates, precision, micro-batches, memory, disk.

Counts are exact: the rows are tokenised by then. Memory is the estimate of `memory.py`. What does not fit is a
`ResourceError` with settings that do.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from localtune import defaults
from localtune.adapter import TARGET_SETS, Full, Lora, Trainable
from localtune.backend import Device, MemorySpec, OptimizerSpec, Precision, Settings
from localtune.batch import Segment
from localtune.data.order import total_updates, updates_per_epoch
from localtune.data.prepared import Prepared
from localtune.data.segments import lengths, targets
from localtune.errors import Problem, ResourceError
from localtune.memory import Item, Load, largest, loss_chunk, memory_items, state_size, trained_shapes
from localtune.model import ModelFiles
from localtune.objectives import SFT
from localtune.outlay import exact_size, product_items, proof_seconds, writing_seconds
from localtune.schedule import Schedule, warmup_steps
from localtune.settings import Recipe
from localtune.sizes import readable

ROW_TOKENS = {"cpu": 2048, "cuda": 16384, "metal": 8192, "none": 2048}
"""Tokens of a micro-batch beyond which more rows bring no speed."""
LION_BETAS = (0.9, 0.99)
"""Chen et al. 2023."""


@dataclass(frozen=True)
class Plan:
    """Every decision and figure of a run."""

    schedule: Schedule
    epochs: float
    batch_size: int
    train_rows: int
    valid_rows: int
    test_rows: int
    tokens: int
    """Training tokens of one epoch."""
    learned: int
    """Targets of one epoch."""
    cut: int
    dropped: int
    rows: int
    """Packed rows per micro-batch."""
    row_tokens: int
    """Length of the longest row."""
    loss_chunk: int
    """Targets whose logits exist at once."""
    precision: Precision
    checkpointing: Literal["none", "blocks"]
    trainable: int
    """Weights that train."""
    parameters: int
    memory: tuple[Item, ...]
    memory_limit: int
    disk: int
    """Bytes the run folder needs at most."""
    device: Device
    products: tuple[Item, ...] = ()
    """What is made after training, as the recipe asks: the disk each takes."""
    writing_seconds: float = 0.0
    """To write the GGUF files, estimated."""
    proof_seconds: float = 0.0
    """What proving them costs, as estimated."""
    packed_width: int = 0
    """Tokens that rows are packed up to; a longer example has a row of its own. 0 = data.max_tokens."""

    @property
    def memory_needed(self) -> int:
        """Bytes at the peak, as estimated."""
        return sum(item.size for item in self.memory)

    @property
    def memory_measurable(self) -> int:
        """The part of the estimate that a run can measure: the counters of a GPU know of its arrays alone."""
        hidden = sum(item.size for item in self.memory if item.name == "libraries" and self.device.kind != "cpu")
        return self.memory_needed - hidden

    @property
    def fits(self) -> bool:
        """Whether the estimate is within the limit."""
        return self.memory_needed <= self.memory_limit

    def room(self, longest: int, max_tokens: int) -> int:
        """Tokens of a packed row at most, where the longest example has `longest`."""
        return min(max_tokens, max(longest, self.packed_width)) if self.packed_width else max_tokens

    def memory_spec(self) -> MemorySpec:
        """What the backend is told."""
        return MemorySpec(self.memory_limit, self.checkpointing, self.loss_chunk)

    def to_json(self) -> dict[str, Any]:
        """The content of plan.json."""
        return asdict(self) | {"memory_needed": self.memory_needed}


def from_json(value: dict[str, Any]) -> Plan:
    """The inverse of `Plan.to_json`."""
    value = {key: entry for key, entry in value.items() if key not in ("format", "memory_needed")}
    value["schedule"] = Schedule(**value["schedule"])
    value["precision"] = Precision(**value["precision"])
    for name in ("memory", "products"):
        value[name] = tuple(Item(**item) for item in value.get(name, ()))
    value["device"] = Device(**value["device"] | {"dtypes": tuple(value["device"]["dtypes"])})
    return Plan(**value)


def trainable_of(recipe: Recipe) -> Trainable:
    """What the recipe trains."""
    if recipe.train.method == "full":
        return Full()
    lora = recipe.lora
    targets = TARGET_SETS[lora.targets] if isinstance(lora.targets, str) else tuple(lora.targets)
    return Lora(lora.rank, lora.alpha, lora.dropout, targets, lora.dora, lora.rslora)


def optimizer_of(recipe: Recipe) -> OptimizerSpec:
    """How the recipe updates."""
    train = recipe.train
    spec = OptimizerSpec(train.optimizer, weight_decay=train.weight_decay, clip=train.clip)
    beta1, beta2 = LION_BETAS
    return replace(spec, beta1=beta1, beta2=beta2) if train.optimizer == "lion" else spec


def settings_of(recipe: Recipe, plan: Plan) -> Settings:
    """The part of the plan that a backend must be able to train exactly."""
    return Settings(
        trainable_of(recipe),
        plan.precision,
        SFT,
        optimizer_of(recipe),
        plan.memory_spec(),
        recipe.data.max_tokens,
        recipe.train.pack,
    )


def make_plan(recipe: Recipe, model: ModelFiles, prepared: Prepared, device: Device) -> Plan:
    """The plan with the most rows per micro-batch that fits, else the smallest one; `fits` tells which."""
    plans = _candidates(recipe, model, prepared, device)
    plan = next(plans)
    for candidate in plans:
        if plan.fits:
            break
        plan = candidate
    return plan


def check_fits(plan: Plan, recipe: Recipe, model: ModelFiles, prepared: Prepared, disk_free: int) -> None:
    """Raise `ResourceError` with numbers and settings that fit where memory or disk do not suffice."""
    if plan.disk > disk_free:
        what = f"needs {readable(plan.disk)} of disk, {readable(disk_free)} are free"
        fix = "free some space, or set LOCALTUNE_RUNS to a folder on another disk"
        raise ResourceError(Problem("disk.plan", what, fix=fix))
    if plan.fits:
        return
    big = largest(plan.memory)
    limit = f"{readable(plan.memory_limit)} may be used on {plan.device.name}"
    raise ResourceError(
        Problem(
            "memory.plan",
            f"needs {readable(plan.memory_needed)}, {limit}",
            evidence=f"largest: {big.name} {readable(big.size)} ({big.why})",
            fix=_fixes(plan, recipe, model, prepared) or "a smaller model with -m",
        )
    )


def _fixes(plan: Plan, recipe: Recipe, model: ModelFiles, prepared: Prepared) -> str:
    """Single settings that make it fit, each with the memory it then needs."""
    smaller = recipe.data.max_tokens // 2
    changes: list[tuple[str, Recipe]] = [
        (f"--set data.max_tokens={n}", _changed(recipe, data={"max_tokens": n})) for n in (smaller, smaller // 2)
    ]
    changes += [
        (f"--set train.{key}={value}", _changed(recipe, train={key: value}))
        for key, value in (("rows", 1), ("checkpointing", "blocks"), ("method", "lora"), ("method", "qlora"))
        if getattr(recipe.train, key) != value
    ]
    fixes = []
    for text, changed in changes:
        other = make_plan(changed, model, prepared, plan.device)
        if other.fits:
            fixes.append(f"{text} ({readable(other.memory_needed)})")
    return "   or   ".join(fixes[:3])


def _changed(recipe: Recipe, **sections: dict[str, Any]) -> Recipe:
    parts = {name: getattr(recipe, name).model_copy(update=values) for name, values in sections.items()}
    return recipe.model_copy(update=parts)


def _candidates(recipe: Recipe, model: ModelFiles, prepared: Prepared, device: Device) -> Iterator[Plan]:
    train = recipe.train
    row_tokens = _row_tokens(prepared.train, recipe, device)
    most = max(1, min(_rows_needed(prepared.train, recipe, row_tokens), ROW_TOKENS[device.kind] // row_tokens))
    rows = (
        [train.rows] if train.rows != "auto" else sorted({most, max(1, most // 2), max(1, most // 4), 1}, reverse=True)
    )
    for blocks in ("none", "blocks") if train.checkpointing == "auto" else (train.checkpointing,):
        for count in rows:
            yield _plan(
                recipe, model, prepared, device, Load(count, row_tokens, loss_chunk(model, device), blocks == "blocks")
            )


def _plan(recipe: Recipe, model: ModelFiles, prepared: Prepared, device: Device, load: Load) -> Plan:
    train, trainable, precision = recipe.train, trainable_of(recipe), defaults.precision(recipe, model, device)
    trained = trained_shapes(model, trainable)
    updates = total_updates(len(prepared.train), train.batch_size, epochs=train.epochs, steps=train.steps)
    made = tuple(product_items(model, trainable, recipe.export.gguf))
    return Plan(
        schedule=Schedule(train.schedule, defaults.learning_rate(recipe), updates, warmup_steps(train.warmup, updates)),
        epochs=updates / updates_per_epoch(len(prepared.train), train.batch_size),
        batch_size=train.batch_size,
        train_rows=len(prepared.train),
        valid_rows=len(prepared.valid),
        test_rows=len(prepared.test),
        tokens=int(lengths(prepared.train).sum()),
        learned=int(targets(prepared.train).sum()),
        cut=prepared.report.train.cut,
        dropped=prepared.report.losses[0].dropped,
        rows=load.rows,
        row_tokens=load.tokens,
        loss_chunk=load.loss_chunk,
        precision=precision,
        checkpointing="blocks" if load.checkpointing else "none",
        trainable=sum(map(math.prod, trained)),
        parameters=model.parameters,
        memory=tuple(memory_items(model, trainable, precision, device, load, train.optimizer)),
        memory_limit=defaults.memory_limit(recipe, device),
        disk=_disk(trained, train.optimizer, prepared)
        + sum(item.size for item in made)
        + exact_size(model, recipe.export.gguf),
        device=device,
        products=made,
        writing_seconds=writing_seconds(model, recipe.export.gguf),
        proof_seconds=proof_seconds(model, prepared, recipe.export.gguf),
        packed_width=defaults.packed_width(lengths(prepared.train), device),
    )


def _row_tokens(segments: Sequence[Segment], recipe: Recipe, device: Device) -> int:
    """Length of the longest row that an update can pack, rounded as batches are."""
    together = _longest_tokens(segments, recipe.train.batch_size if recipe.train.pack else 1)
    width = defaults.packed_width(lengths(segments), device) or recipe.data.max_tokens
    return -(-min(recipe.data.max_tokens, together, max(width, _longest_tokens(segments, 1))) // 8) * 8


def _rows_needed(segments: Sequence[Segment], recipe: Recipe, row_tokens: int) -> int:
    """Rows that an update can need at most: best-fit packing leaves all rows but one more than half full."""
    batch = recipe.train.batch_size
    if not recipe.train.pack:
        return batch
    return min(batch, 1 + 2 * _longest_tokens(segments, batch) // row_tokens)


def _longest_tokens(segments: Sequence[Segment], count: int) -> int:
    """Tokens of the `count` longest."""
    return int(np.sort(lengths(segments))[-count:].sum())


def _disk(trained: Sequence[tuple[int, ...]], optimizer: str, prepared: Prepared) -> int:
    """Four checkpoints (two, the best, one being written) of weights and state, the product, the tokens, 20 MB."""
    weights, state = 4 * sum(map(math.prod, trained)), state_size(trained, optimizer)
    tokens = int(lengths(prepared.train).sum() + lengths(prepared.valid).sum())
    return 4 * (weights + state) + weights + 8 * tokens + 20 * 10**6
