"""A fused model on the grid it trained on, gated: what training changed must survive, layer by layer.

Quantising again after fusing puts most weights back on the code they had where the change is small beside a step, and
the adapter is lost without a word (mlx-lm keeps a correlation of 0.10 with the intended change of 2.9 %). So each
adapted matrix is measured: the correlation of what is left, requantised fused minus base on the grid, with what was
intended. Below `GATE` the result is refused. Exact: codes and scales are those of `mx.quantize` and of bitsandbytes'
`quantize_4bit` (`model.quantisers`); NF4 is written with one float32 a block, where training may have stored that in 8
bits. Memory is that of `fuse`, and the codes' scales of one matrix.
"""

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from localtune import fuse
from localtune.adapter import Update
from localtune.change import Change
from localtune.durable import require_room, write_bytes
from localtune.errors import InputError, Problem
from localtune.fitting import read_adapter
from localtune.fuse import AdaptedWeight, copy_companions, refuse_unless_finite, row_blocks
from localtune.grids import Grid, grid_of
from localtune.model import ModelFiles
from localtune.model.config import CONFIG
from localtune.model.json_object import read_object
from localtune.model.plain import PlainWeights, plain_weights
from localtune.model.tensors import INDEX, INDEX_LIMIT, TensorInfo
from localtune.model.weights import Piece, Weights, write_shard
from localtune.threads import in_order

GATE = 0.95
"""Least correlation of the change that is left in a matrix with the one that was intended."""


@dataclass(frozen=True)
class Requantised:
    """What was done."""

    correlations: Mapping[str, float]
    """Of each adapted module."""
    size: int
    """Bytes of all tensors."""
    seconds: float


def requantise(model: ModelFiles, adapter: Path, folder: Path, storage: str, compute: str) -> Requantised:
    """Write `model` with the PEFT adapter in the folder `adapter` fused into it, on its grid, to the folder `folder`.

    `storage` and `compute` are those of the `Precision` it trained in. Raises what `fuse` raises, `InputError`
    (requantise.grid) where there is no such grid, and (requantise.lost) where a layer keeps too little of its change;
    what was written is then to be removed by the caller.
    """
    began = time.monotonic()
    base = plain_weights(model)
    lora, updates, weights = read_adapter(model, base.tensors, adapter)
    grid = grid_of(model, base.tensors, storage, compute)
    work = _Work(base, Weights(model), weights, lora.scale, updates, grid, on_grid=storage == "checkpoint")
    shards = {shard: [part for tensor in group for part in work.parts(tensor)]
              for shard, group in groupby(base.tensors, lambda tensor: tensor.shard)}  # fmt: skip
    written = [part for parts in shards.values() for part in parts]
    require_room(folder, sum(part.size for part in written))
    for shard, parts in shards.items():
        write_shard(folder / shard, parts, work.content)
    correlations = {module: change.correlation for module, change in work.changes.items()}
    _refuse_lost(model, correlations)
    copy_companions(model.folder, folder)
    _describe(model, written, grid, folder)
    return Requantised(correlations, sum(part.size for part in written), time.monotonic() - began)


class _Work:
    """The content of the new shards, and what of each module's change is left."""

    def __init__(
        self, base: PlainWeights, raw: Weights, adapter: Weights, scale: float, updates: Mapping[str, Update],
        grid: Grid, *, on_grid: bool,
    ) -> None:  # fmt: skip
        self.base, self.raw, self.adapter, self.scale, self.updates = base, raw, adapter, scale, updates
        self.grid, self.on_grid = grid, on_grid
        self.changes = {module: Change() for module in updates}
        self._whole: dict[str, TensorInfo] = {}
        """By the name of its codes, a weight that is quantised here."""
        self._beside: dict[str, npt.NDArray[Any]] = {}
        """Parts that were computed with the codes and are not written yet."""

    def parts(self, tensor: TensorInfo) -> tuple[TensorInfo, ...]:
        """The tensors that stand for a plain one."""
        adapted = tensor.name.removesuffix(".weight") in self.updates
        if self.grid.has(tensor) and (adapted or not self.on_grid):
            self._whole[tensor.name] = tensor
            return self.grid.parts(tensor)
        if self.base.is_packed(tensor.name):
            return tuple(replace(self.raw[name], shard=tensor.shard) for name in self.base.stored_as(tensor.name))
        if adapted:
            what = f"{tensor.name} has an adapter, but is not stored on the grid"
            raise InputError(Problem("requantise.grid", what, fix="localtune fuse without --requantize"))
        return (tensor,)

    def content(self, part: TensorInfo) -> Iterator[Piece]:
        """The pieces of a tensor as it is to be written."""
        if part.name in self._beside:
            yield self._beside.pop(part.name)
        elif part.name in self._whole:
            yield from self._quantised(self._whole[part.name])
        else:
            yield from self.raw.pieces(part.name)

    def _quantised(self, tensor: TensorInfo) -> Iterator[Piece]:
        module = tensor.name.removesuffix(".weight")
        weight = AdaptedWeight(self.base, tensor.name, self.adapter, self.updates.get(module), self.scale)
        beside: list[list[npt.NDArray[Any]]] = []
        blocks = row_blocks(tensor, fuse.AT_ONCE, self.grid.multiple(tensor))
        work = partial(_block, weight, tensor, self.grid, on_grid=self.on_grid)
        with closing(in_order(work, blocks)) as done:
            for content, change in done:
                refuse_unless_finite(change, tensor.name)
                codes, *others = content
                if module in self.changes:
                    self.changes[module].include(change)
                beside.append(others)
                yield codes
        whole = [np.concatenate(arrays) for arrays in zip(*beside, strict=True)] + self.grid.fixed(tensor)
        self._beside |= {part.name: array for part, array in zip(self.grid.parts(tensor)[1:], whole, strict=True)}


def _block(
    weight: AdaptedWeight, tensor: TensorInfo, grid: Grid, rows: range, *, on_grid: bool
) -> tuple[list[npt.NDArray[Any]], Change]:
    """Some rows on the grid, and what of their change is left there; nothing of rows that are not finite."""
    before, fused = weight.rows(rows.start, rows.stop)
    change = Change()
    if not np.isfinite(fused).all():
        return [], Change(intended=math.inf)
    content, values = grid.quantised(tensor, fused)
    if fused is not before:
        start = before if on_grid else grid.quantised(tensor, before)[1]
        change.add(before, fused - before, values - start)
    return content, change


def _refuse_lost(model: ModelFiles, correlations: Mapping[str, float]) -> None:
    lost = sorted((value, module) for module, value in correlations.items() if value < GATE)
    if lost:
        what = f"{len(lost)} of {len(correlations)} layers would keep too little of what training changed there: the "
        what += f"correlation of what is left with it must be {GATE} at least"
        evidence = "\n".join(f"{module}: {value:.2f}" for value, module in lost)
        fix = "localtune fuse without --requantize, localtune export --gguf Q8_0, or chat with base and adapter"
        raise InputError(Problem("requantise.lost", what, model.name, evidence, fix))


def _describe(model: ModelFiles, written: Sequence[TensorInfo], grid: Grid, folder: Path) -> None:
    """Let configuration and index say how the tensors are stored."""
    config = read_object(folder / CONFIG)
    grid.state(config)
    write_bytes(folder / CONFIG, f"{json.dumps(config, indent=2)}\n".encode())
    if (model.folder / INDEX).is_file():
        index: dict[str, Any] = read_object(model.folder / INDEX, INDEX_LIMIT)
        index["metadata"] = {"total_size": sum(tensor.size for tensor in written)}
        index["weight_map"] = {tensor.name: tensor.shard for tensor in written}
        write_bytes(folder / INDEX, f"{json.dumps(index, indent=2)}\n".encode())
